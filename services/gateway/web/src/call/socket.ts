// The socket of a call (services/video/PROTOCOL.md). It comes back by itself, faster than the device's own, since a call waits
// for it; who has it says what to join with, each time.
import type { Id } from "../protocol";
import type { Frame, Joined } from "./wire";

export interface SocketHooks {
  token: (worn?: string) => Promise<string>; // the one there is, or another than that
  ready: () => void;
  frame: (frame: Frame) => void;
  lost: (attempts: number) => void;
  over: (code: number) => void; // for good
}

export class CallProblem extends Error {
  constructor(readonly code: string, readonly detail = "", readonly retryAfter = 0) { super(code); }

  // Whether the same request may do better later.
  get passing() { return this.retryAfter > 0 || ["offline", "try_again", "unavailable", "internal"].includes(this.code); }
}

const beat = 2000;
const pongWithin = 2500;
const probeWithin = 700; // where media has stopped as well
const dialWithin = 5000;
const answerWithin = 8000;
const longestPause = 1500; // a call waits, and its next host is there a few seconds after the last one died
const lookEvery = 15_000; // for another token

export const closing = { moved: 4005, tokenWorn: 4003, noToken: 4501, sessionEnded: 4502, ourFault: 4503, over: 4510, elsewhere: 4511, notMember: 4512 };

interface Waiting { resolve: (frame: Frame) => void; reject: (problem: CallProblem) => void; timer: number }

export class CallSocket {
  private socket: WebSocket | null = null;
  private token = "";
  private ready = false;
  private stopped = false;
  private attempts = 0;
  private timer = 0;
  private pulse = 0;
  private renewal = 0;
  private pinged = 0; // when the ping went out that has no answer yet
  private next = 0;
  private readonly waiting = new Map<string, Waiting>();

  constructor(private readonly call: Id, private readonly on: SocketHooks) {
    addEventListener("online", this.now);
    void this.dial();
  }

  get open() { return this.ready; }

  stop() {
    this.stopped = true;
    removeEventListener("online", this.now);
    clearTimeout(this.timer);
    const { socket } = this;
    this.socket = null;
    this.end();
    socket?.close(1000);
  }

  tell(frame: object) {
    if (this.ready && this.socket!.readyState === WebSocket.OPEN) this.socket!.send(JSON.stringify(frame));
  }

  ask(frame: { type: string } & Record<string, unknown>, within = answerWithin): Promise<Frame> {
    return new Promise((resolve, reject) => {
      if (!this.ready) return reject(new CallProblem("offline"));
      const id = String(++this.next);
      const timer = window.setTimeout(() => {
        this.waiting.delete(id);
        reject(new CallProblem("offline"));
      }, within);
      this.waiting.set(id, { resolve, reject, timer });
      this.socket!.send(JSON.stringify({ ...frame, id }));
    });
  }

  async join(resume?: { participant_id: Id; secret: string }, slots?: number): Promise<Joined> {
    const joined = await this.ask({ type: "join", ...(resume && { resume }), ...(slots && { video_slots: slots }) });
    this.attempts = 0;
    return joined as Joined;
  }

  // Media has stopped: if the socket has as well, that need not be waited for.
  probe() {
    if (!this.ready) return this.now();
    if (!this.pinged) this.ping();
    const rest = Math.max(0, this.pinged + probeWithin - performance.now());
    const { socket, pinged } = this;
    setTimeout(() => { if (this.socket === socket && this.pinged === pinged) this.again(); }, rest);
  }

  // Gives a socket up and opens another one. The browser would wait for the other end to agree.
  again() {
    const { socket } = this;
    if (!socket) return this.now();
    this.socket = null;
    socket.close();
    this.closed(1006);
  }

  private readonly now = () => {
    if (this.stopped || this.socket || !this.timer) return;
    clearTimeout(this.timer);
    this.timer = 0;
    void this.dial();
  };

  private async dial(worn?: string) {
    try {
      this.token = await this.on.token(worn);
    } catch {
      return this.pause();
    }
    if (this.stopped) return;
    const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/v1/calls/${this.call}/ws`, "secureconnect.call.v1");
    this.socket = socket;
    const patience = setTimeout(() => { if (this.socket === socket && !this.ready) this.again(); }, dialWithin);
    socket.onopen = () => socket.send(JSON.stringify({ type: "auth", token: this.token }));
    socket.onmessage = ({ data }) => { if (this.socket === socket) this.take(JSON.parse(data)); };
    socket.onclose = ({ code }) => {
      clearTimeout(patience);
      if (this.socket !== socket) return;
      this.socket = null;
      this.closed(code);
    };
  }

  private take(frame: Frame) {
    if (frame.type === "ready") return this.welcome();
    if (frame.type === "pong") {
      this.pinged = 0;
      return;
    }
    const waiting = "id" in frame && frame.id !== undefined && this.waiting.get(frame.id);
    if (!waiting) return this.on.frame(frame);
    this.waiting.delete(frame.id!);
    clearTimeout(waiting.timer);
    if (frame.type === "error") waiting.reject(new CallProblem(frame.code, frame.detail, frame.retry_after));
    else waiting.resolve(frame);
  }

  private welcome() {
    if (this.ready) return;
    this.ready = true;
    this.pulse = window.setInterval(() => this.ping(), beat);
    this.renewal = window.setInterval(() => void this.reauthenticate(), lookEvery);
    this.on.ready();
  }

  // The core renews its token a minute before that ends.
  private async reauthenticate() {
    const { socket } = this;
    const token = await this.on.token().catch(() => this.token);
    if (this.socket !== socket || token === this.token) return;
    this.token = token;
    this.tell({ type: "auth", token });
  }

  private ping() {
    if (this.pinged) return;
    const pinged = this.pinged = performance.now();
    const { socket } = this;
    this.tell({ type: "ping", id: "ping" });
    setTimeout(() => { if (this.socket === socket && this.pinged === pinged) this.again(); }, pongWithin);
  }

  private closed(code: number) {
    this.end();
    if (this.stopped) return;
    if ([closing.sessionEnded, closing.over, closing.elsewhere, closing.notMember].includes(code)) {
      this.stop();
      return this.on.over(code);
    }
    if (code === closing.ourFault) this.attempts = Math.max(this.attempts, 6); // at once would be no better
    const worn = [closing.tokenWorn, closing.noToken].includes(code) ? this.token : undefined;
    if (code === closing.moved) this.attempts = Math.min(this.attempts, 1);
    this.pause(worn);
  }

  private pause(worn?: string) {
    const wait = this.attempts === 0 ? 100 * Math.random() : Math.min(longestPause, 250 * 2 ** this.attempts) * (1 + Math.random()) / 2;
    this.on.lost(this.attempts++);
    if (this.stopped) return;
    this.timer = window.setTimeout(() => {
      this.timer = 0;
      void this.dial(worn);
    }, wait);
  }

  private end() {
    this.ready = false;
    this.pinged = 0;
    clearInterval(this.pulse);
    clearInterval(this.renewal);
    const waiting = [...this.waiting.values()];
    this.waiting.clear();
    for (const { reject, timer } of waiting) {
      clearTimeout(timer);
      reject(new CallProblem("offline"));
    }
  }
}
