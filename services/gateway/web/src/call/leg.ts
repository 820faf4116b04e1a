// How one of the two connections is, from what was seen of it, and what to do about it. A leg is judged a few times a second.
export type Step = "wait" | "restart" | "rejoin";

export interface Seen {
  bytes: number; // that have come over it
  answers: number; // to ICE's own checks
  state: RTCIceConnectionState;
  patience: number; // milliseconds after which silence means something; 0 where nothing has to come
}

const restartsWithin = 5000;
const makesWithin = 8000;

export class Leg {
  private seen: Seen = { bytes: 0, answers: 0, state: "new", patience: 0 };
  private heard: number; // when bytes last came
  private expected = 0; // since when they should come; 0 where they need not
  private connected = false; // has been, once
  private restarted = 0; // when the restart that is under way began
  private answersThen = 0;
  private tried = false; // a restart brought no bytes: that nothing comes is not this connection's doing

  constructor(private readonly made: number) { this.heard = made; }

  get up() { return this.connected; }
  get restarting() { return this.restarted > 0; }

  see(seen: Seen, now: number) {
    if (seen.bytes > this.seen.bytes) {
      this.heard = now;
      this.tried = false;
    }
    const well = seen.state === "connected" || seen.state === "completed";
    if (this.restarted > 0 && (this.heard > this.restarted || (well && seen.answers > this.answersThen))) this.restarted = 0;
    this.connected ||= well;
    this.expected = seen.patience > 0 ? this.expected || now : 0;
    this.seen = seen;
  }

  // Nothing comes where something should.
  stalled(now: number) {
    return this.connected && this.expected > 0 && now - Math.max(this.heard, this.expected) > this.seen.patience;
  }

  private get lost() { return this.seen.state === "disconnected" || this.seen.state === "failed"; }

  judge(now: number): Step {
    if (!this.connected) return now - this.made > makesWithin ? "rejoin" : "wait";
    if (this.restarted > 0) return now - this.restarted > restartsWithin ? "rejoin" : "wait";
    return this.lost || (this.stalled(now) && !this.tried) ? "restart" : "wait";
  }

  // What was asked for may not have been heard.
  again() {
    this.restarted = 0;
    this.tried = false;
  }

  restart(now: number) {
    this.restarted = now;
    this.answersThen = this.seen.answers;
    this.tried = true;
  }
}
