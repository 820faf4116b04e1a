// The conversations of this device: what was said, in the server's order and without a gap, and what waits to be sent.
import type { Change, Chat, Content, Entry, Event, Found, Id, Page, Warning } from "../protocol";
import { readContent } from "./content";
import { IdentityProblem, type Keys, Unreadable } from "./crypto";
import { type Box, type ChatRow, type Database, type EntryRow, finished, type OutboxRow, type RelationRow, request, type SeenRow, type WaitingRow } from "./db";
import type { Frame, Live } from "./live";
import { coalesce, serial } from "./lock";
import type { People } from "./people";
import { call, now, Problem } from "./session";
import { uuid7 } from "./uuid";
import type { Vault } from "./vault";
import type { Conversation, Conversations, Item, ItemPage, MemberView } from "./wire";

// What a device keeps of a message, sealed.
interface Base extends Pick<Entry, "kind" | "text" | "file" | "change" | "broken" | "warning" | "deleted" | "until"> { reply_to?: Id }
type Relation = Extract<Content, { target: Id }>;

interface Room {
  view: Chat;
  low: number; // everything from here
  through: number; // to here is on this device
  joined: number; // the first number of ours there is
}

interface Kept { name: string; kind: "direct" | "group"; members: Chat["members"]; joined: boolean; joinedSeq: number; head: number; read: number; at: number; expireAfter: number }

const firstPage = 60;
const olderPage = 100;
const unreadLimit = 100;
const maxNumber = Number.MAX_SAFE_INTEGER;

export class Chats {
  private readonly rooms = new Map<Id, Room>();
  private readonly typists = new Map<Id, Map<Id, ReturnType<typeof setTimeout>>>();
  private index: Promise<Map<Id, { chat: Id; seq: number; text: string }>> | null = null;
  private readonly flush = coalesce(() => this.flushNow());
  private retry: ReturnType<typeof setTimeout> | undefined;
  private publishing = false;

  constructor(
    private readonly me: Id, private readonly db: Database, private readonly vault: Vault, private readonly keys: Keys,
    private readonly people: People, private readonly live: Live, private readonly emit: (event: Event) => void,
    private readonly watched: (chat: Id) => boolean, // somebody looks at it in one of the tabs
  ) {}

  // — What is on this device —

  async load() {
    for (const row of await this.db.all<ChatRow>("chats")) {
      const kept = await this.vault.open<Kept>(row.box);
      const view: Chat = { id: row.id, ...kept, unread: 0, changed: [], verified: false };
      this.rooms.set(row.id, { view, low: row.low, through: row.through, joined: kept.joinedSeq });
      await this.recount(row.id);
    }
    this.publish();
  }

  private async store(room: Room) {
    const box = await this.vault.seal(this.kept(room));
    await this.db.put("chats", { id: room.view.id, low: room.low, through: room.through, box });
  }

  private publish() {
    if (this.publishing) return;
    this.publishing = true;
    setTimeout(() => {
      this.publishing = false;
      this.emit({ type: "state", part: { chats: this.list() } });
    }, 16);
  }

  list(): Chat[] { return [...this.rooms.values()].map(({ view }) => view).sort((a, b) => b.at - a.at); }

  private room(id: Id): Room {
    const room = this.rooms.get(id);
    if (!room) throw new Problem(404, "no_such_conversation");
    return room;
  }

  private async recount(id: Id) {
    const { view } = this.room(id);
    const range = IDBKeyRange.bound([id, view.read + 1], [id, maxNumber]);
    const rows = await this.db.walk<EntryRow>("entries", range, "next", unreadLimit);
    const bases = await Promise.all(rows.filter(({ sender }) => sender !== this.me).map(({ box }) => this.vault.open<Base>(box)));
    view.unread = bases.filter(({ kind }) => kind !== "event").length;
    const [last] = await this.db.walk<EntryRow>("entries", IDBKeyRange.bound([id, 0], [id, maxNumber]), "prev", 1);
    if (last) {
      view.last = await this.view(last);
      view.at = Math.max(last.at, 0);
    }
    const waiting = (await this.queue()).filter(({ chat }) => chat === id).at(-1);
    if (waiting && waiting.at > view.at) {
      view.last = await this.pending(waiting) ?? view.last!;
      view.at = waiting.at;
    }
  }

  // — From the server —

