// The page's side of the worker that seals and opens frames. Only the worker touches them.
import type { Id } from "../protocol";
import { worker as start } from "../page/scripts";
import type { Step } from "./chain";
import type { Kind } from "./frames";
import workerURL from "./worker.ts?worker&url";
import type { Count, Options, Order, Word } from "./worker";

export interface CipherHooks {
  owner: (slot: string, owner: Id) => void; // another's key opens the slot's frames now: show() lets them through
  counts: (counts: Record<string, Count>) => void;
}

export class Cipher {
  private readonly worker = start(workerURL, "frames");

  // Without it a browser cannot encrypt what it sends, and then nothing is sent.
  static get possible() { return "RTCRtpScriptTransform" in window; }

  constructor(on: CipherHooks) {
    this.worker.onmessage = ({ data }: MessageEvent<Word>) => {
      if (data.word === "owner") on.owner(data.slot, data.owner);
      else on.counts(data.counts);
    };
  }

  private tell(order: Order) { this.worker.postMessage(order); }
  private transform(options: Options) { return new RTCRtpScriptTransform(this.worker, options); }

  seal(sender: RTCRtpSender, kind: Kind) { sender.transform = this.transform({ side: "up", kind }); }
  open(receiver: RTCRtpReceiver, kind: Kind, slot: string) { receiver.transform = this.transform({ side: "down", kind, slot }); }

  use(step: Step) { this.tell({ order: "use", step }); }
  take(owner: Id, step: Step) { this.tell({ order: "take", owner, step }); }
  forget(owner: Id) { this.tell({ order: "forget", owner }); }
  show(slot: string, owner: Id) { this.tell({ order: "show", slot, owner }); }
  close(slot: string) { this.tell({ order: "close", slot }); }
  end() { this.worker.terminate(); }
}
