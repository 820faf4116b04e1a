// The keys of this device: the Olm machine over its store, and the requests it wants made. There is one for a browser
// profile; two over one store would use one key twice.
import {
  CollectStrategy, DecryptedToDeviceEvent, type Device, DecryptionErrorCode, DecryptionSettings, DeviceId, DeviceLists, EncryptionSettings, initAsync, MegolmDecryptionError,
  OlmMachine, OtherUserIdentity, type OutgoingRequest, type OwnUserIdentity, RequestType, RoomId, ShieldStateCode, StoreHandle, TrustRequirement, UserId,
} from "@matrix-org/matrix-sdk-crypto-wasm";
import type { Broken, Content, Id, Me, Warning } from "../protocol";
import type { Database } from "./db";
import { coalesce, serial } from "./lock";
import { idOf, roomName, userName } from "./names";
import { call, Problem } from "./session";
import { uuid7 } from "./uuid";

export const messageType = "secureconnect.message";
export const callKeyType = "secureconnect.call.key";

// A person of the conversation is not who we knew, or is nobody yet: nothing is encrypted.
export class IdentityProblem extends Error {
  constructor(readonly changed: Id[], readonly missing: Id[]) { super("identity"); }
}

export class Unreadable extends Error {
  constructor(readonly why: Broken, readonly session: string) { super(why); }
}

export interface Sealed { id: Id; chat: Id; sender: Id; at: number; body: string }

interface Sync {
  next_batch: string;
  to_device: { events: { sender: string; type: string; content: any }[] };
  device_lists: { changed?: string[]; left?: string[] };
  device_one_time_keys_count: Record<string, number>;
  device_unused_fallback_key_types: string[];
}

type Processed = Awaited<ReturnType<OlmMachine["receiveSyncChanges"]>>[number];

export interface Hooks {
  keysArrived: (sessions: string[]) => void;
  identitiesChanged: (users: Id[]) => void;
  verification: (event: { sender: string; type: string; content: any }) => void;
  secret: () => void;
  callKey: (sender: Id, device: string, content: unknown) => void; // out of Olm, by the device's Curve25519 key
}

export class Keys {
  readonly pump: () => Promise<void>;
  readonly receive: () => Promise<void>;

  private constructor(readonly machine: OlmMachine, private readonly db: Database, readonly me: Me, private readonly hooks: Hooks) {
    this.pump = coalesce(() => this.pumpNow());
    this.receive = coalesce(() => this.receiveNow());
  }

  static async open(name: string, storeKey: Uint8Array, db: Database, me: Me, hooks: Hooks): Promise<Keys> {
    await initAsync();
    const handle = await StoreHandle.openWithKey(name, storeKey);
    const machine = await OlmMachine.initFromStore(new UserId(userName(me.id)), new DeviceId(me.deviceId), handle);
    handle.free(); // else the store stays open, and cannot be removed, until the browser tidies up
    machine.roomKeyRequestsEnabled = false;
    machine.roomKeyForwardingEnabled = false;
    const keys = new Keys(machine, db, me, hooks);
    await machine.registerRoomKeyUpdatedCallback(async (info) => hooks.keysArrived(info.map(({ sessionId }) => sessionId)));
    await machine.registerUserIdentityUpdatedCallback(async (user) => hooks.identitiesChanged([idOf(user.toString())]));
    await machine.registerDevicesUpdatedCallback(async (users) => hooks.identitiesChanged(users.map(idOf)));
    await machine.registerReceiveSecretCallback(async () => hooks.secret());
    return keys;
  }

  close() { this.machine.close(); }

  async make(request: OutgoingRequest) {
    const answer = await this.answerOf(request);
    await this.machine.markRequestAsSent(request.id!, request.type, JSON.stringify(answer));
  }

  private answerOf(request: OutgoingRequest): Promise<unknown> {
    switch (request.type) {
      case RequestType.KeysUpload: return call("POST", "/v1/keys/upload", request.body);
      case RequestType.KeysQuery: return call("POST", "/v1/keys/query", queryOf(request.body));
      case RequestType.KeysClaim: return call("POST", "/v1/keys/claim", claimOf(request.body));
      case RequestType.SignatureUpload: return call("POST", "/v1/keys/signatures/upload", request.body);
      case RequestType.ToDevice: {
        const { event_type, txn_id, body } = request as { event_type: string; txn_id: string; body: string };
        return call("PUT", `/v1/keys/sendToDevice/${encodeURIComponent(event_type)}/${encodeURIComponent(txn_id)}`, body);
      }
      case RequestType.KeysBackup: return call("PUT", "/v1/keys/backup/keys?version=" + (request as { version: string }).version, request.body);
      default: throw new Error("a request we do not make: " + request.type);
    }
  }

