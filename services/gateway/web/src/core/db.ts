// IndexedDB with promises, and the shape of what a device keeps.
import type { Id } from "../protocol";

export function request<T>(r: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    r.onsuccess = () => resolve(r.result);
    r.onerror = () => reject(r.error);
  });
}

export function finished(tx: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    tx.oncomplete = () => resolve();
    tx.onabort = tx.onerror = () => reject(tx.error);
  });
}

// Rows carry in clear only what finds them; whatever a person wrote is in a sealed box.
export type Box = Uint8Array<ArrayBuffer>;
export interface EntryRow { chat: Id; seq: number; id: Id; sender: Id; at: number; box: Box }
export interface RelationRow { chat: Id; target: Id; seq: number; sender: Id; box: Box }
export interface WaitingRow { chat: Id; seq: number; session: string; why: string; item: Box }
export interface OutboxRow { id: Id; chat: Id; at: number; box: Box; body?: string; state: "sending" | "sent" | "blocked" | "failed"; failure?: string }
export interface SeenRow { chat: Id; id: Id; seq: number }
export interface ChatRow { id: Id; low: number; through: number; box: Box }

const stores: Record<string, { key: string | string[]; indexes?: Record<string, string | string[]> }> = {
  meta: { key: "name" },
  chats: { key: "id" },
  people: { key: "id" },
  entries: { key: ["chat", "seq"], indexes: { id: ["chat", "id"] } },
  relations: { key: ["chat", "target", "seq"] },
  seen: { key: ["chat", "id"] }, // every message's name once: a second one under it is a replay; and what was asked to be said
  waiting: { key: ["chat", "seq"], indexes: { session: "session" } },
  outbox: { key: "id" },
};
export type Store = "meta" | "chats" | "people" | "entries" | "relations" | "seen" | "waiting" | "outbox";

export function open(name: string): Promise<IDBDatabase> {
  const r = indexedDB.open(name, 1);
  r.onupgradeneeded = () => {
    for (const [store, { key, indexes = {} }] of Object.entries(stores)) {
      const made = r.result.createObjectStore(store, { keyPath: key });
      for (const [index, path] of Object.entries(indexes)) made.createIndex(index, path);
    }
  };
  return request(r);
}

// Removes what other sessions left in this browser.
export async function sweep(keep: (name: string) => boolean) {
  const names = (await indexedDB.databases?.() ?? []).map(({ name }) => name ?? "");
  await Promise.all(names.filter((name) => name.startsWith("secureconnect") && !keep(name)).map((name) => request(indexedDB.deleteDatabase(name))));
}

export class Database {
  constructor(private readonly db: IDBDatabase) {}

  read(...names: Store[]) { return this.db.transaction(names, "readonly"); }
  write(...names: Store[]) { return this.db.transaction(names, "readwrite"); }

  get<T>(store: Store, key: IDBValidKey): Promise<T | undefined> {
    return request(this.read(store).objectStore(store).get(key));
  }

  all<T>(store: Store, range?: IDBKeyRange): Promise<T[]> {
    return request(this.read(store).objectStore(store).getAll(range));
  }

  async put(store: Store, row: unknown) {
    const tx = this.write(store);
    tx.objectStore(store).put(row);
    await finished(tx);
  }

  async delete(store: Store, key: IDBValidKey | IDBKeyRange) {
    const tx = this.write(store);
    tx.objectStore(store).delete(key);
    await finished(tx);
  }

  // Up to limit rows of a range, the newest first or the oldest first.
  walk<T>(store: Store, range: IDBKeyRange, direction: "next" | "prev", limit: number): Promise<T[]> {
    return new Promise((resolve, reject) => {
      const rows: T[] = [];
      const cursor = this.read(store).objectStore(store).openCursor(range, direction);
      cursor.onerror = () => reject(cursor.error);
      cursor.onsuccess = () => {
        const at = cursor.result;
        if (!at || rows.push(at.value) >= limit) resolve(rows);
        else at.continue();
      };
    });
  }

  close() { this.db.close(); }
}