  // Learns which conversations there are, then continues each from where this device is.
  async sync() {
    const joined = [...this.rooms.values()].filter(({ view }) => view.joined);
    const found: Conversation[] = [];
    for (let from = ""; ;) {
      const page = await call<Conversations>("GET", "/v1/conversations" + (from && "?from=" + from));
      found.push(...(page.conversations ?? []));
      if (!page.next) break;
      from = page.next;
    }
    const there = new Set(found.map(({ id }) => id));
    for (const { view } of joined) if (!there.has(view.id)) await this.left(view.id);
    for (const conversation of found) await this.meet(conversation);
    this.publish();
    const cursors = Object.fromEntries([...this.rooms.values()].filter(({ view }) => view.joined).map(({ view, through }) => [view.id, through]));
    await this.synced(await this.live.ask({ type: "sync", cursors }));
    void this.flush();
    for (const { view } of this.rooms.values()) if (view.joined) void (this.watched(view.id) ? this.refreshMembers(view.id) : this.judge(view.id)).catch(() => {});
  }

  // Who comes into a conversation after the list was read, and before this, is told of it only here.
  private async synced(frame: Frame) {
    for (const { id, head } of frame["conversations"] ?? []) {
      if (this.rooms.get(id)?.view.joined) this.heard(id, head);
      else await this.find(id);
    }
  }

  // Takes in a conversation that nobody has told of, unless we are out of it again.
  private find(id: Id) {
    return serial("find " + id, async () => {
      if (this.rooms.get(id)?.view.joined) return;
      const found = await call<Conversation>("GET", "/v1/conversations/" + id).catch((problem) => {
        if (!(problem instanceof Problem) || problem.status !== 404) throw problem;
      });
      if (found) await this.meet(found);
    });
  }

  // Takes in a conversation as the server tells it, and the newest page of one this device did not know.
  async meet(c: Conversation) {
    let room = this.rooms.get(c.id);
    const isNew = !room || !room.view.joined;
    if (!room) {
      const at = Date.parse(c.created_at);
      const view: Chat = { id: c.id, kind: c.kind, name: c.name ?? "", members: [], joined: true, head: c.head, read: c.read, unread: 0, at, changed: [], verified: false, expireAfter: c.message_life };
      const low = Math.max(c.head - firstPage, c.joined_seq - 1);
      room = { view, low: low + 1, through: low, joined: c.joined_seq };
      this.rooms.set(c.id, room);
    }
    Object.assign(room.view, { name: c.name ?? "", joined: true, expireAfter: c.message_life, head: Math.max(room.view.head, c.head), read: Math.max(room.view.read, c.read) });
    if (isNew) room.joined = c.joined_seq;
    await this.store(room);
    if (isNew || room.view.members.length === 0) await this.refreshMembers(c.id);
    if (room.through < c.head) await this.catchUp(c.id, c.head);
    this.publish();
  }

  async refreshMembers(id: Id) {
    const { members } = await call<{ members: MemberView[] | null }>("GET", `/v1/conversations/${id}/members`);
    const room = this.room(id);
    const known = new Map(room.view.members.map((member) => [member.id, member]));
    room.view.members = (members ?? []).map(({ user_id: id, role, delivered, read }) =>
      ({ id, role, delivered: Math.max(delivered, known.get(id)?.delivered ?? 0), read: Math.max(read, known.get(id)?.read ?? 0) }));
    await this.store(room);
    void this.people.ensure(room.view.members.map((member) => member.id)).then(() => this.publish());
    this.publish();
    await this.judge(id).catch(() => {});
  }

  private async left(id: Id) {
    const room = this.room(id);
    if (!room.view.joined) return;
    room.view.joined = false;
    room.view.members = room.view.members.filter((member) => member.id !== this.me);
    await this.store(room);
    this.publish();
  }

  private heard(id: Id, head: number) {
    const room = this.rooms.get(id);
    if (room) room.view.head = Math.max(room.view.head, head);
  }

  async frame(frame: Frame) {
    switch (frame.type) {
      case "synced": return this.synced(frame); // what the first frame had no room for
      case "items": return this.pushed(frame);
      case "conversation": return this.meet(frame["conversation"]);
      case "cursors": return this.moved(frame);
      case "typing": return this.typed(frame["conversation_id"], frame["user_id"], frame["on"]);
    }
  }

