// A server that lies to one person: it stands between their browser and the platform and can make any key it likes.
import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import type { Request, Route, WebSocketRoute } from "@playwright/test";
import type { Person } from "./person";

type Json = Record<string, any>;

// What is signed here has only texts in it (Matrix canonical JSON).
const canonical = (value: any): string => typeof value !== "object" ? JSON.stringify(value)
  : Array.isArray(value) ? "[" + value.map(canonical).join() + "]"
  : "{" + Object.keys(value).sort().map((key) => JSON.stringify(key) + ":" + canonical(value[key])).join() + "}";

class Signer {
  private readonly key: KeyObject;
  readonly name: string; // the public half

  constructor() {
    const { privateKey, publicKey } = generateKeyPairSync("ed25519");
    this.key = privateKey;
    this.name = raw(publicKey);
  }

  sign(user: string, id: string, object: Json): Json {
    const { signatures = {}, ...rest } = object;
    const signature = sign(null, Buffer.from(canonical(rest)), this.key).toString("base64").replace(/=+$/, "");
    return { ...rest, signatures: { [user]: { ...signatures[user], ["ed25519:" + id]: signature } } };
  }
}

const raw = (key: KeyObject) => Buffer.from(key.export({ format: "jwk" }).x!, "base64url").toString("base64").replace(/=+$/, "");
const olmKey = () => raw(generateKeyPairSync("x25519").publicKey);

// A device of a user that the user does not have.
class Ghost {
  static readonly id = "GHOST";
  private readonly signer = new Signer();
  readonly keys: Json;

  constructor(private readonly user: string) {
    this.keys = this.signer.sign(user, Ghost.id, {
      user_id: user, device_id: Ghost.id, algorithms: ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
      keys: { ["ed25519:" + Ghost.id]: this.signer.name, ["curve25519:" + Ghost.id]: olmKey() },
    });
  }

  oneTimeKey(): Json { return { "signed_curve25519:AAAAAA": this.signer.sign(this.user, Ghost.id, { key: olmKey() }) }; }
}

export class Liar {
  readonly ghost = Ghost.id;
  private readonly ghosts = new Map<string, Ghost>();
  private readonly master = new Signer();
  private readonly selfSigning = new Signer();
  private swapped = "";
  private news: { user: string; spread: boolean; seen: () => void } | null = null;
  readonly keysSentTo = new Set<string>(); // devices, by what the victim sent for them
  private withheld: Json[] | null = null; // of what was sent to the victim's device
  private returned: Json[] = [];
  swaps = 0; // of pictures, in calls
  private exchanging: "pictures" | "people" | "nothing" = "nothing";

  private constructor(private readonly victim: Person) {}

  static async before(victim: Person): Promise<Liar> {
    const liar = new Liar(victim), { context } = victim;
    await context.route("**/v1/keys/query", (route) => liar.change(route, (answer) => liar.query(answer)));
    await context.route("**/v1/keys/claim", (route) => liar.change(route, (answer) => liar.claim(answer, route.request())));
    await context.route("**/v1/keys/sync?*", (route) => liar.change(route, (answer) => liar.sync(answer)));
    await context.route("**/v1/keys/sendToDevice/**", async (route) => {
      const { messages } = route.request().postDataJSON() as Json;
      if (route.request().url().includes("/m.room.encrypted/")) for (const devices of Object.values<Json>(messages)) for (const id of Object.keys(devices)) liar.keysSentTo.add(id);
      await route.continue();
    });
    return liar;
  }

  haunt(...users: string[]) {
    for (const user of users) this.ghosts.set(user, new Ghost(user));
  }

  swap(user: string) { this.swapped = user; }

  repent() {
    this.swapped = "";
    this.ghosts.clear();
  }

  // Says that the keys of a user have changed, and returns when the victim has looked at them.
  async tell(user: string) {
    const seen = new Promise<void>((resolve) => { this.news = { user, spread: false, seen: resolve }; });
    this.victim.line.cut();
    this.victim.line.mend();
    await seen;
  }

  // Keeps what is sent to the victim's device, and gives it back.
  withhold() { this.withheld = []; }

  async giveBack() {
    const inbox = this.victim.page.waitForResponse("**/v1/keys/sync?*");
    this.returned = this.withheld ?? [];
    this.withheld = null;
    this.victim.line.cut(); // whoever connects again asks what there is
    this.victim.line.mend();
    await inbox;
  }

