// Comparing emoji (SAS) with one's own other device, or with a person. One at a time.
import { type Emoji, Sas, UserId, VerificationMethod, type VerificationRequest } from "@matrix-org/matrix-sdk-crypto-wasm";
import type { Id, Verification } from "../protocol";
import type { Keys } from "./crypto";
import { idOf, userName } from "./names";
import { Problem } from "./session";

const methods = () => [VerificationMethod.SasV1];

export class Verifying {
  private request: VerificationRequest | null = null;
  private others: VerificationRequest[] = []; // asked at the same time on other devices
  private sas: Sas | null = null;
  private confirmed = false;
  private starting = false;

  constructor(private readonly keys: Keys, private readonly emit: (state: Verification | null) => void, private readonly done: () => Promise<void>) {}

  // Asks every signed device of a person; the first that answers is the one.
  async start(user: Id) {
    this.end();
    await this.keys.track([user]);
    const devices = (await this.keys.devices(user)).filter((device) => device.deviceId.toString() !== this.keys.me.deviceId && device.isCrossSignedByOwner());
    if (devices.length === 0) throw new Problem(400, "no_device_to_verify");
    const asked: VerificationRequest[] = [];
    for (const device of devices) {
      const [request, message] = device.requestVerification(methods());
      asked.push(request);
      await this.keys.post([message]);
    }
    this.others = asked;
    for (const request of asked) this.watch(request);
    this.request = asked[0]!;
    this.show();
  }

  // An event of a verification has come in and the machine has taken it.
  async arrived(event: { sender: string; type: string; content: any }) {
    const flow = event.content.transaction_id;
    if (event.type === "m.key.verification.request") {
      const request = this.keys.machine.getVerificationRequest(new UserId(event.sender), flow);
      if (!request || (this.request && !this.over())) return;
      this.clear();
      this.request = request;
      this.watch(request);
    }
    await this.advance();
  }

  private watch(request: VerificationRequest) {
    request.registerChangesCallback(async () => { queueMicrotask(() => void this.advance().catch(() => {})); });
  }

  private async advance() {
    const ready = this.others.find((request) => request.isReady() || request.getVerification());
    if (ready && this.others.length > 0) {
      this.request = ready;
      const rest = this.others.filter((request) => request !== ready);
      this.others = [];
      for (const request of rest) {
        const message = request.cancel();
        if (message) await this.keys.post([message]);
      }
    }
    if (!this.request) return;
    if (this.request.isReady() && this.request.weStarted() && !this.sas && !this.starting) {
      this.starting = true;
      const started = await this.request.startSas();
      if (started) {
        this.take(started[0]);
        await this.keys.post([started[1]]);
      }
    }
    const verification = this.sas ?? this.request.getVerification();
    if (verification instanceof Sas && verification !== this.sas) {
      this.take(verification);
      const message = verification.accept();
      if (message) await this.keys.post([message]);
    }
    if (this.sas?.isDone() || this.request.isDone()) {
      await this.keys.pump();
      await this.done();
    }
    this.show();
  }

  private take(sas: Sas) {
    this.sas = sas;
    sas.registerChangesCallback(async () => { queueMicrotask(() => void this.advance().catch(() => {})); });
  }

  async accept() {
    const message = this.request?.acceptWithMethods(methods());
    if (message) await this.keys.post([message]);
    this.show();
  }

  async confirm(match: boolean) {
    if (!this.sas) return;
    if (!match) {
      const message = this.sas.cancelWithCode("m.mismatched_sas");
      if (message) await this.keys.post([message]);
    } else {
      this.confirmed = true;
      await this.keys.post(await this.sas.confirm());
    }
    await this.advance();
  }

  end() {
    if (this.request && !this.over()) {
      for (const request of new Set([this.request, ...this.others])) {
        const message = request.cancel();
        if (message) void this.keys.post([message]).catch(() => {});
      }
    }
    this.clear();
    this.emit(null);
  }

  private clear() {
    this.request = this.sas = null;
    this.others = [];
    this.confirmed = this.starting = false;
  }

  private over() {
    return !this.request || this.request.isDone() || this.request.isCancelled() || this.request.timedOut() || this.sas?.isCancelled() || this.sas?.isDone();
  }

  private show() {
    const request = this.request;
    if (!request) return;
    const emoji = this.sas?.canBePresented() ? this.sas.emoji() : undefined;
    this.emit({
      flow: request.flowId,
      user: idOf(request.otherUserId.toString()),
      ...(request.otherDeviceId && { device: request.otherDeviceId.toString() }),
      own: request.otherUserId.toString() === userName(this.keys.me.id),
      incoming: !request.weStarted(),
      phase: this.phase(request, emoji),
      ...(emoji && { emoji: emojiOf(emoji, this.sas!.emojiIndex()!) }),
    });
  }

  private phase(request: VerificationRequest, emoji: Emoji[] | undefined): Verification["phase"] {
    if (request.isCancelled() || this.sas?.isCancelled() || request.timedOut()) return "cancelled";
    if (request.isDone() || this.sas?.isDone()) return "done";
    if (this.confirmed) return "confirmed";
    if (emoji) return "comparing";
    return !request.weStarted() && !request.isReady() && !this.sas ? "asked" : "waiting";
  }
}

const emojiOf = (emoji: Emoji[], index: Uint8Array) => emoji.map(({ symbol, description }, i) => ({ symbol, description, index: index[i]! }));