  private async pushed(frame: Frame) {
    const id: Id = frame["conversation_id"];
    if (!this.rooms.has(id)) await this.find(id);
    if (!this.rooms.has(id)) return;
    this.heard(id, frame["head"] ?? 0);
    const items: Item[] = frame["items"] ?? [];
    const first = items[0]?.seq ?? frame["through"];
    // Numbers in between may be void, or lost: only the server knows.
    if (first > this.room(id).through + 1) await this.catchUp(id, first - 1);
    await this.take(id, items, frame["through"]);
  }

  private catchUp(id: Id, upTo: number) {
    return serial("catch-up " + id, async () => {
      for (let more = true; more && this.room(id).through < upTo;) {
        const page = await this.range(id, this.room(id).through, upTo, 200);
        const before = this.room(id).through;
        await this.take(id, page.items ?? [], page.through);
        more = this.room(id).through > before;
      }
    });
  }

  private range(id: Id, after: number, upTo: number, limit: number): Promise<ItemPage> {
    return call<ItemPage>("GET", `/v1/conversations/${id}/messages?after=${after}&up_to=${upTo}&limit=${limit}`);
  }

  // Takes in what follows on what is here, whoever brought it.
  private take(id: Id, items: Item[], through: number) {
    return serial("take " + id, async () => {
      const room = this.room(id);
      const news = items.filter(({ seq }) => seq > room.through);
      const entries = await this.keep(room, news, { through: Math.max(room.through, through) });
      if (news.length > 0) this.live.tell({ type: "cursor", conversation_id: id, delivered: room.through });
      await this.changedBy(room, news);
      await this.recount(id);
      this.publish();
      this.announce(room, news, entries);
    });
  }

  // Decrypts items and keeps them together with how far we are, all or nothing.
  private async keep(room: Room, items: Item[], reach: { through?: number; low?: number }): Promise<Entry[]> {
    const id = room.view.id;
    const opened: Opened[] = [];
    for (const item of items) opened.push(await this.open(id, item));
    Object.assign(room, reach);
    const box = await this.vault.seal(this.kept(room));
    const tx = this.db.write("chats", "entries", "relations", "seen", "waiting", "outbox");
    const changed = new Set<number | Id>();
    for (const each of opened) await this.write(tx, each, changed);
    tx.objectStore("chats").put({ id, low: room.low, through: room.through, box });
    await finished(tx);
    const rows = await Promise.all([...changed].map((key) => (typeof key === "number" ? this.db.get<EntryRow>("entries", [id, key]) : this.byId(id, key))));
    const entries = (await Promise.all(rows.filter((row) => row !== undefined).map((row) => this.view(row)))).sort((a, b) => a.seq - b.seq);
    void this.learn(entries);
    return entries;
  }

  private kept(room: Room): Kept {
    const { view } = room;
    return { name: view.name, kind: view.kind, members: view.members, joined: view.joined, joinedSeq: room.joined, head: view.head, read: view.read, at: view.at, expireAfter: view.expireAfter };
  }

  // Writes one opened item, unless its name was seen before under another number: then it is a replay.
  private async write(tx: IDBTransaction, { item, entry, relation, waiting }: Opened, changed: Set<number | Id>) {
    const id = item.client_id ?? "", chat = (entry ?? relation)?.chat;
    if (id && chat) {
      const seen = await request<{ seq: number } | undefined>(tx.objectStore("seen").get([chat, id]));
      if (seen && seen.seq !== item.seq) {
        if (entry) tx.objectStore("entries").put({ ...entry, id: "replay-" + item.seq, box: brokenBoxes.replayed });
        if (entry) changed.add(item.seq);
        return;
      }
      tx.objectStore("seen").put({ chat, id, seq: item.seq });
      tx.objectStore("outbox").delete(id);
    }
    if (entry) {
      tx.objectStore("entries").put(entry);
      changed.add(item.seq);
    }
    if (relation) {
      tx.objectStore("relations").put(relation);
      changed.add(relation.target);
    }
    if (waiting) tx.objectStore("waiting").put(waiting);
  }

