// The connection up: what this device sends. The client offers, each source at most once.
import type { Cipher } from "./cipher";
import type { Kind } from "./frames";
import { Relays } from "./relays";
import type { OfferedTrack, Source } from "./wire";

const kinds: Record<Source, Kind> = { microphone: "audio", camera: "video", screen: "video", screen_audio: "audio" };

// Three pictures of one camera, of which everybody gets the largest they have room for; of a screen two, so that its words are sharp where
// they can be, and there where they cannot.
const encodings: Record<Source, RTCRtpEncodingParameters[]> = {
  microphone: [{ maxBitrate: 40_000, networkPriority: "high", priority: "high" }],
  screen_audio: [{ maxBitrate: 96_000 }],
  camera: [
    { rid: "q", scaleResolutionDownBy: 4, maxBitrate: 150_000 },
    { rid: "h", scaleResolutionDownBy: 2, maxBitrate: 500_000 },
    { rid: "f", scaleResolutionDownBy: 1, maxBitrate: 1_500_000 },
  ],
  screen: [
    { rid: "q", scaleResolutionDownBy: 2, maxBitrate: 350_000, maxFramerate: 5 },
    { rid: "h", scaleResolutionDownBy: 1, maxBitrate: 2_000_000, maxFramerate: 15 },
  ],
};

// A browser makes fewer of small pictures, and leaves the largest out: then the ones it makes are the larger.
function scalesFor(source: Source, track: MediaStreamTrack): number[] {
  if (source === "screen") return [2, 1];
  const { width = 1280, height = 720 } = track.getSettings();
  if (width * height >= 900 * 500) return [4, 2, 1];
  return width * height >= 480 * 270 ? [2, 1] : [1];
}

interface Sending { transceiver: RTCRtpTransceiver; muted: boolean; scales: number[]; wanted: string[] | null }

export class Up {
  readonly pc: RTCPeerConnection;
  readonly relays: Relays;
  private readonly sending = new Map<Source, Sending>();
  private changes = Promise.resolve(); // of parameters, one after the other

  constructor(configuration: RTCConfiguration, private readonly cipher: Cipher) {
    this.pc = new RTCPeerConnection(configuration);
    this.relays = new Relays(this.pc);
  }

  // Takes a source up; without a track it is there, and muted.
  add(source: Source, track: MediaStreamTrack | null, muted: boolean) {
    const kind = kinds[source];
    const transceiver = this.pc.addTransceiver(track ?? kind, { direction: "sendonly", sendEncodings: encodings[source] });
    this.cipher.seal(transceiver.sender, kind);
    prefer(transceiver, kind);
    this.sending.set(source, { transceiver, muted, scales: [], wanted: null });
    this.fit(source, track);
  }

  has(source: Source) { return this.sending.has(source); }
  mid(source: Source) { return this.sending.get(source)?.transceiver.mid ?? null; }

  async replace(source: Source, track: MediaStreamTrack | null) {
    this.fit(source, track);
    await this.sending.get(source)?.transceiver.sender.replaceTrack(track);
  }

  private fit(source: Source, track: MediaStreamTrack | null) {
    const sending = this.sending.get(source);
    if (!sending || kinds[source] === "audio" || !track) return;
    sending.scales = scalesFor(source, track);
    this.arrange(sending);
  }

  muted(source: Source) { return this.sending.get(source)?.muted ?? true; }

  mute(source: Source, muted: boolean) {
    const sending = this.sending.get(source);
    if (sending) sending.muted = muted;
  }

  get tracks(): OfferedTrack[] {
    return [...this.sending].map(([source, { transceiver, muted }]) => ({ mid: transceiver.mid!, source, muted }));
  }

  // Whether something is sent of that kind now.
  sends(kind: Kind) {
    return [...this.sending].some(([source, { transceiver, muted }]) => kinds[source] === kind && !muted && transceiver.sender.track !== null);
  }

  async offer(restart: boolean): Promise<string> {
    await this.pc.setLocalDescription(await this.pc.createOffer({ iceRestart: restart }));
    return this.pc.localDescription!.sdp;
  }

  async answered(sdp: string) { await this.pc.setRemoteDescription({ type: "answer", sdp }); }

  // Lets the layers that nobody wants rest.
  layers(mid: string, wanted: string[]) {
    const sending = [...this.sending.values()].find(({ transceiver }) => transceiver.mid === mid);
    if (!sending) return;
    sending.wanted = wanted;
    this.arrange(sending);
  }

  private arrange({ transceiver: { sender }, scales, wanted }: Sending) {
    this.changes = this.changes.then(async () => {
      const parameters = sender.getParameters();
      const most = scales.length - 1;
      const active = wanted?.map((rid) => Math.min(most, parameters.encodings.findIndex((encoding) => encoding.rid === rid)));
      for (const [i, encoding] of parameters.encodings.entries()) {
        if (!encoding.rid) continue;
        encoding.scaleResolutionDownBy = scales[i] ?? 1;
        encoding.active = i <= most && (active?.includes(i) ?? true);
      }
      await sender.setParameters(parameters);
    }).catch(() => {}); // closed meanwhile
  }

  close() { this.pc.close(); }
}

// Nothing but what the SFU forwards: VP8, whose beginning it can read, and Opus.
function prefer(transceiver: RTCRtpTransceiver, kind: Kind) {
  const wanted = kind === "audio" ? ["audio/opus"] : ["video/VP8", "video/rtx"];
  const codecs = RTCRtpReceiver.getCapabilities(kind)?.codecs ?? [];
  transceiver.setCodecPreferences(codecs.filter(({ mimeType }) => wanted.includes(mimeType)));
}