  // Says in calls that one participant's picture is another one's, or that one participant is another one.
  static async inCallsOf(victim: Person): Promise<Liar> {
    const liar = new Liar(victim);
    await victim.page.routeWebSocket(/\/v1\/calls\//, (socket) => liar.inCall(socket));
    return liar;
  }

  exchangeInCalls(what: "pictures" | "people" | "nothing") { this.exchanging = what; }

  private inCall(near: WebSocketRoute) {
    const far = near.connectToServer();
    const cameras = new Set<string>(), places = new Map<string, string>(), identities = new Map<string, Json>();
    far.onMessage((message) => {
      const frame = JSON.parse(message as string) as Json;
      const people: Json[] = frame.type === "joined" ? frame.participants : frame.type === "participant" ? [frame.participant] : [];
      for (const { tracks } of people) for (const { id, source } of tracks ?? []) if (source === "camera") cameras.add(id);
      if (frame.type === "joined" && this.exchanging === "people") {
        const [one, other] = people.filter(({ id }) => id !== frame.participant_id).map(({ id, user_id, device_id }): [string, Json] => [id, { user_id, device_id }]);
        if (one && other) identities.set(one[0], other[1]).set(other[0], one[1]);
      }
      for (const person of people) Object.assign(person, identities.get(person.id));
      if (frame.type === "slots" && this.exchanging === "pictures") frame.slots = this.exchange(frame.slots, cameras, places);
      near.send(JSON.stringify(frame));
    });
  }

  private exchange(slots: Json[], cameras: Set<string>, places: Map<string, string>): Json[] {
    for (const { mid, track_id } of slots) places.set(mid, track_id);
    const pictures = [...places].filter(([, track]) => cameras.has(track)), rest = slots.filter(({ track_id }) => !cameras.has(track_id));
    if (pictures.length < 2) return slots;
    this.swaps++;
    return [...rest, ...pictures.map(([mid], i) => ({ mid, track_id: pictures[(i + 1) % pictures.length]![1] }))];
  }

  // Says something else of messages, by their names.
  rewrite(lies: Map<string, Json>) {
    return this.victim.context.route("**/v1/conversations/*/messages?*", (route) => this.change(route, (answer) => {
      answer.items = answer.items.map((item: Json) => ({ ...item, ...lies.get(item.client_id) }));
    }));
  }

  away() { return this.victim.context.unrouteAll({ behavior: "wait" }); }

  private async change(route: Route, change: (answer: Json) => void) {
    try {
      const response = await route.fetch();
      const answer = await response.json() as Json;
      change(answer);
      await route.fulfill({ response, json: answer });
    } catch { // the line was cut
      await route.abort();
    }
  }

  private query(answer: Json) {
    for (const user of Object.keys(answer.device_keys)) {
      const ghost = this.ghosts.get(user);
      if (user === this.swapped) this.swapIdentity(answer, user);
      if (ghost) answer.device_keys[user][Ghost.id] = user === this.swapped ? this.selfSigning.sign(user, this.selfSigning.name, ghost.keys) : ghost.keys;
    }
    if (this.news?.spread && this.news.user in answer.device_keys) this.news.seen();
  }

  private swapIdentity(answer: Json, user: string) {
    const key = (usage: string, { name }: Signer) => ({ user_id: user, usage: [usage], keys: { ["ed25519:" + name]: name } });
    answer.master_keys[user] = this.master.sign(user, this.master.name, key("master", this.master));
    answer.self_signing_keys[user] = this.master.sign(user, this.master.name, key("self_signing", this.selfSigning));
  }

  private claim(answer: Json, request: Request) {
    for (const [user, devices] of Object.entries<Json>(request.postDataJSON().one_time_keys)) {
      const ghost = this.ghosts.get(user);
      if (ghost && Ghost.id in devices) (answer.one_time_keys[user] ??= {})[Ghost.id] = ghost.oneTimeKey();
    }
  }

  private sync(answer: Json) {
    answer.to_device.events.unshift(...this.returned.splice(0));
    if (this.withheld) this.withheld.push(...answer.to_device.events.splice(0));
    if (!this.news || this.news.spread) return;
    answer.device_lists.changed = [...answer.device_lists.changed ?? [], this.news.user];
    this.news.spread = true;
  }
}