  private async pumpNow() {
    for (let round = 0; round < 10; round++) {
      const requests = await this.machine.outgoingRequests();
      if (requests.length === 0) return;
      for (const request of requests) await this.make(request);
    }
  }

  // Takes what waits for this device. The next batch is kept only after the store has it: a lost answer comes again.
  private async receiveNow() {
    for (let full = true; full;) {
      const since = (await this.db.get<{ value: string }>("meta", "since"))?.value ?? "";
      const sync = await call<Sync>("GET", "/v1/keys/sync?timeout=0&since=" + encodeURIComponent(since));
      const users = (names: string[] = []) => names.map((name) => new UserId(name));
      const lists = new DeviceLists(users(sync.device_lists.changed), users(sync.device_lists.left));
      const processed = await this.machine.receiveSyncChanges(JSON.stringify(sync.to_device.events), lists,
        new Map(Object.entries(sync.device_one_time_keys_count)), new Set(sync.device_unused_fallback_key_types), decryption());
      await this.db.put("meta", { name: "since", value: sync.next_batch });
      for (const event of processed) this.pass(event);
      full = sync.to_device.events.length > 0;
    }
    await this.pump();
  }

  private pass(processed: Processed) {
    if (!processed.rawEvent) return;
    const event = JSON.parse(processed.rawEvent);
    if (String(event.type).startsWith("m.key.verification.")) this.hooks.verification(event);
    if (event.type !== callKeyType || !(processed instanceof DecryptedToDeviceEvent)) return; // what came in clear is nobody's
    const { sender, senderCurve25519Key } = processed.encryptionInfo;
    this.hooks.callKey(idOf(sender.toString()), senderCurve25519Key, event.content);
  }

  async track(users: Id[]) {
    await this.machine.updateTrackedUsers(users.map((id) => new UserId(userName(id))));
    await this.pump();
  }

  identity(user: Id): Promise<OwnUserIdentity | OtherUserIdentity | undefined> {
    return this.machine.getIdentity(new UserId(userName(user)));
  }

  async devices(user: Id): Promise<Device[]> {
    return (await this.machine.getUserDevices(new UserId(userName(user)), 1)).devices();
  }

  // Makes sure that something can be encrypted for every device of theirs.
  async reach(users: Id[]) {
    await this.track(users);
    await this.claim(users);
  }

  private async claim(users: Id[]) {
    const claim = await this.machine.getMissingSessions(users.map((id) => new UserId(userName(id))));
    if (claim) await this.make(claim);
  }

  // Who of them is not whom we knew, who has no identity, and who was verified.
  async judge(users: Id[]) {
    const changed: Id[] = [], missing: Id[] = [], verified: Id[] = [];
    for (const user of users) {
      if (user === this.me.id) continue;
      const identity = await this.identity(user);
      if (!identity) missing.push(user);
      else if (identity.hasVerificationViolation() || (identity instanceof OtherUserIdentity && identity.identityNeedsUserApproval())) changed.push(user);
      else if (identity.isVerified()) verified.push(user);
    }
    return { changed, missing, verified };
  }

  // Encrypts for the signed devices of all members, after making sure that each of them has the key.
  encrypt(chat: Id, members: Id[], content: Content): Promise<string> {
    return serial("room " + chat, async () => {
      await this.track(members);
      const { changed, missing } = await this.judge(members);
      const others = members.filter((id) => id !== this.me.id);
      if (changed.length > 0 || (others.length > 0 && missing.length === others.length)) throw new IdentityProblem(changed, missing);
      await this.claim(members);
      const users = () => members.map((id) => new UserId(userName(id)));
      for (const share of await this.machine.shareRoomKey(new RoomId(roomName(chat)), users(), sharing())) await this.make(share);
      return this.machine.encryptRoomEvent(new RoomId(roomName(chat)), messageType, JSON.stringify(content));
    });
  }

