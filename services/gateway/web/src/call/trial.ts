// A call with oneself, which proves what a call with others needs, step by step: the server, the relays, and a picture and a sound that
// went out encrypted and came back.
import { signal } from "@preact/signals";
import type { Id } from "../protocol";
import { type Step as Key, newChain } from "./chain";
import { Cipher } from "./cipher";
import { Down } from "./down";
import { configuration, type Transport, transportOf } from "./relays";
import { CallSocket } from "./socket";
import { Up } from "./up";
import type { Frame, Ice, Joined } from "./wire";
import type { Count } from "./worker";

export type TrialStep = "server" | Transport | "media" | "line";

// What a step found; advice names a sentence about what to do (texts.ts, "advice.").
export interface Finding { state: "waiting" | "running" | "good" | "poor" | "failed"; milliseconds?: number; loss?: number; over?: Transport; advice: string }

export const trialSteps: TrialStep[] = ["server", "udp", "tcp", "tls", "media", "line"];

const serverWithin = 8000;
const relayWithin = 8000;
const mediaWithin = 12_000;
const measuredFor = 4000;
const longRoundTrip = 300; // milliseconds
const muchLoss = 0.03;

const later = (milliseconds: number) => new Promise<void>((done) => { setTimeout(done, milliseconds); });

class Failed extends Error {
  constructor(readonly advice: string) { super(advice); }
}

async function within<T>(milliseconds: number, work: Promise<T>, advice: string): Promise<T> {
  return Promise.race([work, later(milliseconds).then(() => { throw new Failed(advice); })]);
}

export class Trial {
  readonly findings = signal(Object.fromEntries(trialSteps.map((step) => [step, { state: "waiting", advice: "" }])) as Record<TrialStep, Finding>);
  readonly running = signal(true);
  private readonly ends: (() => void)[] = [];
  private counts: Record<string, Count> = {};
  private readonly early: Frame[] = []; // that come while the relays are tried
  private frame: (frame: Frame) => void = (frame) => this.early.push(frame);

  constructor(private readonly begin: () => Promise<{ id: Id }>, private readonly token: (worn?: string) => Promise<string>) {}

  async run() {
    try {
      const { joined, socket } = await this.step("server", () => within(serverWithin, this.join(), "server"));
      const relays = await Promise.all(this.transports(joined.ice).map((transport) => this.relay(transport, joined.ice)));
      const over = relays.find((transport) => transport !== null);
      if (!over) return;
      const down = await this.step("media", () => within(mediaWithin, this.echo(joined, socket, over), "media"));
      await this.measure(down);
    } catch { // it is said at its step
    } finally {
      this.stop();
    }
  }

  stop() {
    this.running.value = false;
    for (const end of this.ends.splice(0)) end();
  }

  private tell(step: TrialStep, finding: Finding) {
    if (this.running.value) this.findings.value = { ...this.findings.value, [step]: finding };
  }

  private async step<T extends object>(step: TrialStep, work: () => Promise<T>): Promise<T> {
    const began = performance.now();
    this.tell(step, { state: "running", advice: "" });
    try {
      const found = await work();
      this.tell(step, { state: "good", milliseconds: Math.round(performance.now() - began), advice: "" });
      return found;
    } catch (error) {
      this.tell(step, { state: "failed", advice: error instanceof Failed ? error.advice : step });
      throw error;
    }
  }

  private async join(): Promise<{ joined: Joined; socket: CallSocket }> {
    const { id } = await this.begin();
    return new Promise((resolve, reject) => {
      const socket: CallSocket = new CallSocket(id, {
        token: this.token,
        ready: () => void socket.join().then((joined) => resolve({ joined, socket }), reject),
        frame: (frame) => this.frame(frame),
        lost: () => {},
        over: () => reject(new Failed("server")),
      });
      this.ends.push(() => {
        socket.tell({ type: "leave" });
        socket.stop();
      });
    });
  }

  // The ways there are, the best one first.
  private transports({ servers }: Ice): Transport[] {
    const there = new Set(servers.flatMap(({ urls }) => urls.map(transportOf)));
    return (["udp", "tcp", "tls"] as Transport[]).filter((transport) => there.has(transport));
  }