  private async open(chat: Id, item: Item): Promise<Opened> {
    const at = item.at ? Date.parse(item.at) : 0;
    const row = async (base: Base, id = item.client_id ?? `n${item.seq}`) =>
      ({ chat, seq: item.seq, id, sender: item.sender ?? "", at, box: await this.vault.seal({ ...base, ...(item.expires_at && { until: Date.parse(item.expires_at) }) }) });
    if (item.kind === "event") return { item, entry: await row({ kind: "event", change: changeOf(item) }) };
    if (item.kind === "cleared") return { item, entry: await row({ kind: "text", deleted: true }) };
    if (item.kind === "expired" || !item.client_id || !item.sender) return { item };
    const mine = item.sender === this.me ? await this.db.get<OutboxRow>("outbox", item.client_id) : undefined;
    if (mine) return this.opened(item, row, await this.vault.open<Content>(mine.box));
    await brokenReady(this.vault);
    try {
      const { content, warning } = await this.keys.decrypt({ id: item.client_id, chat, sender: item.sender, at, body: item.body ?? "" });
      const known = readContent(content);
      if (!known) return { item, entry: await row({ kind: "broken", broken: "damaged" }) };
      return await this.opened(item, row, known, warning);
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      const waits = error.why === "waiting" || error.why === "untrusted"; // for its key, or for its sender's to be known
      const entry = await row({ kind: "broken", broken: error.why });
      return { item, entry, ...(waits && { waiting: { chat, seq: item.seq, session: error.session, why: error.why, item: await this.vault.seal(item) } }) };
    }
  }

  private async opened(item: Item, row: (base: Base) => Promise<EntryRow>, content: Content, warning?: Warning): Promise<Opened> {
    const marks = warning ? { warning } : {};
    switch (content.kind) {
      case "text": return { item, entry: await row({ kind: "text", text: content.text, ...(content.reply_to && { reply_to: content.reply_to }), ...marks }) };
      case "file": return { item, entry: await row({ kind: "file", file: content.file, ...(content.text && { text: content.text }), ...(content.reply_to && { reply_to: content.reply_to }), ...marks }) };
      default: {
        const { chat, sender } = await row({ kind: "text" });
        return { item, relation: { chat, target: content.target, seq: item.seq, sender, box: await this.vault.seal(content) } };
      }
    }
  }

  // Tries again what waited for these sessions, or for anything at all.
  async unlock(sessions?: string[]) {
    await Promise.all([...this.rooms.keys()].map((id) => serial("take " + id, async () => {}))); // what is being taken in without them begins to wait
    const waiting = (await this.db.all<WaitingRow>("waiting")).filter(({ session }) => !sessions || sessions.includes(session));
    for (const row of waiting) {
      const room = this.rooms.get(row.chat);
      if (!room) continue;
      await serial("take " + row.chat, async () => {
        const opened = await this.open(row.chat, await this.vault.open<Item>(row.item));
        if (opened.waiting?.why === row.why) return;
        const tx = this.db.write("entries", "relations", "seen", "waiting", "outbox");
        tx.objectStore("waiting").delete([row.chat, row.seq]);
        if (!opened.entry) tx.objectStore("entries").delete([row.chat, row.seq]);
        const changed = new Set<number | Id>();
        await this.write(tx, opened, changed);
        await finished(tx);
        const rows = await Promise.all([...changed].map((key) => (typeof key === "number" ? this.db.get<EntryRow>("entries", [row.chat, key]) : this.byId(row.chat, key))));
        const entries = await Promise.all(rows.filter((found) => found !== undefined).map((found) => this.view(found)));
        void this.learn(entries);
        await this.recount(row.chat);
        this.emit({ type: "timeline", chat: row.chat, entries, gone: opened.entry ? [] : [opened.item.client_id!] });
      });
    }
    if (waiting.length > 0) this.publish();
  }

  private async changedBy(room: Room, items: Item[]) {
    const changes = items.filter(({ kind }) => kind === "event").map(({ event }) => event!);
    if (changes.length === 0) return;
    for (const { type, name, message_life } of changes) {
      if (type === "renamed") room.view.name = name ?? "";
      if (type === "message_life") room.view.expireAfter = message_life ?? 0;
    }
    const gone = items.filter(({ event }) => event?.type === "removed" || event?.type === "left");
    if (gone.length > 0) await this.keys.forgetSession(room.view.id).catch(() => {});
    if (gone.some(({ event, sender }) => (event!.type === "left" ? sender === this.me : event!.users?.includes(this.me)))) return this.left(room.view.id);
    if (room.view.joined) await this.refreshMembers(room.view.id).catch(() => {});
  }

