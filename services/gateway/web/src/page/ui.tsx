// Small pieces that every view is made of.
import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Chat, Id } from "../protocol";
import { Refusal } from "./core";
import { initials, nameOf, others, titleOf, tone } from "./format";
import { Icon, type IconName } from "./icons";
import { refusal, text } from "./texts";
import { state } from "./core";

export function Avatar({ id, name, small }: { id: Id; name: string; small?: boolean }) {
  return <span class={`avatar tone-${tone(id)}${small ? " small" : ""}`} aria-hidden="true">{initials(name)}</span>;
}

export function ChatAvatar({ chat }: { chat: Chat }) {
  const [other] = others(chat);
  const id = chat.kind === "direct" && other ? other.id : chat.id;
  const online = chat.kind === "direct" && other && state.presence.value[other.id]?.online;
  return <span class="with-presence"><Avatar id={id} name={titleOf(chat)} />{online && <span class="presence" role="img" aria-label={text("online")} />}</span>;
}

export function PersonAvatar({ id, small }: { id: Id; small?: boolean }) {
  return <Avatar id={id} name={nameOf(id)} small={small ?? false} />;
}

export function IconButton({ icon, label, onClick, ...rest }: { icon: IconName; label: string; onClick: (event: MouseEvent) => void; class?: string; disabled?: boolean; id?: string; expanded?: boolean }) {
  return (
    <button type="button" class={"icon " + (rest.class ?? "")} id={rest.id} aria-label={label} title={label} aria-expanded={rest.expanded} disabled={rest.disabled} onClick={onClick}>
      <Icon name={icon} />
    </button>
  );
}

// One sentence at the bottom, for a while.
export const toast = signal("");
let toastTimer = 0;
export function say(sentence: string) {
  toast.value = sentence;
  clearTimeout(toastTimer);
  toastTimer = window.setTimeout(() => { toast.value = ""; }, 6000);
}

export const explain = (error: unknown) => error instanceof Refusal ? refusal(error.failure) : text("code.internal");

// Does what a person asked for, and says why it could not be done.
export async function attempt(work: () => Promise<unknown>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    say(explain(error));
    return false;
  }
}

// A button that waits for what it started.
export function Action({ run, children, kind = "", id, disabled }: { run: () => Promise<unknown>; children: ComponentChildren; kind?: string; id?: string; disabled?: boolean }) {
  const [busy, setBusy] = useState(false);
  const go = async () => {
    setBusy(true);
    await attempt(run);
    setBusy(false);
  };
  return <button type="button" class={kind} id={id} disabled={busy || disabled} onClick={go}>{children}</button>;
}

export function Dialog({ title, onClose, children }: { title: string; onClose?: () => void; children: ComponentChildren }) {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const before = document.activeElement;
    ref.current!.showModal();
    return () => { if (before instanceof HTMLElement) before.focus(); };
  }, []);
  const outside = (event: MouseEvent) => { if (event.target === ref.current) onClose?.(); };
  return (
    <dialog ref={ref} aria-labelledby="dialog-title" onCancel={(event) => { event.preventDefault(); onClose?.(); }} onMouseDown={outside}>
      <div class="dialog-head"><h2 id="dialog-title">{title}</h2>{onClose && <IconButton icon="close" label={text("close")} onClick={onClose} />}</div>
      <div class="dialog-body">{children}</div>
    </dialog>
  );
}
