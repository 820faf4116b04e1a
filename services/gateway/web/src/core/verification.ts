// Comparing emoji (SAS) with one's own other device, or with a person. One at a time.
import { type Emoji, OtherUserIdentity, Sas, UserId, VerificationMethod, type VerificationRequest } from "@matrix-org/matrix-sdk-crypto-wasm";
import type { Id, Verification } from "../protocol";
import type { Keys } from "./crypto";
import { idOf, userName } from "./names";
import { call, Problem } from "./session";
import { uuid7 } from "./uuid";

const methods = () => [VerificationMethod.SasV1];

export class Verifying {
  private request: VerificationRequest | null = null;
  private asked: string[] = []; // devices of another person that may still answer
  private sas: Sas | null = null;
  private confirmed = false;
  private starting = false;

  constructor(private readonly keys: Keys, private readonly emit: (state: Verification | null) => void, private readonly done: () => Promise<void>) {}

  // Asks every signed device of a person in one request; the first that answers is the one.
  async start(user: Id) {
    this.end();
    await this.keys.track([user]);
    const identity = await this.keys.identity(user);
    const devices = (await this.keys.devices(user)).filter((device) => device.deviceId.toString() !== this.keys.me.deviceId && device.isCrossSignedByOwner());
    if (!identity || devices.length === 0) throw new Problem(400, "no_device_to_verify");
    if (identity instanceof OtherUserIdentity) {
      const [request, message] = devices[0]!.requestVerification(methods());
      this.request = request;
      this.asked = devices.map((device) => device.deviceId.toString());
      const [content] = Object.values<unknown>(JSON.parse(message.body).messages[userName(user)]);
      await this.tell(user, "m.key.verification.request", this.asked, content);
      await this.keys.machine.markRequestAsSent(message.id, message.type, "{}");
    } else {
      const [request, message] = await identity.requestVerification(methods());
      this.request = request;
      await this.keys.post([message]);
    }
    this.watch(this.request);
    this.show();
  }

  private tell(user: Id, type: string, devices: string[], content: unknown) {
    const messages = { [userName(user)]: Object.fromEntries(devices.map((device) => [device, content])) };
    return call("PUT", `/v1/keys/sendToDevice/${type}/${uuid7()}`, { messages });
  }

  // An event of a verification has come in and the machine has taken it.
  async arrived(event: { sender: string; type: string; content: any }) {
    const flow = event.content.transaction_id;
    if (event.type === "m.key.verification.request") {
      const request = this.keys.machine.getVerificationRequest(new UserId(event.sender), flow);
      if (!request || request.isCancelled() || (this.request && !this.over())) return;
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
    await this.endElsewhere();
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

  // Another device took it: the rest need not ask any longer.
  private async endElsewhere() {
    const taken = this.request?.otherDeviceId?.toString();
    if (!this.request?.isReady() || !taken || this.asked.length === 0) return;
    const rest = this.asked.filter((device) => device !== taken);
    this.asked = [];
    const content = { transaction_id: this.request.flowId, code: "m.accepted", reason: "Accepted by another device" };
    if (rest.length > 0) await this.tell(idOf(this.request.otherUserId.toString()), "m.key.verification.cancel", rest, content);
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
      const message = this.request.cancel();
      if (message) void this.keys.post([message]).catch(() => {});
    }
    this.clear();
    this.emit(null);
  }

  private clear() {
    this.request = this.sas = null;
    this.asked = [];
    this.confirmed = this.starting = false;
  }

  private over() {
    return !this.request || this.request.isDone() || this.request.isCancelled() || this.request.timedOut() || this.sas?.isCancelled() || this.sas?.isDone();
  }

  private show() {
    const request = this.request;
    if (!request) return;
    if (request.isCancelled() && !this.sas && !request.weStarted()) { // before it was answered here: nothing to tell
      this.clear();
      return this.emit(null);
    }
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
