// Where the person is: a conversation in the address, so that back goes back; a dialog above it.
import { computed, signal } from "@preact/signals";
import type { Id } from "../protocol";
import { state } from "./core";

export type Dialog = "people" | "group" | "info" | "settings" | "calls" | "recover" | null;

const read = () => /^#\/c\/([0-9a-f-]+)$/.exec(location.hash)?.[1] ?? null;

export const chatId = signal<Id | null>(read());
export const dialog = signal<Dialog>(null);
export const jump = signal<{ chat: Id; seq: number } | null>(null);
export const chat = computed(() => state.chats.value.find(({ id }) => id === chatId.value) ?? null);

// How far everybody else has come in the conversation that is open.
export const reached = computed(() => {
  const rest = (chat.value?.members ?? []).filter(({ id }) => id !== state.me.value?.id);
  const least = (of: "delivered" | "read") => rest.length > 0 ? Math.min(...rest.map((member) => member[of])) : 0;
  return { delivered: least("delivered"), read: least("read") };
});

addEventListener("popstate", () => { chatId.value = read(); });
addEventListener("hashchange", () => { chatId.value = read(); });

export function openChat(id: Id | null, at?: number) {
  if (at !== undefined && id) jump.value = { chat: id, seq: at };
  dialog.value = null;
  if (id === chatId.value) return;
  const address = id ? "#/c/" + id : location.pathname;
  // From one conversation to the next is one step back to the list.
  if (chatId.value && id) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  chatId.value = id;
}
