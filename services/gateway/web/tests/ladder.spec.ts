// What is done about a connection, and said about it, by what was seen of it.
import { expect, test } from "@playwright/test";
import { Leg, type Seen } from "../src/call/leg";
import { diagnose, type Facts } from "../src/call/trouble";

const flowing: Seen = { bytes: 0, answers: 0, state: "connected", patience: 1500 };

// A leg that is seen every 400 ms, and the time at which it wants something else than to wait.
function watched(seen: (now: number) => Partial<Seen>) {
  const leg = new Leg(0), steps: [number, string][] = [];
  for (let now = 0; now <= 16_000; now += 400) {
    leg.see({ ...flowing, ...seen(now) }, now);
    const step = leg.judge(now);
    if (step === "wait") continue;
    steps.push([now, step]);
    if (step === "rejoin") break;
    leg.restart(now);
  }
  return steps;
}

test("a connection that carries what it should is left alone, and so is one that has nothing to carry", () => {
  expect(watched((now) => ({ bytes: now }))).toEqual([]);
  expect(watched(() => ({ patience: 0 }))).toEqual([]);
});

test("one that is not made within 8 s is made anew", () => {
  expect(watched(() => ({ state: "new" }))).toEqual([[8400, "rejoin"]]);
  expect(watched((now) => ({ state: now < 8000 ? "checking" : "connected", bytes: now }))).toEqual([]);
});

test("silence of 1.5 s where media is expected restarts it, and a restart that brings nothing within 5 s ends it", () => {
  expect(watched((now) => ({ bytes: Math.min(now, 4000) }))).toEqual([[5600, "restart"], [10_800, "rejoin"]]);
  expect(watched((now) => ({ bytes: now > 4000 && now < 7000 ? 4000 : now }))).toEqual([[5600, "restart"]]);
});

test("a restart is not repeated where the line works and nobody sends", () => {
  expect(watched((now) => ({ bytes: Math.min(now, 4000), answers: now }))).toEqual([[5600, "restart"]]);
});

test("what is disconnected is restarted at once", () => {
  expect(watched((now) => ({ bytes: now < 4000 ? now : 4000, state: now < 4400 ? "connected" : now < 5000 ? "disconnected" : "connected", answers: now })).at(0)).toEqual([4400, "restart"]);
});

test("a restart that may not have been heard is done again", () => {
  const leg = new Leg(0);
  for (let now = 0; now <= 4000; now += 400) leg.see({ ...flowing, bytes: Math.min(now, 400) }, now);
  expect(leg.judge(4000)).toBe("restart");
  leg.restart(4000);
  expect(leg.judge(4400)).toBe("wait");
  leg.again();
  expect(leg.judge(4800)).toBe("restart");
});

test("what is wrong is named by what was seen", () => {
  const relay = { answered: [], refused: false, full: false, silent: [], connected: false };
  const good = { ...relay, answered: ["udp" as const], connected: true };
  const facts: Facts = { serverAway: 0, waiting: 5000, connections: [good, good] };
  const cases: [Partial<Facts>, string | null][] = [
    [{ waiting: 0 }, null],
    [{ connections: [relay, relay], waiting: 3000 }, null],
    [{ connections: [relay, relay], serverAway: 5000 }, "server"],
    [{ connections: [relay, relay] }, "relay"],
    [{ connections: [{ ...relay, silent: ["udp", "tcp", "tls"] }, relay] }, "relay"],
    [{ connections: [{ ...relay, refused: true, silent: ["tls"] }, relay] }, "credentials"],
    [{ connections: [{ ...relay, full: true }, relay] }, "full"],
    [{ connections: [good, { ...relay, answered: ["tcp"] }] }, "media"],
    [{}, null],
  ];
  for (const [seen, trouble] of cases) expect(diagnose({ ...facts, ...seen }), JSON.stringify(seen)).toBe(trouble);
});