  private announce(room: Room, items: Item[], entries: Entry[]) {
    const { id, kind, name } = room.view;
    if (entries.length > 0) this.emit({ type: "timeline", chat: id, entries: entries.length > 200 ? [] : entries, gone: [], reset: entries.length > 200 });
    for (const item of items) if (item.sender) this.typed(id, item.sender, false);
    const last = entries.filter(({ kind, sender, seq }) => (kind === "text" || kind === "file") && sender !== this.me && seq > room.view.read).at(-1);
    if (!last || this.watched(id) || !items.some(({ client_id }) => client_id === last.id) || now() - last.at > 60_000) return;
    const sender = this.people.name(last.sender);
    this.emit({ type: "notify", chat: id, title: kind === "group" ? `${sender} · ${name}` : sender, body: last.text ?? last.file?.name ?? "" });
  }

  private async moved(frame: Frame) {
    const room = this.rooms.get(frame["conversation_id"]);
    if (!room) return;
    for (const { user_id, delivered, read } of frame["cursors"] as { user_id: Id; delivered?: number; read?: number }[]) {
      room.view.members = room.view.members.map((member) => member.id === user_id
        ? { ...member, delivered: Math.max(member.delivered, delivered ?? 0), read: Math.max(member.read, read ?? 0) } : member);
      if (user_id === this.me && (read ?? 0) > room.view.read) {
        room.view.read = read!;
        await this.recount(room.view.id);
      }
    }
    await this.store(room);
    this.publish();
  }

  private typed(chat: Id, user: Id, on: boolean) {
    const there = this.typists.get(chat) ?? new Map<Id, ReturnType<typeof setTimeout>>();
    if (!on && !there.has(user)) return;
    clearTimeout(there.get(user));
    if (on) there.set(user, setTimeout(() => this.typed(chat, user, false), 6000));
    else there.delete(user);
    this.typists.set(chat, there);
    this.emit({ type: "state", part: { typing: Object.fromEntries([...this.typists].map(([id, users]) => [id, [...users.keys()]])) } });
  }

  // — For pages —

  async timeline(chat: Id, a: { before?: number; after?: number; around?: number; limit: number }): Promise<Page> {
    const room = this.room(chat);
    if (a.around !== undefined) {
      const older = await this.timeline(chat, { before: a.around + 1, limit: a.limit / 2 });
      const newer = await this.timeline(chat, { after: a.around, limit: a.limit / 2 });
      return { entries: [...older.entries, ...newer.entries], atStart: older.atStart, atEnd: newer.atEnd };
    }
    if (a.after !== undefined) {
      const rows = await this.db.walk<EntryRow>("entries", IDBKeyRange.bound([chat, a.after + 1], [chat, maxNumber]), "next", a.limit);
      const atEnd = rows.length < a.limit;
      return { entries: [...await this.views(rows), ...(atEnd ? await this.pendings(chat) : [])], atStart: false, atEnd };
    }
    const below = a.before ?? maxNumber;
    if (a.before === undefined && room.view.joined) void this.refreshMembers(chat).catch(() => {}); // receipts that came while we were away
    let rows = await this.rowsBelow(chat, below, a.limit);
    while (rows.length < a.limit && room.low > Math.max(room.joined, 1)) {
      const low = room.low;
      try {
        await this.older(chat);
      } catch (problem) {
        if (!(problem instanceof Problem)) throw problem;
        break; // away: what is here is shown
      }
      rows = await this.rowsBelow(chat, below, a.limit);
      if (room.low === low) break;
    }
    const atStart = rows.length < a.limit;
    const entries = await this.views(rows.reverse());
    return { entries: a.before === undefined ? [...entries, ...await this.pendings(chat)] : entries, atStart, atEnd: a.before === undefined };
  }

  private rowsBelow(chat: Id, below: number, limit: number) {
    return this.db.walk<EntryRow>("entries", IDBKeyRange.bound([chat, 0], [chat, below], false, true), "prev", limit);
  }

  private older(chat: Id) {
    return serial("take " + chat, async () => {
      const room = this.room(chat);
      const upTo = room.low - 1, after = Math.max(upTo - olderPage, 0);
      const items: Item[] = [];
      for (let at = after; at < upTo;) {
        const page = await this.range(chat, at, upTo, olderPage);
        items.push(...(page.items ?? []));
        if (page.through <= at) break;
        at = page.through;
      }
      await this.keep(room, items, { low: after + 1 });
    });
  }

