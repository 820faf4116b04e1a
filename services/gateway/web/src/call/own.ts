// Our own key in a call: who has been told it, one step further for whoever comes, another one when somebody leaves.
import type { Id } from "../protocol";
import { lastStep, newChain, nextStep, type Step } from "./chain";

export interface Peer { participant: Id; user: Id; device: string }

export interface Clock { now: () => number; after: (milliseconds: number, work: () => void) => () => void }

export const clock: Clock = {
  now: () => performance.now(),
  after: (milliseconds, work) => {
    const timer = setTimeout(work, milliseconds);
    return () => clearTimeout(timer);
  },
};

export interface Post {
  use: (step: Step) => void; // for the frames from now on
  send: (to: Peer[], step: Step) => Promise<Refused[]>; // says who must not have it
}

export interface Refused { participant: Id; why: string }

const settles = 500; // milliseconds in which a new key that was sent should have come
const atLatest = 2000; // after which whoever left reads nothing more
const longestPause = 5000;
const toldEvery = 16; // steps: as far as receivers go by themselves, should they hear nothing for long

// What a peer has been told: none of it before they are admitted.
type Told = Peer & { admitted: boolean; chains: Set<number>; refused: string };

const stranger = (peer: Peer): Told => ({ ...peer, admitted: false, chains: new Set(), refused: "" });

export class OwnKeys {
  readonly refused = new Map<Id, string>(); // participants who are not told, and why
  private readonly peers = new Map<Id, Told>();
  private current = newChain();
  private next: { step: Step; from: number; until: number } | null = null;
  private sending = false;
  private failures = 0;
  private stopped = false;
  private steps = Promise.resolve(); // one after the other
  private cancelTimer = () => {};
  private cancelRetry = () => {};

  constructor(private readonly post: Post, private readonly changed: () => void, private readonly time: Clock = clock) {}

  // We are in the call, under a name nobody has a key for.
  begin(peers: Peer[]) {
    this.cancelTimer();
    this.current = newChain();
    this.next = null;
    this.peers.clear();
    for (const peer of peers) this.peers.set(peer.participant, { ...stranger(peer), admitted: true });
    this.post.use(this.current);
    void this.deliver();
  }

  // Who is in the call now; whom we do not know has come, and whoever is missing has left.
  are(peers: Peer[]) {
    const now = new Set(peers.map(({ participant }) => participant));
    const came = peers.filter(({ participant }) => !this.peers.has(participant));
    const left = [...this.peers.keys()].filter((participant) => !now.has(participant));
    for (const participant of left) this.peers.delete(participant);
    if (left.length > 0) this.renew();
    for (const peer of came) this.peers.set(peer.participant, stranger(peer));
    if (came.length > 0) this.steps = this.steps.then(() => this.admit());
    this.judge();
  }

  // Somebody who was refused may be trusted by now.
  reconsider() {
    for (const peer of this.peers.values()) peer.refused = "";
    void this.deliver();
  }

  stop() {
    this.stopped = true;
    this.cancelTimer();
    this.cancelRetry();
  }

  // Takes one step for all who came, so that they read nothing of before.
  private async admit() {
    const came = [...this.peers.values()].filter(({ admitted }) => !admitted);
    if (came.length === 0) return;
    if (this.current.step === lastStep) {
      for (const { chains } of came) chains.add(this.current.chain); // what there is of it they need not read
      this.renew();
    } else {
      let before: Step, next: Step;
      do {
        before = this.current;
        next = await nextStep(before);
      } while (before !== this.current && !this.stopped);
      if (this.stopped) return;
      this.post.use(this.current = next);
      if (next.step % toldEvery === 0) for (const { chains } of this.peers.values()) chains.delete(next.chain);
    }
    for (const peer of came) peer.admitted = true;
    void this.deliver();
  }

  // Draws another chain. Whoever left before the last one was used counts for the time that is left.
  private renew() {
    const now = this.time.now();
    this.next = { step: newChain(), from: now + settles, until: this.next?.until ?? now + atLatest };
    this.wait();
    void this.deliver();
  }

  private wait() {
    this.cancelTimer();
    if (!this.next) return;
    const told = this.lacking(this.next.step).length === 0;
    const due = told ? Math.min(this.next.from, this.next.until) : this.next.until;
    this.cancelTimer = this.time.after(Math.max(0, due - this.time.now()), () => this.turn());
  }

  private turn() {
    if (!this.next || this.stopped) return;
    this.current = this.next.step;
    this.next = null;
    this.post.use(this.current);
  }

  private lacking({ chain }: Step) { return [...this.peers.values()].filter(({ admitted, chains, refused }) => admitted && !refused && !chains.has(chain)); }

  // Tells whoever has not been told, for as long as there is somebody.
  private async deliver() {
    if (this.sending || this.stopped) return;
    this.sending = true;
    try {
      for (let step = this.owed(); step; step = this.owed()) await this.tell(this.lacking(step), step);
      this.failures = 0;
    } catch {
      this.cancelRetry();
      this.cancelRetry = this.time.after(Math.min(longestPause, 250 * 2 ** this.failures++), () => void this.deliver());
    } finally {
      this.sending = false;
      this.judge();
    }
  }

  private owed(): Step | null {
    if (this.stopped) return null;
    if (this.lacking(this.current).length > 0) return this.current;
    return this.next && this.lacking(this.next.step).length > 0 ? this.next.step : null;
  }

  private async tell(peers: Told[], step: Step) {
    const refused = await this.post.send(peers.map(({ participant, user, device }) => ({ participant, user, device })), step);
    for (const peer of peers) peer.chains.add(step.chain);
    for (const { participant, why } of refused) {
      const peer = this.peers.get(participant);
      if (!peer) continue;
      peer.chains.delete(step.chain);
      peer.refused = why;
    }
    this.wait();
  }

  private judge() {
    const before = [...this.refused].join();
    this.refused.clear();
    for (const { participant, refused } of this.peers.values()) if (refused) this.refused.set(participant, refused);
    if ([...this.refused].join() !== before) this.changed();
  }
}
