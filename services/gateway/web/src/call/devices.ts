// Microphone, camera, speaker and screen of this device: which ones were chosen, and why one cannot be had.
import { signal } from "@preact/signals";

export type DeviceKind = "microphone" | "camera" | "speaker";
export type DeviceProblem = "denied" | "missing" | "busy" | "failed";
export interface DeviceChoice { id: string; name: string }

const kinds: Record<MediaDeviceKind, DeviceKind> = { audioinput: "microphone", videoinput: "camera", audiooutput: "speaker" };

// Which of them there are. Their names are known only to a page that may use them.
export const devices = signal<Record<DeviceKind, DeviceChoice[]>>({ microphone: [], camera: [], speaker: [] });

const kept = (kind: DeviceKind) => localStorage.getItem("device." + kind) ?? "";
export const chosen = { microphone: signal(kept("microphone")), camera: signal(kept("camera")), speaker: signal(kept("speaker")) };

export function choose(kind: DeviceKind, id: string) {
  chosen[kind].value = id;
  if (id) localStorage.setItem("device." + kind, id);
  else localStorage.removeItem("device." + kind);
}

export async function lookForDevices() {
  const found: typeof devices.value = { microphone: [], camera: [], speaker: [] };
  for (const { kind, deviceId, label } of await navigator.mediaDevices.enumerateDevices()) {
    if (deviceId && deviceId !== "default" && deviceId !== "communications") found[kinds[kind]].push({ id: deviceId, name: label });
  }
  devices.value = found;
}

// Tells when something was plugged in or out.
export function watchDevices(changed: () => void): () => void {
  const look = () => void lookForDevices().then(changed);
  navigator.mediaDevices.addEventListener("devicechange", look);
  look();
  return () => navigator.mediaDevices.removeEventListener("devicechange", look);
}

export class Unavailable extends Error {
  constructor(readonly why: DeviceProblem) { super(why); }
}

function whyNot(error: unknown): Unavailable {
  switch (error instanceof DOMException ? error.name : "") {
    case "NotAllowedError": case "SecurityError": return new Unavailable("denied");
    case "NotFoundError": case "OverconstrainedError": return new Unavailable("missing");
    case "NotReadableError": case "AbortError": return new Unavailable("busy");
    default: return new Unavailable("failed");
  }
}

const constraints = {
  microphone: (id: string): MediaStreamConstraints => ({ audio: { ...(id && { deviceId: { ideal: id } }), echoCancellation: true, noiseSuppression: true, autoGainControl: true } }),
  camera: (id: string): MediaStreamConstraints => ({ video: { ...(id && { deviceId: { ideal: id } }), width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30, max: 30 } } }),
};

// The chosen device, or another of its kind where that is away.
export async function capture(kind: "microphone" | "camera"): Promise<MediaStreamTrack> {
  try {
    const stream = await navigator.mediaDevices.getUserMedia(constraints[kind](chosen[kind].value));
    void lookForDevices(); // now they have names
    return stream.getTracks()[0]!;
  } catch (error) {
    throw whyNot(error);
  }
}

// A screen, a window or a tab, as the person chooses in the browser's own dialog; null if they chose none.
export async function captureScreen(): Promise<{ picture: MediaStreamTrack; sound: MediaStreamTrack | null } | null> {
  try {
    const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { ideal: 15, max: 15 } }, audio: true });
    const [picture] = stream.getVideoTracks(), [sound = null] = stream.getAudioTracks();
    picture!.contentHint = "detail";
    return { picture: picture!, sound };
  } catch (error) {
    if (error instanceof DOMException && error.name === "NotAllowedError") return null;
    throw whyNot(error);
  }
}

export const sharesScreens = () => "getDisplayMedia" in (navigator.mediaDevices ?? {});