  private async views(rows: EntryRow[]): Promise<Entry[]> {
    const waiting = await this.queue();
    const entries = await Promise.all(rows.map((row) => this.view(row, waiting)));
    return entries.filter(({ until }) => (until ?? Infinity) > now());
  }

  private byId(chat: Id, id: Id): Promise<EntryRow | undefined> {
    return request(this.db.read("entries").objectStore("entries").index("id").get([chat, id]));
  }

  // An entry as it stands after all that was done to it, also what waits to be sent.
  private async view(row: EntryRow, waiting?: OutboxRow[]): Promise<Entry> {
    const { reply_to, ...base } = await this.vault.open<Base>(row.box);
    const { chat, seq, id, sender, at } = row;
    const entry: Entry = { chat, seq, id, sender, at, ...base, ...(sender === this.me && { state: "sent" as const }) };
    if (reply_to) entry.replyTo = await this.quoted(chat, reply_to);
    const relations = await this.db.all<RelationRow>("relations", IDBKeyRange.bound([chat, id, 0], [chat, id, maxNumber]));
    const ours = (waiting ?? await this.queue()).filter((each) => each.chat === chat).map(({ box }) => ({ sender: this.me, box }));
    for (const each of [...relations, ...ours]) apply(entry, each.sender, await this.vault.open<Content>(each.box));
    if (entry.deleted) for (const field of ["text", "file", "reactions", "replyTo", "edited"] as const) delete entry[field];
    return entry;
  }

  private async quoted(chat: Id, id: Id): Promise<{ id: Id; sender: Id; text: string }> {
    const row = await this.byId(chat, id);
    if (!row) return { id, sender: "", text: "" };
    const { text, file, deleted } = await this.vault.open<Base>(row.box);
    return { id, sender: row.sender, text: deleted ? "" : (text ?? file?.name ?? "") };
  }

  private async learn(entries: Entry[]) {
    const index = await this.index;
    if (!index) return;
    for (const { chat, id, seq, text, deleted } of entries) {
      if (text && !deleted) index.set(chat + id, { chat, seq, text: plain(text) });
      else index.delete(chat + id);
    }
  }

  // Search is over what this device has; nobody else could.
  async search(text: string, chat?: Id): Promise<Found[]> {
    const wanted = plain(text).split(/\s+/).filter(Boolean);
    if (wanted.length === 0) return [];
    const index = await (this.index ??= this.readAll());
    const hits = [...index.values()].filter((entry) => (!chat || entry.chat === chat) && wanted.every((word) => entry.text.includes(word)));
    const rows = await Promise.all(hits.slice(-500).map((hit) => this.db.get<EntryRow>("entries", [hit.chat, hit.seq])));
    const entries = await Promise.all(rows.filter((row) => row !== undefined).sort((a, b) => b.at - a.at).slice(0, 50).map((row) => this.view(row)));
    return entries.map((entry) => ({ entry, chatName: this.rooms.get(entry.chat)?.view.name ?? "" }));
  }

  private async readAll() {
    const index = new Map<Id, { chat: Id; seq: number; text: string }>();
    const rows = await this.db.all<EntryRow>("entries");
    for (let at = 0; at < rows.length; at += 500) { // many at a time use all cores, and calls in between are answered
      await Promise.all(rows.slice(at, at + 500).map(async (row) => {
        const { text, deleted } = await this.vault.open<Base>(row.box);
        if (text && !deleted) index.set(row.chat + row.id, { chat: row.chat, seq: row.seq, text: plain(text) });
      }));
    }
    const edits = await this.db.all<RelationRow>("relations");
    for (const { chat, target, box } of edits) {
      const content = await this.vault.open<Content>(box);
      const entry = index.get(chat + target);
      if (entry && content.kind === "edit") entry.text = plain(content.text);
      if (entry && content.kind === "delete") index.delete(chat + target);
    }
    return index;
  }

  async read(chat: Id, seq: number) {
    const room = this.room(chat);
    if (seq <= room.view.read) return;
    room.view.read = seq;
    this.live.tell({ type: "cursor", conversation_id: chat, read: seq });
    await this.store(room);
    await this.recount(chat);
    this.publish();
  }

  typing(chat: Id, on: boolean) { this.live.tell({ type: "typing", conversation_id: chat, on }); }

