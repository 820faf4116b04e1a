// What the pages and the core say to each other. The core is one worker in the leading tab; everybody else listens.

export type Id = string;

export interface Me { id: Id; username: string; name: string; deviceId: string; sessionId: string }
export interface Person { id: Id; username: string; name: string; relation: Relation; since?: string }
export type Relation = "none" | "self" | "contact" | "incoming" | "outgoing" | "blocked";
export interface Presence { online: boolean; seenAt?: string }

export type Connection = "offline" | "connecting" | "online";

// How far this device's keys are. Unverified: the account has an identity that this device cannot sign with yet.
export type DeviceState = "starting" | "ready" | "unverified" | "insecure" | "failed";

export interface Member { id: Id; role: "owner" | "admin" | "member"; delivered: number; read: number }

export interface Chat {
  id: Id;
  kind: "direct" | "group";
  name: string;
  members: Member[]; // who is in it now
  joined: boolean; // whether we are
  head: number;
  read: number; // our own
  unread: number;
  last?: Entry;
  at: number; // what the list is ordered by
  changed: Id[]; // members whose identity is not the one we knew: nothing is sent until that is settled
  verified: boolean; // every other member's identity was confirmed by emoji
  expireAfter: number; // seconds, 0 = never
}

export type Content =
  | { id: Id; kind: "text"; text: string; reply_to?: Id }
  | { id: Id; kind: "file"; file: Attachment; text?: string; reply_to?: Id }
  | { id: Id; kind: "edit"; target: Id; text: string }
  | { id: Id; kind: "react"; target: Id; key: string; on: boolean }
  | { id: Id; kind: "delete"; target: Id };

export interface Attachment { name: string; type: string; size: number; url: string; key: string; hash: string }

export interface Change { type: string; by?: Id; users?: Id[]; name?: string; role?: string; seconds?: number }

// Why a message cannot be shown: its key has not come (yet), it is not what it claims to be, or it is damaged.
export type Broken = "waiting" | "untrusted" | "replayed" | "damaged";

// What must be said beside a message that can be shown.
export type Warning = "identity" | "restored";

export interface Entry {
  chat: Id;
  id: Id;
  seq: number; // 0 while it is ours alone
  sender: Id;
  at: number;
  kind: "text" | "file" | "event" | "broken";
  text?: string;
  file?: Attachment;
  change?: Change;
  broken?: Broken;
  warning?: Warning;
  until?: number; // it disappears then
  edited?: boolean;
  deleted?: boolean;
  replyTo?: { id: Id; sender: Id; text: string };
  reactions?: { key: string; users: Id[] }[];
  state?: "sending" | "sent" | "blocked" | "failed";
  failure?: string; // a code
}

export interface Page { entries: Entry[]; atStart: boolean; atEnd: boolean }

export interface Found { entry: Entry; chatName: string }

export interface Verification {
  flow: Id;
  user: Id;
  device?: string;
  own: boolean; // between devices of one person
  incoming: boolean;
  phase: "asked" | "waiting" | "comparing" | "confirmed" | "done" | "cancelled";
  emoji?: { symbol: string; description: string; index: number }[];
}

export interface SessionView { id: Id; device_id: string; device_name: string; address: string; created_at: string; last_used_at: string; current: boolean }

export type Media = "audio" | "video";

// A call as it goes on in a conversation of ours; a test call has none.
export interface OngoingCall {
  id: Id;
  chat: Id;
  media: Media; // what its caller meant to send
  by: Id;
  at: number;
  state: "ringing" | "live" | "ended";
  reason: string; // why it ended
  members: { id: Id; state: "idle" | "ringing" | "joined" | "left" | "declined" | "missed" | "busy"; device: string }[];
}

export interface CallRecord { call: Id; chat: Id; media: Media; by: Id; at: number; ended: number; seconds: number; outcome: "answered" | "missed" | "declined" | "elsewhere"; reason: string }
export interface CallLog { calls: CallRecord[]; next: string; missed: number; seenAt: number }

// One who is in a call, on one device.
export interface CallPeer { participant: Id; user: Id; device: string }

// A key to the frames of a call: to be sent, or from a device that was proven to be its sender's.
export interface CallKey { call: Id; participant: Id; chain: number; step: number; key: string }

