// The keys of calls between devices, through Olm (services/video/PROTOCOL.md, "Encryption"). They go to, and are taken from, devices
// that their owners have signed, whose owners are in the conversation and are who we knew.
import { CollectStrategy, type Device, DeviceId, DeviceKeyAlgorithmName, UserId } from "@matrix-org/matrix-sdk-crypto-wasm";
import type { CallKey, CallPeer, Event, Id } from "../protocol";
import type { Chats } from "./chats";
import { callKeyType, type Keys } from "./crypto";
import { serial } from "./lock";
import { userName } from "./names";
import { call } from "./session";
import { uuid7 } from "./uuid";

interface Arrived { sender: Id; device: string; key: CallKey }

const heldAtMost = 256;

export class CallKeys {
  private held: Arrived[] = []; // from whom we may come to trust; the oldest are forgotten

  constructor(private readonly keys: Keys, private readonly chats: Chats, private readonly emit: (event: Event) => void) {}

  // Does what takes time before there is anything to send.
  prepare(chat: Id): Promise<void> { return this.keys.reach(this.members(chat)); }

  private members(chat: Id): Id[] {
    return (this.chats.list().find(({ id }) => id === chat)?.members ?? []).map(({ id }) => id).filter((id) => id !== this.keys.me.id);
  }

  // One after the other: what is encrypted for a device must reach it in that order.
  tell(chat: Id, { call: id, participant, chain, step, key }: CallKey, to: CallPeer[]) {
    return serial("call keys", async () => {
      const content = { call_id: id, participant_id: participant, chain, step, key };
      const refused: { participant: Id; why: string }[] = [];
      const messages: Record<string, Record<string, unknown>> = {};
      await this.keys.reach([...new Set(to.map(({ user }) => user))]);
      for (const peer of to) {
        const device = await this.device(chat, peer);
        if (typeof device === "string") refused.push({ participant: peer.participant, why: device });
        else (messages[userName(peer.user)] ??= {})[peer.device] = JSON.parse(await device.encryptToDeviceEvent(callKeyType, content, CollectStrategy.identityBasedStrategy()));
      }
      if (Object.keys(messages).length > 0) await call("PUT", "/v1/keys/sendToDevice/m.room.encrypted/" + uuid7(), { messages });
      return refused;
    });
  }

  // The device, if it may have a key; else why not.
  private async device(chat: Id, { user, device }: CallPeer): Promise<Device | string> {
    if (!this.members(chat).includes(user)) await this.chats.refreshMembers(chat);
    if (!this.members(chat).includes(user)) return "member";
    const { changed, missing } = await this.keys.judge([user]);
    if (changed.length + missing.length > 0) return "identity";
    const find = () => this.keys.machine.getDevice(new UserId(userName(user)), new DeviceId(device), 1);
    let found = await find();
    if (!found) { // it is newer than what we know of its owner
      await this.keys.make(this.keys.machine.queryKeysForUsers([new UserId(userName(user))]));
      await this.keys.reach([user]);
      found = await find();
    }
    return found?.isCrossSignedByOwner() ? found : "device";
  }

  async arrived(sender: Id, device: string, content: unknown) {
    const key = readKey(content);
    if (!key || sender === this.keys.me.id) return;
    this.held = [...this.held, { sender, device, key }].slice(-heldAtMost);
    await this.reconsider();
  }

  // Passes on what comes from whom we trust now.
  reconsider(): Promise<void> {
    return serial("held call keys", async () => {
      for (const each of [...this.held]) {
        const device = await this.proven(each);
        if (!device) continue;
        this.held = this.held.filter((held) => held !== each);
        this.emit({ type: "call-key", key: each.key, user: each.sender, device });
      }
    });
  }

  // The name of the signed device that has this Curve25519 key. Who is in the conversation, the page looks up: it knows which it is.
  private async proven({ sender, device: curve }: Arrived): Promise<string | undefined> {
    await this.keys.track([sender]);
    const { changed, missing } = await this.keys.judge([sender]);
    if (changed.length + missing.length > 0) return undefined;
    const device = (await this.keys.devices(sender)).find((each) => each.isCrossSignedByOwner() && each.getKey(DeviceKeyAlgorithmName.Curve25519)?.toBase64() === curve);
    return device?.deviceId.toString();
  }
}

const name = /^[\w-]{1,64}$/;
const whole = (value: unknown, most: number): value is number => Number.isInteger(value) && (value as number) >= 0 && (value as number) <= most;

function readKey(content: any): CallKey | null {
  const { call_id, participant_id, chain, step, key } = content ?? {};
  const fits = [call_id, participant_id].every((id) => typeof id === "string" && name.test(id)) && whole(chain, 2 ** 32 - 1) && whole(step, 255) &&
    typeof key === "string" && /^[A-Za-z0-9+/]{43}$/.test(key);
  return fits ? { call: call_id, participant: participant_id, chain, step, key } : null;
}
