// One call, as this page is in it: it climbs the ladder of services/video/PROTOCOL.md, and says what is seen and heard.
import { batch, signal, type Signal } from "@preact/signals";
import type { CallKey, CallPeer, Id, OngoingCall } from "../protocol";
import type { Step } from "./chain";
import { Cipher } from "./cipher";
import { Connections } from "./connections";
import { chosen, watchDevices } from "./devices";
import { OwnMedia } from "./media";
import { OwnKeys, type Refused } from "./own";
import { type Member, pictureOf, Room } from "./room";
import { CallProblem, CallSocket, closing } from "./socket";
import { Sound } from "./sound";
import { diagnose, type Trouble } from "./trouble";
import type { Frame, Ice, Joined, Quality, Source, Want } from "./wire";

// What a call asks of the core and of the page around it.
export interface Around {
  user: Id;
  token: (worn?: string) => Promise<string>;
  tellKey: (key: CallKey, to: CallPeer[]) => Promise<Refused[]>;
  look: () => Promise<OngoingCall>;
  hangUp: () => Promise<unknown>;
  member: (user: Id) => boolean; // of the conversation
  slots: number; // pictures at once
}

const lookEvery = 400;
const drains = 200; // milliseconds in which what was decoded before is shown
const retiresAfter = 6000;
const drawnWithin = 600;
const sources: Source[] = ["microphone", "camera", "screen", "screen_audio"];

export class Call {
  readonly phase = signal<"joining" | "joined" | "over">("joining");
  readonly reason = signal(""); // why it is over
  readonly away = signal(false); // the socket is
  readonly flowing = signal(false); // both connections work
  readonly trouble = signal<Trouble | null>(null);
  readonly quality = signal<{ up: Quality; down: Quality }>({ up: "good", down: "good" });
  readonly others = signal<Member[]>([]);
  readonly loudest = signal<Id[]>([]); // users who speak
  readonly pictures = signal<Map<string, MediaStreamTrack>>(new Map()); // by pictureOf
  readonly media = new OwnMedia((source, track, muted) => this.sourceChanged(source, track, muted));
  readonly sound = new Sound();

  private readonly socket: CallSocket;
  private readonly cipher: Cipher;
  private readonly keys: OwnKeys;
  private readonly room: Room;
  private secret = "";
  private current: Connections | null = null;
  private old: Connections[] = []; // until the current ones work
  private early: { key: CallKey; user: Id; device: string }[] = []; // keys of whom we have not been told yet
  private wants = new Map<string, Want>();
  private wanted = "";
  private readonly met = new Map<Id, number>(); // tracks, and when they were first told of
  private awaySince = 0;
  private brokenSince = 0;
  private negotiating = Promise.resolve();
  private readonly timer: number;
  private readonly unwatch: () => void;

  constructor(readonly id: Id, private readonly around: Around) {
    this.cipher = new Cipher({ owner: (place, owner) => this.owned(place, owner), counts: (counts) => this.room.count(this.places, counts, performance.now()) });
    this.room = new Room(around.user, (participant) => this.cipher.forget(participant));
    this.keys = new OwnKeys({ use: (step) => this.cipher.use(step), send: (to, step) => around.tellKey(this.keyOf(step), to) }, () => this.publish());
    this.unwatch = watchDevices(() => void this.sound.through(chosen.speaker.value));
    this.socket = new CallSocket(id, {
      token: around.token,
      ready: () => void this.join(),
      frame: (frame) => this.take(frame),
      lost: (attempts) => this.lost(attempts),
      over: (code) => this.end(code === closing.elsewhere ? "elsewhere" : code === closing.notMember ? "removed" : "left"),
    });
    this.timer = window.setInterval(() => void this.look(), lookEvery);
    addEventListener("pagehide", this.hidden);
  }

  // — Coming and going —

  private async join() {
    try {
      const resume = this.secret ? { participant_id: this.room.me, secret: this.secret } : undefined;
      this.joined(await this.socket.join(resume, this.around.slots));
    } catch (problem) {
      if (!(problem instanceof CallProblem) || problem.passing) return this.socket.again();
      this.end("refused." + problem.code);
    }
  }

  private joined(frame: Joined) {
    this.secret = frame.secret;
    this.wanted = "";
    this.awaySince = 0;
    this.room.me = frame.participant_id;
    this.room.are(frame.participants, !frame.resumed, performance.now());
    if (frame.resumed && this.current) this.resumed(this.current, frame.ice);
    else this.connect(frame.ice);
    this.takeEarlyKeys();
    batch(() => {
      this.phase.value = "joined";
      this.away.value = false;
      this.publish();
    });
    void this.look();
  }

