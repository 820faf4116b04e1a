// What the system shows of a message or a call that nobody looks at: who it is from, and what it says, unless others may see this screen.
import { effect, signal } from "@preact/signals";
import type { Event, Id } from "../protocol";
import { ringing } from "./calling";
import { openChat } from "./route";
import { text } from "./texts";
import icon from "../../icon.svg";

export type Shown = "words" | "name";

const kept = () => (localStorage.getItem("notifications") === "name" ? "name" : "words"); // another tab may have chosen
export const shown = signal<Shown>(kept());

export function show(next: Shown) {
  shown.value = next;
  if (next === "words") localStorage.removeItem("notifications");
  else localStorage.setItem("notifications", next);
}

export function notify(event: Event) {
  if (event.type === "notify") announce(event.chat, event.title, { body: kept() === "words" ? event.body : text("newMessage"), tag: event.chat });
  if (event.type === "ringing") ring(event.call, announce(event.chat, event.title, { body: text(kept() === "name" ? "callNotice" : event.media === "video" ? "incomingVideo" : "incomingAudio"), tag: event.call, requireInteraction: true }));
}

function announce(chat: Id, title: string, options: NotificationOptions): Notification | undefined {
  if (!("Notification" in window) || Notification.permission !== "granted") return;
  try {
    const notification = new Notification(title, { ...options, icon });
    notification.onclick = () => {
      window.focus();
      openChat(chat);
      notification.close();
    };
    return notification;
  } catch { /* a phone's browser has only notifications of service workers */ }
}

// What rings is shown for as long as it rings.
function ring(call: Id, notification: Notification | undefined) {
  if (!notification) return;
  const stop = effect(() => {
    if (ringing.value.some(({ id }) => id === call)) return;
    notification.close();
    queueMicrotask(() => stop());
  });
}
