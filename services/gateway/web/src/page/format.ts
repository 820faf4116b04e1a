// Times and names as the reader's language writes them.
import { language, text } from "./texts";
import type { Chat, Id } from "../protocol";
import { state } from "./core";

// A formatter costs more to make than a message to draw: one is kept for each form and language.
function form(options: Intl.DateTimeFormatOptions): (at: number) => string {
  const made = new Map<string, Intl.DateTimeFormat>();
  return (at) => {
    if (!made.has(language.value)) made.set(language.value, new Intl.DateTimeFormat(language.value, options));
    return made.get(language.value)!.format(at);
  };
}

export const clock = form({ hour: "2-digit", minute: "2-digit" });
const weekday = form({ weekday: "short" });
const shortDate = form({ day: "numeric", month: "numeric" });
const shortDateOfYear = form({ day: "numeric", month: "numeric", year: "2-digit" });

const dayOf = (at: number) => new Date(at).setHours(0, 0, 0, 0);
export const sameDay = (a: number, b: number) => dayOf(a) === dayOf(b);

export function day(at: number): string {
  const days = Math.round((dayOf(Date.now()) - dayOf(at)) / 86_400_000);
  if (days === 0) return text("today");
  if (days === 1) return text("yesterday");
  const year = new Date(at).getFullYear() === new Date().getFullYear() ? {} : { year: "numeric" as const };
  return new Date(at).toLocaleDateString(language.value, { weekday: days < 7 ? "long" : "short", day: "numeric", month: "long", ...year });
}

// As short as it may be in a list.
export function moment(at: number): string {
  if (sameDay(at, Date.now())) return clock(at);
  const days = (Date.now() - at) / 86_400_000;
  if (days < 6) return weekday(at);
  return (days > 300 ? shortDateOfYear : shortDate)(at);
}

export function nameOf(id: Id): string {
  const me = state.me.value;
  if (me?.id === id) return text("you");
  return state.people.value[id]?.name ?? text("someone");
}

export const others = (chat: Chat) => chat.members.filter(({ id }) => id !== state.me.value?.id);

export function titleOf(chat: Chat): string {
  if (chat.kind === "group" && chat.name) return chat.name;
  return others(chat).map(({ id }) => nameOf(id)).slice(0, 4).join(", ") || chat.name || text("conversation");
}

export function initials(name: string): string {
  const words = name.trim().split(/\s+/);
  return ((words[0]?.[0] ?? "?") + (words.length > 1 ? words.at(-1)![0] : "")).toUpperCase();
}

export function tone(id: Id): number {
  let sum = 0;
  for (const char of id) sum = (sum * 31 + char.charCodeAt(0)) % 8;
  return sum;
}

// 4:05, or 1:02:03.
export function duration(seconds: number): string {
  const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds % 60)];
  const two = (part: number) => String(part).padStart(2, "0");
  return hours > 0 ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}