// The whole of what pages show, sent in parts when a part changes.
export interface State {
  me: Me | null;
  connection: Connection;
  device: DeviceState;
  servedBy: string;
  recoveryKey: string; // to be shown until it was kept, then never again
  backup: boolean;
  chats: Chat[];
  people: Record<Id, Person>;
  contacts: Id[];
  presence: Record<Id, Presence>;
  typing: Record<Id, Id[]>;
  verification: Verification | null;
  queued: number;
  calls: OngoingCall[];
  missed: number; // calls since the log was looked at
}

export const emptyState: State = {
  me: null, connection: "connecting", device: "starting", servedBy: "", recoveryKey: "", backup: false,
  chats: [], people: {}, contacts: [], presence: {}, typing: {}, verification: null, queued: 0, calls: [], missed: 0,
};

export type Event =
  | { type: "state"; part: Partial<State> }
  | { type: "leader" }
  | { type: "signed-out"; by: "us" | "server" }
  | { type: "timeline"; chat: Id; entries: Entry[]; gone: Id[]; reset?: boolean }
  | { type: "notify"; chat: Id; title: string; body: string }
  | { type: "ringing"; call: Id; chat: Id; title: string; media: Media } // and nobody looks at any tab
  | { type: "call-key"; key: CallKey; user: Id; device: string };

export interface Failure { status: number; code: string; detail: string; retryAfter: number }

export interface Calls {
  hello(): State & { known: boolean };
  resume(): Me | null;
  login(a: { username: string; password: string; device: string }): Me;
  register(a: { username: string; password: string; display_name: string; invite?: string }): void;
  logout(): void;
  sessions(): SessionView[];
  endSession(a: { id: Id }): void;
  rename(a: { name: string }): void;
  changePassword(a: { current: string; next: string }): void;
  attention(a: { chat: Id | null; visible: boolean }): void;

  timeline(a: { chat: Id; before?: number; after?: number; around?: number; limit: number }): Page;
  send(a: { chat: Id; text: string; replyTo?: Id }): void;
  edit(a: { chat: Id; target: Id; text: string }): void;
  react(a: { chat: Id; target: Id; key: string; on: boolean }): void;
  remove(a: { chat: Id; target: Id }): void;
  again(a: { chat: Id; id: Id }): void;
  discard(a: { chat: Id; id: Id }): void;
  read(a: { chat: Id; seq: number }): void;
  typing(a: { chat: Id; on: boolean }): void;
  search(a: { text: string; chat?: Id }): Found[];

  openDirect(a: { user: Id }): Id;
  createGroup(a: { name: string; users: Id[] }): Id;
  renameGroup(a: { chat: Id; name: string }): void;
  addMembers(a: { chat: Id; users: Id[] }): void;
  removeMember(a: { chat: Id; user: Id }): void;
  leave(a: { chat: Id }): void;

  findPeople(a: { text: string }): Person[];
  request(a: { user: Id }): void;
  accept(a: { user: Id }): void;
  reject(a: { user: Id }): void;
  forget(a: { user: Id }): void;
  block(a: { user: Id; on: boolean }): void;

  approveIdentity(a: { user: Id }): void;
  fingerprints(a: { user: Id }): { ours: string; theirs: string };
  confirmFingerprint(a: { user: Id; fingerprint: string }): void;
  verifyUser(a: { user: Id }): void;
  verifyOwn(): void;
  acceptVerification(): void;
  confirmEmoji(a: { match: boolean }): void;
  endVerification(): void;
  startCall(a: { chat: Id; media: Media }): OngoingCall;
  testCall(): OngoingCall;
  lookAtCall(a: { call: Id }): OngoingCall;
  declineCall(a: { call: Id }): void;
  hangUp(a: { call: Id }): void;
  callLog(a: { before: string }): CallLog;
  sawCalls(a: { at: number }): void;
  callToken(a: { worn: string }): string; // the access token there is, or another one than that
  prepareCall(a: { chat: Id }): void;
  tellCallKey(a: { chat: Id; key: CallKey; to: CallPeer[] }): { participant: Id; why: string }[]; // who must not have it

  keptRecoveryKey(): void;
  recover(a: { key: string }): { restored: number };
  resetIdentity(a: { password: string }): void;
}
export type Method = keyof Calls;