  // Decrypts, and refuses what is not what the server says it is.
  async decrypt(sealed: Sealed): Promise<{ content: Content; device: string; warning?: Warning }> {
    const content = parse(sealed.body);
    const session = String(content?.session_id ?? "");
    const event = JSON.stringify({
      type: "m.room.encrypted", sender: userName(sealed.sender), event_id: "$" + sealed.id, origin_server_ts: sealed.at, room_id: roomName(sealed.chat), content,
    });
    const open = (trust: TrustRequirement) => this.machine.decryptRoomEvent(event, new RoomId(roomName(sealed.chat)), new DecryptionSettings(trust));
    let decrypted, restored = false;
    try {
      decrypted = await open(TrustRequirement.CrossSigned);
    } catch (error) {
      // A key out of the backup does not say whose device it came from. Those count as legacy; nothing else here does.
      if (reason(error) !== "untrusted") throw new Unreadable(reason(error), session);
      decrypted = await open(TrustRequirement.CrossSignedOrLegacy).catch(() => { throw new Unreadable("untrusted", session); });
      restored = true;
    }
    const plain = parse(decrypted.event);
    if (plain?.type !== messageType || plain.content?.id !== sealed.id) throw new Unreadable("replayed", session);
    const warning = await this.warningFor(sealed.sender, restored || decrypted.shieldState(false).code === ShieldStateCode.AuthenticityNotGuaranteed);
    return { content: plain.content, device: decrypted.senderDevice?.toString() ?? "", ...(warning && { warning }) };
  }

  private async warningFor(sender: Id, restored: boolean): Promise<Warning | undefined> {
    if ((await this.judge([sender])).changed.length > 0) return "identity";
    return restored ? "restored" : undefined;
  }

  forgetSession(chat: Id) {
    return serial("room " + chat, () => this.machine.invalidateGroupSession(new RoomId(roomName(chat))));
  }

  async approve(user: Id) {
    const identity = await this.identity(user);
    if (!(identity instanceof OtherUserIdentity)) return;
    if (identity.hasVerificationViolation()) await identity.withdrawVerification();
    await identity.pinCurrentMasterKey();
  }

  // The public half of an identity, which people compare; "" for whoever has none.
  async fingerprint(user: Id): Promise<string> {
    const identity = await this.identity(user);
    return identity ? fingerprintOf(identity) : "";
  }

  // A person has compared the fingerprint: the identity that has it is verified, and no other one.
  async confirm(user: Id, fingerprint: string) {
    const identity = await this.identity(user);
    if (!(identity instanceof OtherUserIdentity) || fingerprintOf(identity) !== fingerprint) throw new Problem(409, "identity_changed");
    await this.post([await identity.verify()]);
    await this.make(this.machine.queryKeysForUsers([new UserId(userName(user))]));
  }

  async ownDevice(): Promise<Device | undefined> {
    return this.machine.getDevice(new UserId(userName(this.me.id)), new DeviceId(this.me.deviceId), 1);
  }

  async queryOwn() {
    await this.track([this.me.id]);
    await this.make(this.machine.queryKeysForUsers([new UserId(userName(this.me.id))]));
  }

  // Sends to-device requests the machine does not keep track of.
  async post(requests: { type: RequestType; body: string }[]) {
    for (const request of requests) {
      const made = request as { type: RequestType; id?: string; event_type?: string; txn_id?: string; body: string };
      if (made.id) await this.make(request as unknown as OutgoingRequest);
      else if (made.type === RequestType.SignatureUpload) await call("POST", "/v1/keys/signatures/upload", made.body);
      else await call("PUT", `/v1/keys/sendToDevice/${made.event_type}/${made.txn_id ?? uuid7()}`, made.body);
    }
  }
}

const fingerprintOf = (identity: OwnUserIdentity | OtherUserIdentity) => Object.values<string>(parse(identity.masterKey).keys)[0]!;

// Consumed by the call that takes them, so made anew for each.
const decryption = () => new DecryptionSettings(TrustRequirement.CrossSigned);

function sharing(): EncryptionSettings {
  const settings = new EncryptionSettings();
  settings.sharingStrategy = CollectStrategy.identityBasedStrategy();
  settings.rotationPeriodMessages = 100n;
  settings.rotationPeriod = 7n * 24n * 3600n * 1_000_000n; // microseconds
  return settings;
}

function reason(error: unknown): Broken {
  if (!(error instanceof MegolmDecryptionError)) return "damaged";
  switch (error.code) {
    case DecryptionErrorCode.MissingRoomKey:
    case DecryptionErrorCode.UnknownMessageIndex:
      return "waiting";
    case DecryptionErrorCode.UnknownSenderDevice:
    case DecryptionErrorCode.UnsignedSenderDevice:
    case DecryptionErrorCode.SenderIdentityVerificationViolation:
    case DecryptionErrorCode.MismatchedSender:
    case DecryptionErrorCode.MismatchedIdentityKeys:
      return "untrusted";
    default:
      return "damaged";
  }
}

// The machine's bodies carry a timeout, which is for servers that ask other servers.
const queryOf = (body: string) => ({ device_keys: JSON.parse(body).device_keys });
const claimOf = (body: string) => ({ one_time_keys: JSON.parse(body).one_time_keys });

function parse(text: string): any {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

export { Problem };
