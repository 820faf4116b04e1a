// What the system shows of a message that nobody looks at: who wrote it, and what, unless others may see this screen.
import { signal } from "@preact/signals";
import type { Event } from "../protocol";
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
  if (event.type !== "notify" || !("Notification" in window) || Notification.permission !== "granted") return;
  try {
    const notification = new Notification(event.title, { body: kept() === "words" ? event.body : text("newMessage"), tag: event.chat, icon });
    notification.onclick = () => {
      window.focus();
      openChat(event.chat);
      notification.close();
    };
  } catch { /* a phone's browser has only notifications of service workers */ }
}
