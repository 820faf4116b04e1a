// What can be done in a call, by button and by key.
import { useEffect, useRef, useState } from "preact/hooks";
import { sharesScreens } from "../call/devices";
import { close, type Mine, minimized } from "./calling";
import { DeviceChoices } from "./devices";
import { Icon, type IconName } from "./icons";
import { closeApart } from "./pip";
import { text } from "./texts";
import { attempt } from "./ui";

interface Control { id: string; icon: IconName; label: string; run: () => void; shortcut?: string; kind?: string; pressed?: boolean }

function controlsOf({ call: { media } }: Mine): Control[] {
  const microphone = media.microphone.value.on, camera = media.camera.value.on, screen = media.screen.value !== null;
  return [
    { id: "microphone", shortcut: "M", icon: microphone ? "microphone" : "muted", label: text(microphone ? "mute" : "unmute"), kind: microphone ? "" : "off", run: () => void media.turn("microphone", !microphone) },
    { id: "camera", shortcut: "V", icon: camera ? "camera" : "cameraOff", label: text(camera ? "stopCamera" : "startCamera"), kind: camera ? "" : "off", run: () => void media.turn("camera", !camera) },
    { id: "screen", shortcut: "S", icon: screen ? "screenOff" : "screen", label: text(screen ? "stopSharing" : "shareScreen"), kind: screen ? "on" : "", run: () => void attempt(() => (screen ? media.unshare() : media.share())) },
    { id: "hang-up", shortcut: "H", icon: "hangup", label: text("hangUp"), kind: "hang-up", run: close },
  ];
}

export function Controls({ self, small }: { self: Mine; small?: boolean }) {
  const controls = controlsOf(self).filter(({ id }) => id !== "screen" || (!small && sharesScreens()));
  useShortcuts(controls);
  return (
    <div class="controls" role="toolbar" aria-label={text("call")}>
      {controls.map((control) => <ControlButton key={control.id} {...control} />)}
      {small
        ? <ControlButton id="expand-call" icon="grow" label={text("expand")} run={expand} />
        : <Choosing self={self} />}
    </div>
  );
}

function expand() {
  closeApart();
  minimized.value = false;
}

function ControlButton({ id, icon, label, run, shortcut, kind = "", pressed }: Control) {
  const keys = shortcut && `Alt+${shortcut}`;
  return (
    <button type="button" class={"icon control " + kind} id={id} aria-label={label} title={keys ? `${label} (${keys})` : label} aria-keyshortcuts={keys} aria-expanded={pressed} onClick={run}>
      <Icon name={icon} size={22} />
    </button>
  );
}

// By the place of the key: a letter with Alt is another one on some keyboards.
function useShortcuts(controls: Control[]) {
  const latest = useRef(controls);
  latest.current = controls;
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      const control = event.altKey && !event.ctrlKey && !event.metaKey && latest.current.find(({ shortcut }) => shortcut && event.code === "Key" + shortcut);
      if (!control) return;
      event.preventDefault();
      control.run();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
}

function Choosing({ self: { call } }: { self: Mine }) {
  const [open, setOpen] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!open) return;
    const outside = (event: MouseEvent) => { if (!box.current!.contains(event.target as Node)) setOpen(false); };
    const escape = (event: KeyboardEvent) => { if (event.key === "Escape") setOpen(false); };
    addEventListener("mousedown", outside);
    addEventListener("keydown", escape);
    return () => {
      removeEventListener("mousedown", outside);
      removeEventListener("keydown", escape);
    };
  }, [open]);
  return (
    <div class="choosing" ref={box}>
      <ControlButton id="choose-devices" icon="settings" label={text("devices")} pressed={open} run={() => setOpen(!open)} />
      {open && <div class="menu fields"><DeviceChoices onChoose={(kind, id) => void (kind === "speaker" ? call.sound.through(id) : call.media.again(kind))} /></div>}
    </div>
  );
}
