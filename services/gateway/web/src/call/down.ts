// The connection down: places (slots) for what others send. What a place carries, the server says; whose it is, the key that opens it.
import type { Id } from "../protocol";
import type { Cipher } from "./cipher";
import type { Kind } from "./frames";
import { Relays } from "./relays";
import type { Slot } from "./wire";

export interface Place {
  name: string; // of all connections down there ever were
  mid: string;
  kind: Kind;
  track: MediaStreamTrack;
  carries: Id; // the track the server says; "": none
  owner: Id; // the participant whose key opened its frames; "": nobody's yet
}

let made = 0;

export class Down {
  readonly pc: RTCPeerConnection;
  readonly relays: Relays;
  readonly places = new Map<string, Place>(); // by mid
  private readonly carried = new Map<string, Id>(); // told before their place was there
  private readonly number = ++made;
  private version = 0;
  private work = Promise.resolve();

  constructor(configuration: RTCConfiguration, private readonly cipher: Cipher, private readonly changed: () => void) {
    this.pc = new RTCPeerConnection(configuration);
    this.relays = new Relays(this.pc);
  }

  // Answers an offer, if no newer one came meanwhile.
  offered(version: number, sdp: string, send: (sdp: string) => void) {
    this.version = Math.max(this.version, version);
    this.work = this.work.then(async () => {
      if (version < this.version || this.pc.signalingState === "closed") return;
      await this.pc.setRemoteDescription({ type: "offer", sdp });
      for (const { mid, receiver } of this.pc.getTransceivers()) this.place(mid!, receiver);
      await this.pc.setLocalDescription(await this.pc.createAnswer());
      send(this.pc.localDescription!.sdp);
      this.changed();
    }).catch(() => {}); // it was closed, or a restart will find out
    return this.work;
  }

  // Nothing comes before the answer is set, so nothing passes without its transform.
  private place(mid: string, receiver: RTCRtpReceiver) {
    if (this.places.has(mid)) return;
    const kind = receiver.track.kind as Kind, name = `${this.number}/${mid}`;
    this.cipher.open(receiver, kind, name);
    this.places.set(mid, { name, mid, kind, track: receiver.track, carries: this.carried.get(mid) ?? "", owner: "" });
  }

  carry(slots: Slot[]) {
    for (const { mid, track_id = "" } of slots) {
      this.carried.set(mid, track_id);
      const place = this.places.get(mid);
      if (place) place.carries = track_id;
    }
    this.changed();
  }

  named(name: string) { return [...this.places.values()].find((place) => place.name === name); }

  close() {
    for (const { name } of this.places.values()) this.cipher.close(name);
    this.pc.close();
  }
}
