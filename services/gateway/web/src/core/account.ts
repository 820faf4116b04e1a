// Everything of one signed-in person on this device, from the first byte read to signing out.
import type { Event, Id, Me, State } from "../protocol";
import { CallKeys } from "./callkeys";
import { Calling } from "./calls";
import { Chats } from "./chats";
import { Keys } from "./crypto";
import { Database, open, sweep } from "./db";
import { type Frame, Live } from "./live";
import { serial } from "./lock";
import { People } from "./people";
import { Recovery } from "./recovery";
import { Problem } from "./session";
import { Vault } from "./vault";
import { Verifying } from "./verification";

export class Account {
  private stopped = false;
  private ready = false;
  private connections = 0;

  private constructor(
    readonly me: Me, private readonly db: Database, readonly keys: Keys, readonly people: People, readonly chats: Chats,
    readonly live: Live, readonly recovery: Recovery, readonly verifying: Verifying, readonly calls: Calling, readonly callKeys: CallKeys,
  ) {}

  static names = (me: Me) => ({ data: `secureconnect-${me.id}-${me.deviceId}`, keys: `secureconnect-keys-${me.id}-${me.deviceId}` });

  static async open(me: Me, emit: (event: Event) => void, watched: (chat: Id | null) => boolean): Promise<Account> {
    const state = (part: Partial<State>) => emit({ type: "state", part });
    const names = Account.names(me);
    // Not waited for: a store of this browser's last session may be open until the browser tidies up.
    void sweep((name) => name.startsWith(names.data) || name.startsWith(names.keys)).catch(() => {});
    const db = new Database(await open(names.data));
    const vault = await Vault.open(db);
    let account: Account;
    const quietly = (work: () => Promise<unknown>) => void work().catch((problem) => account.complain(problem));
    const surely = (work: () => Promise<unknown>) => quietly(async () => account.persist(work));
    const keys = await Keys.open(names.keys, vault.storeKey, db, me, {
      keysArrived: (sessions) => surely(async () => { await account.chats.unlock(sessions); await account.recovery.save(); }),
      identitiesChanged: (users) => surely(async () => {
        if (users.includes(me.id) && account.ready) await account.recovery.judge();
        await account.chats.identitiesChanged(users);
        await account.callKeys.reconsider();
      }),
      verification: (event) => quietly(() => account.verifying.arrived(event)),
      secret: () => surely(() => account.recovery.judge()),
      callKey: (sender, device, content) => surely(() => account.callKeys.arrived(sender, device, content)),
    });
    const live = new Live({
      ready: () => {
        account.connections++;
        surely(() => account.connected());
      },
      frame: (frame) => surely(() => account.frame(frame)),
      state: (connection) => {
        state({ connection });
        if (connection !== "online") account.people.away();
      },
    });
    const people = new People(db, state, me.id);
    const chats = new Chats(me.id, db, vault, keys, people, live, emit, watched);
    const recovery = new Recovery(keys, db, vault, {
      state: (device) => state({ device }), key: (recoveryKey) => state({ recoveryKey }), backup: (backup) => state({ backup }),
    });
    const verifying = new Verifying(keys, (verification) => state({ verification }), async () => {
      await keys.queryOwn();
      await keys.machine.requestMissingSecretsIfNeeded();
      await keys.pump();
      await recovery.judge();
      await chats.identitiesChanged(people.watched());
    });
    const calls = new Calling(me, chats, people, emit, watched);
    const callKeys = new CallKeys(keys, chats, emit);
    account = new Account(me, db, keys, people, chats, live, recovery, verifying, calls, callKeys);
    await people.load();
    await chats.load();
    live.start();
    quietly(() => account.begin());
    return account;
  }

  // What needs the server once; away, it is tried again with the next connection.
  private begin(): Promise<void> {
    return serial("begin", async () => {
      if (this.ready) return;
      await this.keys.receive();
      await this.recovery.start();
      this.ready = true;
      await this.chats.identitiesChanged([this.me.id]);
    });
  }

  // Tries again what a server cannot do now, for as long as this socket lasts: the next one begins with all of it.
  private async persist(work: () => Promise<unknown>) {
    const { connections } = this;
    for (let pause = 500; ; pause = Math.min(2 * pause, 30_000)) {
      try {
        await work();
        return;
      } catch (problem) {
        if (!(problem instanceof Problem && problem.passing)) throw problem;
        await new Promise((done) => setTimeout(done, Math.max(pause * (1 + Math.random()) / 2, problem.retryAfter * 1000)));
        if (this.stopped || !this.live.online || connections !== this.connections) throw problem;
      }
    }
  }

  private async connected() {
    await this.begin();
    await Promise.all([this.keys.receive(), this.people.refresh(), this.chats.sync(), this.recovery.save(), this.calls.missed()]);
    this.watch();
  }

  private watch() {
    const users = this.people.watched();
    if (users.length > 0) this.live.tell({ type: "watch", users: users.slice(0, 500) });
  }

  private async frame(frame: Frame) {
    switch (frame.type) {
      case "inbox": return this.keys.receive();
      case "calls": return this.calls.refresh();
      case "presence": return this.people.seen(frame["users"]);
      case "contacts":
        await this.people.refresh();
        return this.watch();
      default: return this.chats.frame(frame);
    }
  }

  private complain(problem: unknown) {
    if (this.stopped || (problem instanceof Problem && problem.passing)) return;
    console.error(problem);
  }

  async stop() {
    this.stopped = true;
    this.live.stop();
    this.chats.stop();
    this.keys.close();
    this.db.close();
  }

  // Leaves nothing behind. The browser finishes once the stores are closed.
  async erase() {
    await this.stop();
    await sweep(() => false).catch(() => {});
  }
}
