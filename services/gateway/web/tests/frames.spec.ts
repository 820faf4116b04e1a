// Frames of calls without a browser: those of another library's making (services/video/testdata), and what must not open.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@playwright/test";
import { frameKey, newChain, nextStep, type Step } from "../src/call/chain";
import { type Kind, Opener, sealed, Sealer } from "../src/call/frames";

interface Told { chain: number; step: number; key: string }
interface Vectors {
  keys: { key: string; next: string; fifth: string; frame: string }[];
  senders: { name: string; key: Told; counter: number; frames: { kind: Kind; clear: string; encrypted: string }[] }[];
  receivers: { name: string; events: { at: number; give?: Told; kind?: Kind; encrypted?: string; clear?: string }[] }[];
}
const vectors = JSON.parse(readFileSync(join(import.meta.dirname, "../../../video/testdata/frames.json"), "utf8")) as Vectors;

const bytes = (text: string, encoding: "hex" | "base64") => Uint8Array.from(Buffer.from(text, encoding));
const hex = (frame: Uint8Array) => Buffer.from(frame).toString("hex");
const text = (key: Uint8Array) => Buffer.from(key).toString("base64").replace(/=+$/, "");
const stepOf = ({ chain, step, key }: Told): Step => ({ chain, step, key: bytes(key, "base64") });
const voice = () => crypto.getRandomValues(new Uint8Array(60));

test("steps make the next ones, and the keys of frames", async () => {
  for (const { key, next, fifth, frame } of vectors.keys) {
    let step = stepOf({ chain: 1, step: 0, key });
    const clear = Uint8Array.of(9);
    const expected = await crypto.subtle.importKey("raw", bytes(frame, "hex"), "AES-GCM", false, ["encrypt"]);
    const [ours, theirs] = await Promise.all([await frameKey(step), expected].map((each) => sealed("audio", clear, { chain: 1, step: 0, key: each }, 0)));
    expect(hex(ours!)).toBe(hex(theirs!));
    step = await nextStep(step);
    expect(text(step.key)).toBe(next);
    for (let i = 0; i < 4; i++) step = await nextStep(step);
    expect([step.step, text(step.key)]).toEqual([5, fifth]);
  }
});

for (const { name, key, counter, frames } of vectors.senders) {
  test("a sender: " + name, async () => {
    const step = stepOf(key);
    const using = { ...step, key: await frameKey(step) };
    for (const [i, { kind, clear, encrypted }] of frames.entries()) expect(hex(await sealed(kind, bytes(clear, "hex"), using, counter + i))).toBe(encrypted);
  });
}

for (const { name, events } of vectors.receivers) {
  test("a receiver: " + name, async () => {
    const opener = new Opener();
    for (const [i, { at, give, kind, encrypted, clear }] of events.entries()) {
      if (give) opener.take("them", stepOf(give));
      if (!encrypted) continue;
      const opened = await opener.open(kind!, bytes(encrypted, "hex"), at);
      expect(typeof opened === "string" ? opened : hex(opened.frame), `event ${i} at ${at}`).toEqual(clear ?? expect.stringMatching(/^(no key|seen|damaged)$/));
    }
  });
}

test("a sender without a key says nothing, and no counter comes twice under a chain", async () => {
  const sealer = new Sealer(), first = newChain(), second = newChain();
  expect(await sealer.seal("audio", voice())).toBeNull();
  const counters: string[] = [];
  for (const step of [first, await nextStep(first), second, first]) {
    await sealer.use(step);
    const made = await Promise.all([voice(), voice()].map((frame) => sealer.seal("audio", frame)));
    counters.push(...made.map((frame) => hex(frame!.subarray(-11, -1))));
  }
  expect(new Set(counters).size).toBe(counters.length);
});

test("a frame opens as its sender's, and as nobody else's", async () => {
  const opener = new Opener(), sealer = new Sealer(), linh = newChain(), mai = { ...newChain(), chain: linh.chain };
  opener.take("mai", mai); // who took the number of another one's chain
  opener.take("linh", linh);
  await sealer.use(linh);
  const frame = voice();
  const made = (await sealer.seal("audio", frame))!;
  expect(await opener.open("video", made, 0)).toBe("damaged");
  expect(await opener.open("audio", made, 0)).toEqual({ frame, owner: "linh" });
  expect(await opener.open("audio", made, 0)).toBe("seen");
  opener.forget("linh");
  expect(await opener.open("audio", (await sealer.seal("audio", frame))!, 0)).toBe("damaged");
  opener.forget("mai");
  expect(await opener.open("audio", (await sealer.seal("audio", frame))!, 0)).toBe("no key");
});
