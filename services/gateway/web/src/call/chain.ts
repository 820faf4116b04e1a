// The keys of frames (services/video/PROTOCOL.md, "Encryption"): a sender's chain, of which each step makes the next and the
// key of the frames, and what a receiver keeps of it.
export type Bytes = Uint8Array<ArrayBuffer>;

// One step of a chain, as devices tell each other.
export interface Step { chain: number; step: number; key: Bytes }

export const lastStep = 255;
const stepsAhead = 16;
const replayWindow = 4096;
export const keptFor = 10_000; // milliseconds for which what was passed still opens frames that come late

async function derive(key: Bytes, info: string, length: number): Promise<Bytes> {
  const secret = await crypto.subtle.importKey("raw", key, "HKDF", false, ["deriveBits"]);
  const algorithm = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(0), info: new TextEncoder().encode(info) };
  return new Uint8Array(await crypto.subtle.deriveBits(algorithm, secret, length * 8));
}

export function newChain(): Step {
  const [chain] = crypto.getRandomValues(new Uint32Array(1));
  return { chain: chain!, step: 0, key: crypto.getRandomValues(new Uint8Array(32)) };
}

export async function nextStep({ chain, step, key }: Step): Promise<Step> {
  return { chain, step: step + 1, key: await derive(key, "secureconnect call step", 32) };
}

export async function frameKey({ key }: Step): Promise<CryptoKey> {
  return crypto.subtle.importKey("raw", await derive(key, "secureconnect call frame", 16), "AES-GCM", false, ["encrypt", "decrypt"]);
}

// Which counters of a chain were seen, as far back as a frame may come late.
class Window {
  private newest = -1;
  private readonly seen = new Uint8Array(replayWindow + 1);

  private place(counter: number) { return counter % this.seen.length; }

  fresh(counter: number): boolean {
    if (counter > this.newest) return true;
    return this.newest - counter <= replayWindow && this.seen[this.place(counter)] === 0;
  }

  mark(counter: number) {
    if (counter - this.newest > replayWindow) this.seen.fill(0);
    else for (let passed = this.newest + 1; passed < counter; passed++) this.seen[this.place(passed)] = 0;
    this.newest = Math.max(this.newest, counter);
    this.seen[this.place(counter)] = 1;
  }
}

// A chain of somebody else's. Only a frame that opens moves it on: what a trailer claims is anybody's word.
export class Chain {
  readonly window = new Window();
  passed = Infinity; // when its owner was seen to use a later one
  private readonly keys = new Map<number, { key: Promise<CryptoKey>; passed: number }>(); // by step
  private current: number; // the newest step that opened a frame
  private farthest: Promise<Step>;
  private reach: number; // the step that farthest will be

  constructor(first: Step) {
    this.current = this.reach = first.step;
    this.farthest = Promise.resolve(first);
    this.keep(first.step);
  }

  private keep(step: number) { this.keys.set(step, { key: this.farthest.then(frameKey), passed: Infinity }); }

  // A step further on that its owner has told us; earlier ones are not gone back to.
  take(told: Step) {
    if (told.step <= this.reach) return;
    this.reach = told.step;
    this.farthest = Promise.resolve(told);
    this.keep(told.step);
  }

  // The key of a step, if there can be one.
  key(step: number, now: number): Promise<CryptoKey> | undefined {
    if (step > Math.max(this.current + stepsAhead, this.reach) || now - this.passed > keptFor) return undefined;
    while (this.reach < step) {
      this.farthest = this.farthest.then(nextStep);
      this.keep(++this.reach);
    }
    const kept = this.keys.get(step);
    return kept && now - kept.passed <= keptFor ? kept.key : undefined;
  }

  opened(step: number, counter: number, now: number) {
    this.window.mark(counter);
    this.current = Math.max(this.current, step);
    for (const [each, kept] of this.keys) {
      if (each < step) kept.passed = Math.min(kept.passed, now);
      if (now - kept.passed > keptFor) this.keys.delete(each);
    }
  }
}
