// The live socket (services/chat/PROTOCOL.md). Codes 4500–4999 are final; after any other end it comes back, each time
// after a longer, random wait.
import { Problem, renew, token, unreachable } from "./session";
import type { Connection } from "../protocol";

export type Frame = { type: string } & Record<string, any>;

interface Waiting { resolve: (frame: Frame) => void; reject: (problem: Problem) => void; timer: ReturnType<typeof setTimeout> }

const answerWithin = 20_000;
const pongWithin = 5_000;
const beat = 5_000;
const beatsAtRest = 5;

export class Live {
  private socket: WebSocket | null = null;
  private attempt = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private pulse: ReturnType<typeof setInterval> | undefined;
  private ready = false;
  private silence = 0; // beats since the server was heard
  private stopped = true;
  private next = 0;
  private readonly waiting = new Map<string, Waiting>();

  constructor(private readonly on: { ready: () => void; frame: (frame: Frame) => void; state: (state: Connection) => void }) {
    addEventListener("online", () => this.now());
    addEventListener("offline", () => this.cut());
  }

  get online() { return this.ready; }

  start() {
    this.stop();
    this.stopped = false;
    this.open();
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
    const socket = this.socket;
    this.socket = null;
    this.end();
    socket?.close(1000);
  }

  authenticate() {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type: "auth", token: token() }));
  }

  // Says something that needs no answer; away, it is not said.
  tell(frame: Frame) {
    if (this.ready) this.socket!.send(JSON.stringify(frame));
  }

  ask(frame: Frame, within = answerWithin): Promise<Frame> {
    return new Promise((resolve, reject) => {
      if (!this.ready) return reject(unreachable());
      const id = String(++this.next);
      const timer = setTimeout(() => {
        this.waiting.delete(id);
        reject(unreachable());
        this.cut();
      }, within);
      this.waiting.set(id, { resolve, reject, timer });
      this.socket!.send(JSON.stringify({ ...frame, id }));
    });
  }

  private now() {
    if (this.stopped || this.socket || !this.timer) return;
    clearTimeout(this.timer);
    this.attempt = 0;
    this.open();
  }

  private open() {
    this.on.state("connecting");
    if (token()) this.dial();
    else this.renewed().then((good) => { if (good) this.dial(); }); // the server was away when we began
  }

  // Fetches a token; where there will be none the session has ended.
  private renewed(): Promise<boolean> {
    return renew().then(() => true, (problem) => {
      if (problem.status !== 401) this.again(this.pause());
      return false;
    });
  }

  private dial() {
    if (this.stopped) return;
    const socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/v1/ws", "secureconnect.v1");
    this.socket = socket;
    socket.onopen = () => this.authenticate();
    socket.onmessage = ({ data }) => { if (this.socket === socket) this.take(JSON.parse(data)); };
    socket.onclose = ({ code }) => { if (this.socket === socket) this.closed(code); };
  }

  // A dead line that nobody has closed is found out by silence, and soon where an answer is due.
  private watch() {
    this.silence++;
    if (this.silence > (this.waiting.size > 0 ? 1 : beatsAtRest)) this.ask({ type: "ping" }, pongWithin).catch(() => {});
  }

  // Gives a line up. The browser would wait for the other end to agree.
  private cut() {
    if (!this.socket) return;
    this.socket.close();
    this.closed(1006);
  }

  private take(frame: Frame) {
    this.silence = 0;
    if (frame.type === "ready") {
      if (this.ready) return;
      this.ready = true;
      this.attempt = 0;
      this.pulse = setInterval(() => this.watch(), beat);
      this.on.state("online");
      this.on.ready();
      return;
    }
    const waiting = frame["id"] !== undefined && this.waiting.get(frame["id"]);
    if (!waiting) return this.on.frame(frame);
    this.waiting.delete(frame["id"]);
    clearTimeout(waiting.timer);
    if (frame.type === "error") waiting.reject(new Problem(codeStatus(frame["code"]), frame["code"], frame["detail"], frame["retry_after"] ?? 0));
    else waiting.resolve(frame);
  }

  private closed(code: number) {
    this.socket = null;
    this.end();
    this.on.state("connecting");
    if (code === 4503) this.attempt = Math.max(this.attempt, 6); // our own fault: at once would be no better
    const wait = code === 4001 ? 250 * Math.random() : this.pause();
    if (code !== 4501 && code !== 4502 && code !== 4003) this.again(wait);
    else this.renewed().then((good) => { if (good) this.again(wait); });
  }

  private pause() { return 250 + Math.random() * Math.min(30_000, 500 * 2 ** this.attempt++); }

  private again(wait: number) {
    if (this.stopped) return;
    this.on.state("offline");
    this.timer = setTimeout(() => this.open(), wait);
  }

  private end() {
    this.ready = false;
    clearInterval(this.pulse);
    const waiting = [...this.waiting.values()];
    this.waiting.clear();
    for (const { reject, timer } of waiting) {
      clearTimeout(timer);
      reject(unreachable());
    }
  }
}

const codeStatus = (code: string) => ["try_again", "unavailable"].includes(code) ? 503 : code === "too_many_requests" ? 429 : 400;