  // That way, if the relay answers over it; what it says where it does not.
  private async relay(transport: Transport, ice: Ice): Promise<Transport | null> {
    const pc = new RTCPeerConnection(configuration(ice, transport));
    this.ends.push(() => pc.close());
    const answer = new Promise<{ ok: true }>((resolve, reject) => {
      pc.onicecandidate = ({ candidate }) => { if (candidate?.type === "relay") resolve({ ok: true }); };
      pc.onicecandidateerror = ({ errorCode }) => {
        if (errorCode === 401) reject(new Failed("credentials"));
        if (errorCode === 486 || errorCode === 508) reject(new Failed("full"));
      };
      pc.onicegatheringstatechange = () => { if (pc.iceGatheringState === "complete") setTimeout(() => reject(new Failed(transport)), 50); };
    });
    pc.createDataChannel("trial");
    try {
      await this.step(transport, async () => {
        await pc.setLocalDescription(await pc.createOffer());
        return within(relayWithin, answer, transport);
      });
      return transport;
    } catch {
      return null;
    } finally {
      pc.close();
    }
  }

  // Sends a picture and a sound of its own making, and waits until both are back and open with our key.
  private async echo(joined: Joined, socket: CallSocket, over: Transport): Promise<Down> {
    const key: Key = newChain();
    const cipher = new Cipher({ owner: (place, owner) => cipher.show(place, owner), counts: (counts) => { this.counts = counts; } });
    const ways = configuration(joined.ice, over);
    const up = new Up(ways, cipher), down = new Down(ways, cipher, () => {});
    this.ends.push(() => {
      up.close();
      down.close();
      cipher.end();
    });
    cipher.use(key);
    cipher.take(joined.participant_id, key);
    this.frame = (frame) => {
      if (frame.type === "offer") void down.offered(frame.version, frame.sdp, (sdp) => socket.tell({ type: "answer", version: frame.version, sdp }));
      if (frame.type === "slots") down.carry(frame.slots);
    };
    for (const frame of this.early) this.frame(frame);
    const { picture, sound } = this.synthetic();
    up.add("microphone", sound, false);
    up.add("camera", picture, false);
    const answer = await socket.ask({ type: "offer", sdp: await up.offer(false), tracks: up.tracks });
    if (answer.type === "answer") await up.answered(answer.sdp);
    const back = new Set<string>();
    while (back.size < 2) {
      if (!this.running.value) throw new Failed("media");
      await later(100);
      for (const { name, kind, track } of down.places.values()) {
        if (this.counts[name]?.owner !== joined.participant_id || back.has(kind)) continue;
        back.add(kind);
        this.watch(track);
      }
    }
    return down;
  }

  private watch(track: MediaStreamTrack) {
    const element = document.createElement(track.kind as "audio" | "video");
    element.muted = true;
    element.srcObject = new MediaStream([track]);
    void element.play().catch(() => {});
    this.ends.push(() => { element.srcObject = null; });
  }

  private synthetic() {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width: 320, height: 180 });
    const drawing = canvas.getContext("2d")!;
    let turn = 0;
    const timer = setInterval(() => {
      drawing.fillStyle = `hsl(${turn = (turn + 7) % 360} 60% 50%)`;
      drawing.fillRect(turn % 320, turn % 180, 60, 40);
    }, 100);
    const context = new AudioContext(), tone = context.createOscillator(), out = context.createMediaStreamDestination();
    tone.connect(out);
    tone.start();
    const [picture] = canvas.captureStream(10).getVideoTracks(), [sound] = out.stream.getAudioTracks();
    this.ends.push(() => {
      clearInterval(timer);
      picture!.stop();
      void context.close();
    });
    return { picture: picture!, sound: sound! };
  }

  // Round trip and loss, there and back.
  private async measure({ pc }: Down) {
    this.tell("line", { state: "running", advice: "" });
    await later(measuredFor);
    let lost = 0, received = 0, roundTrip = 0, over: Transport | undefined;
    const reports = await pc.getStats();
    for (const report of reports.values()) {
      if (report.type === "inbound-rtp") {
        lost += Math.max(0, report.packetsLost ?? 0);
        received += report.packetsReceived ?? 0;
      }
      if (report.type !== "transport") continue;
      const pair = reports.get(report.selectedCandidatePairId) as RTCIceCandidatePairStats | undefined;
      roundTrip = (pair?.currentRoundTripTime ?? 0) * 1000;
      over = (reports.get(pair?.localCandidateId ?? "") as { relayProtocol?: Transport } | undefined)?.relayProtocol;
    }
    const loss = received + lost > 0 ? lost / (received + lost) : 1;
    const poor = loss > muchLoss || roundTrip > longRoundTrip;
    this.tell("line", { state: poor ? "poor" : "good", milliseconds: Math.round(roundTrip), loss, ...(over && { over }), advice: poor ? "line" : over && over !== "udp" ? "notUdp" : "" });
  }
}
