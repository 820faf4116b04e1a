// Every frame of a call goes through here: out sealed, in opened, and what cannot be either is dropped. Noise is all that a
// decoder would make of it.
import type { Step } from "./chain";
import { type Kind, Opener, Sealer } from "./frames";

export type Options = { side: "up"; kind: Kind } | { side: "down"; kind: Kind; slot: string };

export type Order =
  | { order: "use"; step: Step } // for our own frames, from now on
  | { order: "take"; owner: string; step: Step }
  | { order: "forget"; owner: string }
  | { order: "show"; slot: string; owner: string } // the page is ready for this owner's pictures in the slot
  | { order: "close"; slot: string };

// What became of a slot's frames since the last report.
export interface Count { owner: string; opened: number; missing: number; damaged: number }

export type Word = { word: "owner"; slot: string; owner: string } | { word: "counts"; counts: Record<string, Count> };

const reportEvery = 500;
const askEvery = 1000;

const sealer = new Sealer();
const opener = new Opener();
const slots = new Map<string, SlotFrames>();
let using = Promise.resolve();

const say = (word: Word) => self.postMessage(word);

// What comes in at one place of the connection down.
class SlotFrames {
  private count: Count = { owner: "", opened: 0, missing: 0, damaged: 0 };
  private shown = "";
  private show: ((owner: string) => void) | null = null;
  private wantsKeyFrame = false;
  private asked = 0;

  constructor(private readonly name: string, private readonly kind: Kind, private readonly transformer: RTCRtpScriptTransformer) {}

  async take(frame: RTCEncodedVideoFrame | RTCEncodedAudioFrame, pass: (frame: RTCEncodedVideoFrame | RTCEncodedAudioFrame) => void) {
    const opened = await opener.open(this.kind, new Uint8Array(frame.data), Date.now());
    if (typeof opened === "string") return this.drop(opened);
    this.count.opened++;
    if (opened.owner !== this.count.owner) await this.changeHands(opened.owner);
    frame.data = opened.frame.buffer;
    this.wantsKeyFrame = false;
    pass(frame);
  }

  // A picture waits until the page has taken the last owner's away: it must not be seen at another's place for a moment.
  private async changeHands(owner: string) {
    this.count.owner = owner;
    const ready = new Promise<void>((done) => { this.show = (shown) => { if (shown === owner) done(); }; });
    say({ word: "owner", slot: this.name, owner });
    if (this.kind === "video" && this.shown !== owner) await ready;
  }

  shownTo(owner: string) {
    this.shown = owner;
    this.show?.(owner);
  }

  private drop(why: "no key" | "seen" | "damaged") {
    if (why === "no key") this.count.missing++;
    if (why === "damaged") this.count.damaged++;
    if (why !== "seen") this.wantsKeyFrame = true;
  }

  // A key came late: the pictures that it would open have passed.
  askForKeyFrame() {
    const now = Date.now();
    if (this.kind !== "video" || !this.wantsKeyFrame || now - this.asked < askEvery) return;
    this.asked = now;
    this.transformer.sendKeyFrameRequest().catch(() => {});
  }

  report(): Count | null {
    const { owner, opened, missing, damaged } = this.count;
    if (opened + missing + damaged === 0) return null;
    this.count = { owner, opened: 0, missing: 0, damaged: 0 };
    return { owner, opened, missing, damaged };
  }
}

self.onmessage = ({ data }: MessageEvent<Order>) => {
  switch (data.order) {
    case "use":
      using = using.then(() => sealer.use(data.step));
      return;
    case "take":
      opener.take(data.owner, data.step);
      for (const slot of slots.values()) slot.askForKeyFrame();
      return;
    case "forget": return opener.forget(data.owner);
    case "show": return slots.get(data.slot)?.shownTo(data.owner);
    case "close":
      slots.get(data.slot)?.shownTo("");
      slots.delete(data.slot);
  }
};

self.onrtctransform = ({ transformer }) => {
  const options = transformer.options as Options;
  const work = options.side === "up" ? sealing(options.kind) : opening(options, transformer);
  void transformer.readable.pipeThrough(new TransformStream(work)).pipeTo(transformer.writable).catch(() => {}); // the connection was closed
};

type Frame = RTCEncodedVideoFrame | RTCEncodedAudioFrame;

const sealing = (kind: Kind): Transformer<Frame, Frame> => ({
  async transform(frame, controller) {
    const made = await sealer.seal(kind, new Uint8Array(frame.data));
    if (!made) return;
    frame.data = made.buffer;
    controller.enqueue(frame);
  },
});

function opening({ kind, slot }: Extract<Options, { side: "down" }>, transformer: RTCRtpScriptTransformer): Transformer<Frame, Frame> {
  const frames = new SlotFrames(slot, kind, transformer);
  slots.set(slot, frames);
  return { transform: (frame, controller) => frames.take(frame, (each) => controller.enqueue(each)) };
}

setInterval(() => {
  const counts: Record<string, Count> = {};
  for (const [name, slot] of slots) {
    const count = slot.report();
    if (count) counts[name] = count;
  }
  if (Object.keys(counts).length > 0) say({ word: "counts", counts });
}, reportEvery);