  // What was said last may not have been heard.
  private resumed(connections: Connections, ice: Ice) {
    this.keys.are(this.room.peers);
    connections.renew(ice);
    for (const source of sources) this.tellMute(source);
    for (const leg of [connections.upLeg, connections.downLeg]) leg.again();
    if (connections.up.pc.signalingState !== "stable") void this.negotiate(false);
  }

  // Makes both connections. Those there were go on until these work.
  private connect(ice: Ice) {
    this.keys.begin(this.room.peers);
    if (this.current) this.old.push(this.current);
    const { up } = this.current = new Connections(ice, this.cipher, () => this.publish());
    const { microphone, camera, screen, sharedSound } = this.media;
    up.add("microphone", microphone.value.track, !microphone.value.on);
    up.add("camera", camera.value.track, !camera.value.on);
    if (screen.value) up.add("screen", screen.value, false);
    if (sharedSound) up.add("screen_audio", sharedSound, false);
    void this.negotiate(false);
  }

  private lost(attempts: number) {
    this.awaySince ||= performance.now();
    this.away.value = true;
    if (attempts > 0 && attempts % 3 === 0) void this.askWhetherItGoesOn();
  }

  private async askWhetherItGoesOn() {
    const { state, reason } = await this.around.look().catch(() => ({ state: "live", reason: "" }));
    if (state === "ended") this.end(reason);
  }

  leave() {
    if (this.phase.value === "over") return; // what goes on elsewhere is not this page's to end
    if (this.socket.open) this.socket.tell({ type: "leave" });
    else void this.around.hangUp().catch(() => {});
    this.end("left");
  }

  private readonly hidden = () => this.leave();

  private end(reason: string) {
    if (this.phase.value === "over") return;
    removeEventListener("pagehide", this.hidden);
    clearInterval(this.timer);
    this.unwatch();
    this.keys.stop();
    this.media.stop();
    this.sound.stop();
    for (const connections of this.all) connections.close();
    this.socket.stop();
    this.cipher.end();
    batch(() => {
      this.reason.value = reason;
      this.phase.value = "over";
      this.pictures.value = new Map();
    });
  }

  // — Frames —

  private take(frame: Frame) {
    switch (frame.type) {
      case "offer": return this.offered(frame.version, frame.sdp);
      case "participant":
        this.room.take(frame.participant);
        return this.peopleChanged();
      case "gone":
        this.room.leave(frame.participant_id);
        return this.peopleChanged();
      case "slots": return this.current?.down.carry(frame.slots);
      case "speakers":
        this.room.speak((frame.speakers ?? []).map(({ participant_id }) => participant_id));
        return this.publish();
      case "quality":
        this.quality.value = { up: frame.up, down: frame.down };
        this.room.rate(frame.participants ?? {});
        return this.publish();
      case "layers": return this.current?.up.layers(frame.mid, frame.active ?? []);
      case "ice": return this.current?.renew(frame.ice);
      case "moved": return this.rejoin();
      case "ended": return this.end(frame.reason);
    }
  }

  private offered(version: number, sdp: string) {
    void this.current?.down.offered(version, sdp, (answer) => this.socket.tell({ type: "answer", version, sdp: answer }));
  }

  private peopleChanged() {
    this.keys.are(this.room.peers);
    this.takeEarlyKeys();
    this.publish();
  }

  // — What this device sends —

  // Offers what there is to send. A socket that ends meanwhile is no harm: whoever resumes offers again.
  private negotiate(restart: boolean): Promise<void> {
    return this.negotiating = this.negotiating.then(async () => {
      const up = this.current?.up;
      if (!up || up.pc.signalingState === "closed") return;
      const sdp = await up.offer(restart);
      const answer = await this.socket.ask({ type: "offer", sdp, tracks: up.tracks });
      if (answer.type === "answer" && up === this.current?.up) await up.answered(answer.sdp);
    }).catch(() => {});
  }

  private async sourceChanged(source: Source, track: MediaStreamTrack | null, muted: boolean) {
    const up = this.current?.up;
    if (!up) return; // it is taken up when there is one
    if (!up.has(source)) {
      up.add(source, track, muted);
      return this.negotiate(false);
    }
    up.mute(source, muted);
    await up.replace(source, track);
    this.tellMute(source);
  }

  private tellMute(source: Source) {
    const up = this.current?.up;
    const mid = up?.mid(source);
    if (mid) this.socket.tell({ type: "mute", mid, on: up!.muted(source) });
  }

  // — Keys —

  private keyOf({ chain, step, key }: Step): CallKey {
    return { call: this.id, participant: this.room.me, chain, step, key: btoa(String.fromCharCode(...key)).replace(/=+$/, "") };
  }

