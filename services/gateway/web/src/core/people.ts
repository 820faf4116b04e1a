// Who there is: contacts, members of conversations, and who of them is here now.
import type { Id, Person, Presence, Relation, State } from "../protocol";
import type { Database } from "./db";
import { call, Problem } from "./session";
import type { Profile } from "./wire";

const personOf = (p: Profile): Person => ({
  id: p.id, username: p.username, name: p.display_name || p.username, relation: p.state ?? p.relation ?? "none", ...(p.since && { since: p.since }),
});

export class People {
  readonly known = new Map<Id, Person>();
  private contacts: Id[] = [];
  private presence: Record<Id, Presence> = {};
  private readonly asking = new Map<Id, Promise<void>>();

  constructor(private readonly db: Database, private readonly emit: (part: Partial<State>) => void, private readonly me: Id) {}

  async load() {
    for (const person of await this.db.all<Person>("people")) this.known.set(person.id, person);
    this.contacts = [...this.known.values()].filter(({ relation }) => !["none", "self"].includes(relation)).map(({ id }) => id);
    this.publish();
  }

  name(id: Id) { return this.known.get(id)?.name ?? ""; }

  // All relations, from the server.
  async refresh() {
    const found: Person[] = [];
    for (let after = ""; ;) {
      const page = await call<{ contacts: Profile[] | null; next?: Id }>("GET", "/v1/contacts" + (after && "?after=" + after));
      found.push(...(page.contacts ?? []).map(personOf));
      if (!page.next) break;
      after = page.next;
    }
    const now = new Set(found.map(({ id }) => id));
    const left = this.contacts.filter((id) => !now.has(id)).map((id) => ({ ...this.known.get(id)!, relation: "none" as Relation }));
    await this.keep([...found, ...left]);
    this.contacts = [...now];
    this.publish();
  }

  watched() { return this.contacts.filter((id) => this.known.get(id)?.relation === "contact"); }

  // Learns the names of people met in conversations. Who cannot be looked up stays without a name.
  async ensure(ids: Id[]) {
    const unknown = ids.filter((id) => !this.known.has(id));
    for (const id of unknown) if (!this.asking.has(id)) this.asking.set(id, this.ask(id).finally(() => this.asking.delete(id)));
    await Promise.all(unknown.map((id) => this.asking.get(id)));
  }

  private async ask(id: Id) {
    try {
      await this.keep([personOf(await call<Profile>("GET", "/v1/users/" + id))]);
      this.publish();
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
    }
  }

  private async keep(people: Person[]) {
    if (people.length === 0) return;
    const tx = this.db.write("people");
    for (const person of people) {
      this.known.set(person.id, person);
      tx.objectStore("people").put(person);
    }
  }

  async find(text: string): Promise<Person[]> {
    const { users } = await call<{ users: Profile[] | null }>("GET", "/v1/users?search=" + encodeURIComponent(text));
    return (users ?? []).map(personOf).filter(({ id }) => id !== this.me);
  }

  async change(method: string, path: string, body?: unknown) {
    await call(method, "/v1/contacts" + path, body);
    await this.refresh();
  }

  seen(users: { user_id: Id; online: boolean; seen_at?: string }[]) {
    const next = { ...this.presence };
    for (const { user_id, online, seen_at } of users) next[user_id] = { online, ...(seen_at && { seenAt: seen_at }) };
    this.emit({ presence: this.presence = next });
  }

  away() { this.emit({ presence: this.presence = {} }); }

  publish() { this.emit({ people: Object.fromEntries(this.known), contacts: [...this.contacts] }); }
}
