// Whose picture is shown where, whatever the server says.
import { expect, test } from "@playwright/test";
import type { Place } from "../src/call/down";
import { pictureOf, Room } from "../src/call/room";
import type { WireParticipant } from "../src/call/wire";

const participant = (name: string, muted = false): WireParticipant => ({
  id: name, user_id: "user " + name, device_id: "device " + name, joined_at: "2026-01-01T00:00:00Z", here: true,
  tracks: [{ id: "camera of " + name, mid: "1", source: "camera", muted }, { id: "voice of " + name, mid: "0", source: "microphone", muted: false }],
});
const place = (carries: string, owner: string): Place => ({ name: "1/" + carries, mid: "1", kind: "video", track: { carries } as unknown as MediaStreamTrack, carries, owner });

function room(...names: string[]) {
  const forgotten: string[] = [];
  const made = new Room("user us", (id) => forgotten.push(id));
  made.me = "us";
  made.are(["us", ...names].map((name) => participant(name)), true, 0);
  return { room: made, forgotten };
}

test("a picture is shown at whoever's key opened it, if that is whom the server names", () => {
  const { room: r } = room("linh", "mai");
  const shown = (carries: string, owner: string) => [...r.pictures([place(carries, owner)]).keys()];
  expect(shown("camera of linh", "linh")).toEqual([pictureOf("user linh", "camera")]);
  expect(shown("camera of linh", "mai")).toEqual([]);
  expect(shown("camera of linh", "")).toEqual([]);
  expect(shown("camera of nobody", "linh")).toEqual([]);
  r.take(participant("linh", true));
  expect(shown("camera of linh", "linh")).toEqual([]);
});

test("who speaks is believed of those whose voice was opened a moment ago", () => {
  const { room: r } = room("linh", "mai");
  const voice: Place = { ...place("voice of linh", ""), name: "voice", kind: "audio" };
  r.speak(["linh", "mai", "us"]);
  expect(r.loudest(0)).toEqual(["user us"]);
  r.count([voice], { voice: { owner: "linh", opened: 9, missing: 0, damaged: 0 } }, 1000);
  expect(r.loudest(2000)).toEqual(["user linh", "user us"]);
  expect(r.loudest(3000)).toEqual(["user us"]);
});

test("whose key does not come is named, and no longer when it has", () => {
  const { room: r } = room("linh");
  const hidden = (now: number) => r.members(new Map(), now)[0]!.hidden;
  const count = (opened: number, missing: number, now: number) => r.count([place("camera of linh", "")], { "1/camera of linh": { owner: opened ? "linh" : "", opened, missing, damaged: 0 } }, now);
  count(0, 5, 1000);
  expect([hidden(2000), hidden(3500)]).toEqual(["", "key"]);
  count(3, 0, 4000);
  expect(hidden(9000)).toBe("");
  expect(r.members(new Map([["linh", "identity"]]), 9000)[0]!.hidden).toBe("identity");
});

test("who was there keeps a place while all join anew, and is forgotten when they do not come", () => {
  const { room: r, forgotten } = room("linh", "mai");
  r.are([participant("us"), { ...participant("linh"), id: "linh again" }], true, 1000);
  const members = (now: number) => r.members(new Map(), now).map(({ participant: id, here }) => [id, here]);
  expect(members(2000)).toEqual([["linh again", true], ["mai", false]]);
  expect([...r.pictures([place("camera of mai", "mai")]).keys()]).toEqual([pictureOf("user mai", "camera")]);
  expect(members(14_000)).toEqual([["linh again", true]]);
  expect(forgotten.toSorted()).toEqual(["linh", "mai"]);
  r.are([participant("us")], false, 15_000);
  expect(members(15_000)).toEqual([]);
  expect(forgotten).toContain("linh again");
});

test("nothing is expected of who is away, is off, or has no connection", () => {
  const { room: r } = room("linh");
  const expected = () => r.expects(place("camera of linh", "linh"));
  expect(expected()).toBe(true);
  r.rate({ linh: "lost" });
  expect(expected()).toBe(false);
  r.rate({ linh: "good" });
  r.take({ ...participant("linh"), here: false });
  expect(expected()).toBe(false);
  r.take(participant("linh", true));
  expect(expected()).toBe(false);
});