  // A key that was proven to come from this user's device. It counts for the participant who is that one, and for no other.
  key(key: CallKey, user: Id, device: string) {
    if (key.call !== this.id || this.phase.value === "over") return;
    this.early = [...this.early, { key, user, device }].slice(-256);
    this.takeEarlyKeys();
  }

  private takeEarlyKeys() {
    this.early = this.early.filter(({ key, user, device }) => {
      const participant = this.room.participant(key.participant);
      if (!participant || !this.around.member(user)) return true;
      if (participant.user_id !== user || participant.device_id !== device) return false;
      this.cipher.take(key.participant, { chain: key.chain, step: key.step, key: Uint8Array.from(atob(key.key), (char) => char.charCodeAt(0)) });
      return false;
    });
  }

  // Who is trusted may have changed.
  reconsider() {
    this.keys.reconsider();
    this.takeEarlyKeys();
  }

  // — What is seen and heard —

  private get all() { return this.current ? [...this.old, this.current] : this.old; }
  private get places() { return this.all.flatMap(({ down }) => [...down.places.values()]); }

  // Another's key opens what comes at a place. The last owner's picture goes at once, the new one's comes when nothing is left of it.
  private owned(name: string, owner: Id) {
    const place = this.places.find((each) => each.name === name);
    if (!place) return;
    const show = () => {
      place.owner = owner;
      this.publish();
      this.cipher.show(name, owner);
    };
    if (!place.owner) return show();
    place.owner = "";
    this.publish();
    setTimeout(show, drains);
  }

  private publish() {
    if (this.phase.value === "over") return;
    const now = performance.now(), { places } = this;
    batch(() => {
      renew(this.others, this.room.members(this.keys.refused, now));
      renew(this.loudest, this.room.loudest(now));
      const pictures = this.room.pictures(places);
      if (pictures.size !== this.pictures.value.size || [...pictures].some(([key, track]) => this.pictures.value.get(key) !== track)) this.pictures.value = pictures;
    });
    for (const { name, kind, track } of places) if (kind === "audio") this.sound.play(name, track);
  }

  // How large the pictures are on the screen, by pictureOf.
  want(wants: Map<string, Want>) {
    this.wants = wants;
    this.tellWants();
  }

  private tellWants() {
    if (!this.socket.open || this.phase.value !== "joined") return;
    const want: Record<Id, Want> = {};
    for (const { user_id, tracks } of this.room.participants) {
      for (const { id, source, muted } of tracks ?? []) {
        if (!muted && (source === "camera" || source === "screen")) want[id] = this.wants.get(pictureOf(user_id, source)) ?? this.unseen(id);
      }
    }
    const wanted = JSON.stringify(want);
    if (wanted === this.wanted) return;
    this.wanted = wanted;
    this.socket.tell({ type: "want", want });
  }

  // What is drawn in a moment is not refused until then.
  private unseen(track: Id): Want {
    if (!this.met.has(track)) this.met.set(track, performance.now());
    return performance.now() - this.met.get(track)! < drawnWithin ? "medium" : "off";
  }

  // — The ladder —

  private async look() {
    const connections = this.current;
    if (!connections || this.phase.value === "over") return;
    await connections.look([...connections.down.places.values()].some((place) => this.room.expects(place)));
    if (connections !== this.current || this.phase.value !== "joined") return;
    this.climb(connections);
    this.retire(connections);
    this.tellWants();
    this.publish();
    this.say(connections);
  }

  private climb(connections: Connections) {
    if (!this.socket.open) return;
    const now = performance.now(), { up, down } = connections.judge(now);
    if (up === "rejoin" || down === "rejoin") return this.rejoin();
    if (up !== "restart" && down !== "restart" && !connections.narrow) return;
    // What ended one has ended the other as well, and often the socket; not each of them is found out as soon.
    this.socket.probe();
    connections.restart(now);
    void this.negotiate(true);
    this.socket.tell({ type: "restart" });
  }

  private rejoin() {
    this.secret = "";
    this.socket.again();
  }

  private retire(connections: Connections) {
    if (this.old.length === 0 || (!connections.stood && performance.now() - connections.made < retiresAfter)) return;
    for (const old of this.old.splice(0)) {
      for (const { name } of old.down.places.values()) this.sound.end(name);
      old.close();
    }
  }

  private say(connections: Connections) {
    const now = performance.now();
    this.flowing.value = connections.work;
    this.brokenSince = connections.work ? 0 : this.brokenSince || now;
    const facts = { serverAway: this.awaySince && now - this.awaySince, waiting: this.brokenSince && now - this.brokenSince, connections: connections.facts };
    this.trouble.value = diagnose(facts);
  }
}

// What has not changed is not drawn again.
function renew<T>(part: Signal<T>, value: T) {
  if (JSON.stringify(part.value) !== JSON.stringify(value)) part.value = value;
}
