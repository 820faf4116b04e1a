// Frames as they are sent: clear ‖ ciphertext and tag ‖ counter (6 bytes) ‖ chain (4) ‖ step (1).
import { type Bytes, Chain, frameKey, keptFor, type Step } from "./chain";

export type Kind = "audio" | "video";

const trailer = 11;
const tag = 16;
const chainsKept = 16;
const lastCounter = 2 ** 48 - 1;

// What the SFU must see of a frame: of VP8 whether it is a key frame, and then its size (RFC 6386 §9.1).
function clearBytes(kind: Kind, frame: Bytes): number {
  if (kind === "audio") return 0;
  return ((frame[0] ?? 1) & 1) === 0 ? 10 : 1;
}

function parameters(kind: Kind, counter: number, clear: Bytes) {
  const iv = new Uint8Array(12);
  const view = new DataView(iv.buffer);
  view.setUint16(6, Math.floor(counter / 2 ** 32));
  view.setUint32(8, counter % 2 ** 32);
  const additionalData = new Uint8Array(1 + clear.length);
  additionalData[0] = kind === "video" ? 1 : 0;
  additionalData.set(clear, 1);
  return { name: "AES-GCM", iv, additionalData, tagLength: tag * 8 };
}

interface Using { chain: number; step: number; key: CryptoKey }

export async function sealed(kind: Kind, frame: Bytes, { chain, step, key }: Using, counter: number): Promise<Bytes> {
  const clear = frame.subarray(0, clearBytes(kind, frame));
  const secret = new Uint8Array(await crypto.subtle.encrypt(parameters(kind, counter, clear), key, frame.subarray(clear.length)));
  const out = new Uint8Array(clear.length + secret.length + trailer);
  out.set(clear);
  out.set(secret, clear.length);
  const view = new DataView(out.buffer, clear.length + secret.length);
  view.setUint16(0, Math.floor(counter / 2 ** 32));
  view.setUint32(2, counter % 2 ** 32);
  view.setUint32(6, chain);
  view.setUint8(10, step);
  return out;
}

// Our own frames. The counter goes up by one with every frame, so no IV comes twice under a chain.
export class Sealer {
  private using: Using | null = null;
  private readonly counters = new Map<number, number>(); // by chain: one that is gone back to goes on

  async use(step: Step) {
    this.using = { chain: step.chain, step: step.step, key: await frameKey(step) };
  }

  // The sealed frame; null without a key, since nothing goes out in clear.
  async seal(kind: Kind, frame: Bytes): Promise<Bytes | null> {
    const { using } = this;
    if (!using) return null;
    const counter = this.counters.get(using.chain) ?? 0;
    if (counter > lastCounter) return null;
    this.counters.set(using.chain, counter + 1);
    return sealed(kind, frame, using, counter);
  }
}

export type Opened = { frame: Bytes; owner: string };
export type Unopened = "no key" | "seen" | "damaged";

// Everybody else's frames, by whose key opens them.
export class Opener {
  private readonly owners = new Map<string, Map<number, Chain>>(); // the chains of each, the latest told last

  take(owner: string, told: Step) {
    const chains = this.owners.get(owner) ?? new Map<number, Chain>();
    this.owners.set(owner, chains);
    const known = chains.get(told.chain);
    if (known) return known.take(told);
    chains.set(told.chain, new Chain(told));
    if (chains.size > chainsKept) chains.delete(chains.keys().next().value!);
  }

  forget(owner: string) { this.owners.delete(owner); }

  async open(kind: Kind, sealed: Bytes, now: number): Promise<Opened | Unopened> {
    const end = sealed.length - trailer;
    const length = clearBytes(kind, sealed);
    if (end < length + tag) return "damaged";
    const view = new DataView(sealed.buffer, sealed.byteOffset + end, trailer);
    const counter = view.getUint16(0) * 2 ** 32 + view.getUint32(2), number = view.getUint32(6), step = view.getUint8(10);
    const clear = sealed.subarray(0, length);
    let why: Unopened = "no key";
    for (const [owner, chains] of this.owners) {
      const chain = chains.get(number);
      const key = await chain?.key(step, now);
      if (!chain || !key) continue;
      if (!chain.window.fresh(counter)) { why = "seen"; continue; }
      const opened = await crypto.subtle.decrypt(parameters(kind, counter, clear), key, sealed.subarray(length, end)).catch(() => null);
      if (!opened) { why = "damaged"; continue; }
      if (!chain.window.fresh(counter)) return "seen"; // another copy was faster
      chain.opened(step, counter, now);
      this.pass(chains, number, now);
      const frame = new Uint8Array(length + opened.byteLength);
      frame.set(clear);
      frame.set(new Uint8Array(opened), length);
      return { frame, owner };
    }
    return why;
  }

  // The chains told before the one in use were used before it: they end soon.
  private pass(chains: Map<number, Chain>, using: number, now: number) {
    for (const [number, chain] of chains) {
      if (number === using) return;
      chain.passed = Math.min(chain.passed, now);
      if (now - chain.passed > keptFor) chains.delete(number);
    }
  }
}
