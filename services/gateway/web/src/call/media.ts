// What this device has to send: microphone, camera and screen, on or off.
import { signal } from "@preact/signals";
import { capture, captureScreen, type DeviceProblem, Unavailable } from "./devices";
import type { Source } from "./wire";

export interface Own { track: MediaStreamTrack | null; on: boolean; problem: "" | DeviceProblem }

const none: Own = { track: null, on: false, problem: "" };

export class OwnMedia {
  readonly microphone = signal(none);
  readonly camera = signal(none);
  readonly screen = signal<MediaStreamTrack | null>(null);
  private screenSound: MediaStreamTrack | null = null;
  private turns = Promise.resolve(); // of switches, in their order
  private stopped = false;

  // changed is called with what a source sends from now on.
  constructor(private readonly changed: (source: Source, track: MediaStreamTrack | null, muted: boolean) => Promise<void>) {}

  turn(kind: "microphone" | "camera", on: boolean): Promise<void> {
    return this.turns = this.turns.then(() => (on ? this.open(kind) : this.shut(kind))).catch(() => {});
  }

  private async open(kind: "microphone" | "camera") {
    const own = this[kind];
    if (own.value.on || this.stopped) return;
    try {
      const track = own.value.track ?? await this.take(kind);
      track.enabled = true;
      own.value = { track, on: true, problem: "" };
    } catch (error) {
      own.value = { track: null, on: false, problem: error instanceof Unavailable ? error.why : "failed" };
    }
    await this.tell(kind);
  }

  private async take(kind: "microphone" | "camera"): Promise<MediaStreamTrack> {
    const track = await capture(kind);
    if (this.stopped) track.stop();
    track.onended = () => this.unplugged(kind, track);
    return track;
  }

  // A microphone stays open, so that it is back at once; a camera is let go, and its light goes out.
  private async shut(kind: "microphone" | "camera") {
    const own = this[kind];
    let { track } = own.value;
    if (track) track.enabled = false;
    if (kind === "camera") {
      drop(track);
      track = null;
    }
    own.value = { track, on: false, problem: "" };
    await this.tell(kind);
  }

  private tell(kind: "microphone" | "camera") {
    const { track, on } = this[kind].value;
    return this.changed(kind, track, !on);
  }

  private unplugged(kind: "microphone" | "camera", track: MediaStreamTrack) {
    if (this[kind].value.track !== track) return;
    void this.again(kind);
  }

  // Takes the device that is chosen now, or another one if it went away.
  again(kind: "microphone" | "camera"): Promise<void> {
    const { on } = this[kind].value;
    return this.turns = this.turns.then(async () => {
      const own = this[kind];
      drop(own.value.track);
      own.value = none;
      if (on) await this.open(kind);
      else await this.tell(kind);
    }).catch(() => {});
  }

  // Asks for a screen; says whether there is one now.
  async share(): Promise<boolean> {
    if (this.screen.value) return true;
    const shared = await captureScreen();
    if (!shared) return false;
    shared.picture.onended = () => void this.unshare(); // in the browser's own bar
    this.screenSound = shared.sound;
    this.screen.value = shared.picture;
    await this.changed("screen", shared.picture, false);
    if (shared.sound) await this.changed("screen_audio", shared.sound, false);
    return true;
  }

  async unshare() {
    if (!this.screen.value) return;
    const sounded = this.screenSound;
    for (const track of [this.screen.value, sounded]) drop(track);
    this.screen.value = this.screenSound = null;
    await this.changed("screen", null, true);
    if (sounded) await this.changed("screen_audio", null, true);
  }

  get sharedSound() { return this.screenSound; }

  stop() {
    this.stopped = true;
    for (const track of [this.microphone.value.track, this.camera.value.track, this.screen.value, this.screenSound]) drop(track);
    this.microphone.value = this.camera.value = none;
    this.screen.value = this.screenSound = null;
  }
}

function drop(track: MediaStreamTrack | null) {
  if (!track) return;
  track.onended = null;
  track.stop();
}