  // — Who the others are —

  async judge(chat: Id) {
    const { view } = this.room(chat);
    const others = view.members.map(({ id }) => id).filter((id) => id !== this.me);
    await this.keys.track(others);
    const { changed, verified } = await this.keys.judge(others);
    view.changed = changed;
    view.verified = others.length > 0 && verified.length === others.length;
    this.publish();
  }

  // Somebody's keys are not what they were: look again, and send what was held back.
  async identitiesChanged(users: Id[]) {
    for (const { view } of this.rooms.values()) if (view.joined && view.members.some(({ id }) => users.includes(id))) await this.judge(view.id);
    await this.unlock();
    void this.flush();
  }

  // — Sending —

  private async queue(): Promise<OutboxRow[]> { return this.db.all<OutboxRow>("outbox"); }

  // Says it once, however often it is asked for under this name.
  async say(chat: Id, asked: string, make: (id: Id) => Content) {
    const id = uuid7();
    const content = make(id);
    if (!this.room(chat).view.joined) throw new Problem(403, "not_a_member");
    const row: OutboxRow = { id, chat, at: now(), box: await this.vault.seal(content), state: "sending" };
    const tx = this.db.write("outbox", "seen");
    if (await request(tx.objectStore("seen").get([chat, asked]))) return;
    tx.objectStore("seen").put({ chat, id: asked, seq: 0 } satisfies SeenRow);
    tx.objectStore("outbox").put(row);
    await finished(tx);
    await this.show(row);
    void this.flush();
  }

  private async show(row: OutboxRow) {
    const entry = await this.pending(row);
    const target = entry ? undefined : await this.targetOf(row);
    await this.recount(row.chat);
    this.publish();
    this.emit({ type: "timeline", chat: row.chat, entries: entry ? [entry] : target ? [target] : [], gone: [] });
    await this.countQueue();
  }

  private async countQueue() {
    this.emit({ type: "state", part: { queued: (await this.queue()).filter(({ state }) => state !== "sent").length } });
  }

  private async targetOf(row: OutboxRow): Promise<Entry | undefined> {
    const content = await this.vault.open<Relation>(row.box);
    const found = await this.byId(row.chat, content.target);
    return found && this.view(found);
  }

  private async pending(row: OutboxRow): Promise<Entry | undefined> {
    const content = await this.vault.open<Content>(row.box);
    if (content.kind !== "text" && content.kind !== "file") return undefined;
    return {
      chat: row.chat, id: row.id, seq: 0, sender: this.me, at: row.at, kind: content.kind, state: row.state,
      ...(content.text && { text: content.text }), ...(content.kind === "file" && { file: content.file }),
      ...(content.reply_to && { replyTo: await this.quoted(row.chat, content.reply_to) }), ...(row.failure && { failure: row.failure }),
    };
  }

  private async pendings(chat: Id): Promise<Entry[]> {
    const rows = (await this.queue()).filter((row) => row.chat === chat);
    return (await Promise.all(rows.map((row) => this.pending(row)))).filter((entry) => entry !== undefined);
  }

  async again(chat: Id, id: Id, asked: string) {
    const row = await this.db.get<OutboxRow>("outbox", id);
    if (!row) return;
    const content = await this.vault.open<Content>(row.box);
    await this.discard(chat, id);
    await this.say(chat, asked, (next) => ({ ...content, id: next }));
  }

  async discard(chat: Id, id: Id) {
    await this.db.delete("outbox", id);
    await this.countQueue();
    this.emit({ type: "timeline", chat, entries: [], gone: [id] });
    await this.recount(chat);
    this.publish();
  }

  private async flushNow() {
    const held = new Set<Id>();
    for (const row of await this.queue()) {
      if (!this.live.online) return;
      if (row.state === "sent" || row.state === "failed" || held.has(row.chat)) continue;
      try {
        await this.deliver(row);
      } catch (problem) {
        if (problem instanceof IdentityProblem) {
          held.add(row.chat);
          await this.mark(row.id, { state: "blocked", failure: problem.changed.length > 0 ? "identity_changed" : "no_keys_yet" });
          await this.judge(row.chat).catch(() => {});
        } else if (problem instanceof Problem && problem.passing) {
          clearTimeout(this.retry);
          this.retry = setTimeout(() => void this.flush(), Math.max(problem.retryAfter * 1000, 2000));
          return;
        } else {
          await this.mark(row.id, { state: "failed", failure: problem instanceof Problem ? problem.code : "not_encrypted" });
          if (!(problem instanceof Problem)) console.error(problem);
        }
      }
    }
  }

