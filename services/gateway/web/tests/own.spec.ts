// When our own key in a call changes, and who gets it, by a clock that only the tests move.
import { expect, test } from "@playwright/test";
import { nextStep, type Step } from "../src/call/chain";
import { type Clock, OwnKeys, type Peer, type Refused } from "../src/call/own";

const peer = (name: string): Peer => ({ participant: name, user: "user of " + name, device: "device of " + name });
const pause = () => new Promise((done) => { setTimeout(done, 1); });
const settled = () => new Promise((done) => { setTimeout(done, 5); }); // what is under way without the clock

async function until(holds: () => boolean) {
  for (const end = Date.now() + 5000; !holds();) {
    if (Date.now() > end) throw new Error("it does not come to be");
    await pause();
  }
}

class Hands implements Clock {
  private at = 0;
  private timers: { due: number; work: () => void }[] = [];

  now = () => this.at;
  after = (milliseconds: number, work: () => void) => {
    const timer = { due: this.at + milliseconds, work };
    this.timers.push(timer);
    return () => { this.timers = this.timers.filter((each) => each !== timer); };
  };

  async move(milliseconds: number) {
    await settled();
    const until = this.at + milliseconds;
    for (;;) {
      const next = this.timers.filter(({ due }) => due <= until).sort((a, b) => a.due - b.due)[0];
      if (!next) break;
      this.at = next.due;
      this.timers = this.timers.filter((each) => each !== next);
      next.work();
      await settled();
    }
    this.at = until;
  }
}

function sender() {
  const hands = new Hands();
  const used: Step[] = [], told: { to: string[]; step: Step }[] = [];
  const line: { send: (to: Peer[], step: Step) => Promise<Refused[]> } = { send: () => Promise.resolve([]) };
  const keys = new OwnKeys({
    use: (step) => used.push(step),
    send: async (to, step) => {
      const refused = await line.send(to, step);
      told.push({ to: to.map(({ participant }) => participant).filter((name) => !refused.some(({ participant }) => participant === name)), step });
      return refused;
    },
  }, () => {}, hands);
  const has = (name: string) => told.filter(({ to }) => to.includes(name)).map(({ step }) => step);
  return { hands, used, told, line, keys, has };
}

test("whoever comes gets the next step, and the others make it themselves", async () => {
  const { used, keys, has } = sender();
  keys.begin([peer("a")]);
  await settled();
  expect(has("a")).toEqual([used[0]]);
  keys.are([peer("a"), peer("b"), peer("c")]);
  keys.are([peer("a"), peer("b"), peer("c")]);
  await settled();
  expect(used).toEqual([used[0], await nextStep(used[0]!)]);
  expect(has("a")).toHaveLength(1);
  for (const name of ["b", "c"]) expect(has(name)).toEqual([used[1]]);
});

test("when somebody leaves, another chain is sent to who is left, and used after half a second", async () => {
  const { hands, used, keys, has } = sender();
  keys.begin([peer("a"), peer("b")]);
  await settled();
  keys.are([peer("a")]);
  await hands.move(499);
  expect(used).toHaveLength(1);
  expect(has("a")).toHaveLength(2);
  await hands.move(1);
  expect(used).toEqual([used[0], has("a")[1]]);
  expect(used[1]!.chain).not.toBe(used[0]!.chain);
  expect(has("b")).toEqual([used[0]]);
});

test("it is used after two seconds even where it could not be sent, and sent as soon as it can be", async () => {
  const { hands, used, line, keys, has } = sender();
  keys.begin([peer("a"), peer("b")]);
  await settled();
  line.send = () => Promise.reject(new Error("no server"));
  keys.are([peer("a")]);
  await hands.move(1999);
  expect(used).toHaveLength(1);
  await hands.move(1);
  expect(used).toHaveLength(2);
  expect(has("a")).toHaveLength(1);
  line.send = () => Promise.resolve([]);
  await hands.move(5000);
  expect(has("a")).toEqual(used);
});

test("many who leave one after the other do not put it off", async () => {
  const { hands, used, keys, has } = sender();
  const names = ["a", "b", "c", "d", "e", "f"];
  keys.begin(names.map(peer));
  for (let left = 1; left < 6; left++) {
    keys.are(names.slice(0, 6 - left).map(peer));
    await hands.move(450);
  }
  expect(used).toHaveLength(2); // 2 s after the first left; the fifth left before that, too
  await hands.move(500);
  expect(has("b")).not.toContainEqual(used.at(-1));
  expect(has("a")).toContainEqual(used.at(-1));
});

test("who comes while another chain waits gets both; who leaves meanwhile gets none that is used later", async () => {
  const { hands, used, keys, has } = sender();
  keys.begin([peer("a"), peer("b")]);
  await settled();
  keys.are([peer("a")]);
  await hands.move(100);
  keys.are([peer("a"), peer("c")]);
  await hands.move(100);
  expect(has("c")).toHaveLength(2);
  expect(has("c")[0]).toEqual(used[1]);
  keys.are([peer("a")]);
  await hands.move(2000);
  expect(used.at(-1)!.chain).not.toBe(has("c")[1]!.chain);
  expect(has("a")).toContainEqual(used.at(-1));
});

test("a step that 16 divides is told to everybody", async () => {
  const { used, keys, has } = sender();
  const names = Array.from({ length: 34 }, (_, i) => `${i}`);
  for (let i = 0; i <= 33; i++) {
    if (i === 0) keys.begin([peer("0")]);
    else keys.are(names.slice(0, i + 1).map(peer));
    await until(() => has(`${i}`).length > 0);
  }
  expect(has("0").map(({ step }) => step)).toEqual([0, 16, 32]);
  expect(has("20").map(({ step }) => step)).toEqual([20, 32]);
  expect(used.at(-1)!.step).toBe(33);
});

test("after the last step comes another chain, of which the newcomer reads all and of the last one nothing", async () => {
  const { hands, used, keys, has } = sender();
  keys.begin([]);
  const names = Array.from({ length: 256 }, (_, i) => `${i}`);
  for (let i = 0; i < 256; i++) {
    keys.are(names.slice(0, i + 1).map(peer));
    await until(() => has(`${i}`).length > 0);
  }
  const last = used.findLast(({ step }) => step === 255);
  expect(last).toBeDefined();
  await hands.move(2000);
  const chain = used.at(-1)!.chain;
  expect(chain).not.toBe(last!.chain);
  expect(has("255").map((step) => step.chain)).toContain(chain);
  expect(Math.max(...used.map(({ step }) => step))).toBe(255);
});

test("whoever must not have it is named, and asked for again", async () => {
  const { used, line, keys, has } = sender();
  line.send = (to) => Promise.resolve(to.filter(({ participant }) => participant === "b").map(({ participant }) => ({ participant, why: "identity" })));
  keys.begin([peer("a"), peer("b")]);
  await settled();
  expect([...keys.refused]).toEqual([["b", "identity"]]);
  expect(has("b")).toEqual([]);
  line.send = () => Promise.resolve([]);
  keys.reconsider();
  await settled();
  expect([...keys.refused]).toEqual([]);
  expect(has("b")).toEqual(used);
});
