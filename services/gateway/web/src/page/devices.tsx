// Which microphone, camera and speaker calls use, and trying them before one.
import { useEffect, useRef, useState } from "preact/hooks";
import { capture, choose, chosen, type DeviceKind, devices, Unavailable, watchDevices } from "../call/devices";
import type { IconName } from "./icons";
import { Icon } from "./icons";
import { text } from "./texts";
import { Picture } from "./tile";

const kinds: DeviceKind[] = ["microphone", "camera", "speaker"];
const canChooseSpeaker = "setSinkId" in HTMLMediaElement.prototype;

export function DeviceChoices({ onChoose }: { onChoose?: (kind: DeviceKind, id: string) => void }) {
  useEffect(() => watchDevices(() => {}), []);
  return (
    <>
      {kinds.filter((kind) => kind !== "speaker" || canChooseSpeaker).map((kind) => (
        <DeviceChoice key={kind} kind={kind} onChoose={(id) => {
          choose(kind, id);
          onChoose?.(kind, id);
        }} />
      ))}
    </>
  );
}

function DeviceChoice({ kind, onChoose }: { kind: DeviceKind; onChoose: (id: string) => void }) {
  const choices = devices.value[kind];
  const there = choices.some(({ id }) => id === chosen[kind].value);
  return (
    <>
      <label for={"device-" + kind}><Icon name={kind as IconName} size={18} /> {text("device.kind." + kind)}</label>
      <select id={"device-" + kind} value={there ? chosen[kind].value : ""} onChange={(event) => onChoose(event.currentTarget.value)}>
        <option value="">{text("systemDevice")}</option>
        {choices.map(({ id, name }, i) => <option key={id} value={id}>{name || `${text("device.kind." + kind)} ${i + 1}`}</option>)}
      </select>
    </>
  );
}

// Shows what the camera sees and the microphone hears; nothing of it leaves the page.
export function TryDevices() {
  const [trying, setTrying] = useState(false);
  const [tracks, setTracks] = useState<{ microphone?: MediaStreamTrack; camera?: MediaStreamTrack }>({});
  const [problems, setProblems] = useState<string[]>([]);
  const wanted = `${chosen.microphone.value} ${chosen.camera.value}`;
  useEffect(() => {
    if (!trying) return;
    const open: MediaStreamTrack[] = [];
    let over = false;
    setProblems([]);
    for (const kind of ["microphone", "camera"] as const) {
      capture(kind).then((track) => {
        open.push(track);
        if (over) track.stop();
        else setTracks((before) => ({ ...before, [kind]: track }));
      }, (error) => setProblems((before) => [...before, `${kind}.${error instanceof Unavailable ? error.why : "failed"}`]));
    }
    return () => {
      over = true;
      for (const track of open) track.stop();
      setTracks({});
    };
  }, [trying, wanted]);
  return (
    <>
      <button type="button" class="quiet" id="try-devices" aria-pressed={trying} onClick={() => setTrying(!trying)}>{text(trying ? "stopTrying" : "tryDevices")}</button>
      {problems.map((problem) => <p class="trouble" role="alert" key={problem}>{text(problem)}</p>)}
      {tracks.camera && <div class="try-picture"><Picture track={tracks.camera} mirrored /></div>}
      {tracks.microphone && <Level track={tracks.microphone} />}
    </>
  );
}

function Level({ track }: { track: MediaStreamTrack }) {
  const meter = useRef<HTMLMeterElement>(null);
  useEffect(() => {
    const context = new AudioContext(), analyser = context.createAnalyser();
    context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const timer = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      const loudness = Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
      if (meter.current) meter.current.value = Math.min(1, loudness * 6);
    }, 80);
    return () => {
      clearInterval(timer);
      void context.close();
    };
  }, [track]);
  return <label class="level">{text("microphoneHears")} <meter ref={meter} min={0} max={1} /></label>;
}