  // The ciphertext is made once and kept before it leaves: whatever happens, the same bytes go out again.
  private async deliver(row: OutboxRow) {
    const content = await this.vault.open<Content>(row.box);
    const { view } = this.room(row.chat);
    let { body } = row;
    if (!body) {
      if (view.members.length === 0) await this.refreshMembers(row.chat);
      body = await this.keys.encrypt(row.chat, view.members.map(({ id }) => id), content);
      await this.mark(row.id, { body, state: "sending" });
    }
    const clears = content.kind === "delete" ? (await this.byId(row.chat, content.target))?.seq : undefined;
    const sent = await this.live.ask({ type: "send", conversation_id: row.chat, client_id: row.id, body, ...(clears && { clears }) });
    await this.mark(row.id, { state: "sent" });
    this.heard(row.chat, sent["seq"]);
  }

  // Changes what is still there: its echo may have come first.
  private async mark(id: Id, change: Partial<OutboxRow>) {
    const tx = this.db.write("outbox");
    const row = await request<OutboxRow | undefined>(tx.objectStore("outbox").get(id));
    if (!row) return this.countQueue();
    const { failure: _, ...rest } = row;
    const next = { ...rest, ...change };
    tx.objectStore("outbox").put(next);
    await finished(tx);
    if (change.state) await this.show(next);
  }

  // — Changing conversations —

  async openDirect(user: Id): Promise<Id> {
    const conversation = await call<Conversation>("POST", "/v1/conversations", { kind: "direct", user_id: user });
    await this.meet(conversation);
    return conversation.id;
  }

  async createGroup(name: string, users: Id[]): Promise<Id> {
    const conversation = await call<Conversation>("POST", "/v1/conversations", { kind: "group", client_id: uuid7(), name, members: users });
    await this.meet(conversation);
    return conversation.id;
  }

  async change(chat: Id, method: string, path: string, body?: unknown) {
    await call(method, `/v1/conversations/${chat}${path}`, body);
    await this.refreshMembers(chat).catch(() => {});
  }

  async leave(chat: Id) {
    await call("DELETE", `/v1/conversations/${chat}/members/${this.me}`);
    await this.left(chat);
  }

  stop() {
    clearTimeout(this.retry);
    for (const there of this.typists.values()) for (const timer of there.values()) clearTimeout(timer);
  }
}

interface Opened { item: Item; entry?: EntryRow; relation?: RelationRow; waiting?: WaitingRow }

// The box of an entry that is a replay, sealed before it is needed inside a transaction.
const brokenBoxes: { replayed: Box } = { replayed: new Uint8Array() };
async function brokenReady(vault: Vault) {
  if (brokenBoxes.replayed.length === 0) brokenBoxes.replayed = await vault.seal({ kind: "broken", broken: "replayed" } satisfies Base);
}

function changeOf({ event, sender }: Item): Change {
  const { type, users, name, role, message_life } = event!;
  return { type, ...(sender && { by: sender }), ...(users && { users }), ...(name && { name }), ...(role && { role }), ...(message_life && { seconds: message_life }) };
}

// Only its sender changes a message; anybody reacts to it, once with each sign.
function apply(entry: Entry, sender: Id, content: Content) {
  if (!("target" in content) || content.target !== entry.id || entry.kind === "event") return;
  if (content.kind === "react") {
    const others = (entry.reactions ?? []).map(({ key, users }) => ({ key, users: key === content.key ? users.filter((user) => user !== sender) : users }));
    const mine = others.find(({ key }) => key === content.key);
    if (content.on && mine) mine.users.push(sender);
    else if (content.on) others.push({ key: content.key, users: [sender] });
    entry.reactions = others.filter(({ users }) => users.length > 0);
    return;
  }
  if (sender !== entry.sender) return;
  if (content.kind === "delete") entry.deleted = true;
  else {
    entry.text = content.text;
    entry.edited = true;
  }
}

// Text as a search compares it: without case, accents and the bar of đ.
const plain = (text: string) => text.normalize("NFD").replace(/\p{Mn}/gu, "").toLowerCase().replaceAll("đ", "d");
