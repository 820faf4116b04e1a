// The call this page is in, the calls that ring, and what a person does about them.
import { computed, effect, signal, untracked } from "@preact/signals";
import { Call } from "../call/call";
import { Cipher } from "../call/cipher";
import { play } from "../call/tone";
import { Wants } from "../call/wants";
import type { Chat, Id, Media, OngoingCall } from "../protocol";
import { core, listen, state } from "./core";
import { say } from "./ui";
import { text } from "./texts";

export interface Mine { call: Call; chat: Id; media: Media; outgoing: boolean; wants: Wants }

export const mine = signal<Mine | null>(null);
export const minimized = signal(false);

const ringsFor = 50_000; // if nobody could tell us of its end
const quiet = signal<ReadonlySet<Id>>(new Set()); // calls that rang for that long

const me = () => state.me.value;
export const stateOf = (call: OngoingCall, user: Id | undefined) => call.members.find(({ id }) => id === user);
export const callIn = (chat: Id) => state.calls.value.find((each) => each.chat === chat);
export const ongoing = computed(() => state.calls.value.find(({ id }) => id === mine.value?.call.id));

// The calls that ring for this person, on every device and tab until one of them says what becomes of it.
export const ringing = computed(() => state.calls.value.filter((call) =>
  stateOf(call, me()?.id)?.state === "ringing" && call.id !== mine.value?.call.id && !quiet.value.has(call.id)));

// Why there can be no call here; "" where there can.
export const obstacle = computed(() => {
  if (!Cipher.possible || !navigator.mediaDevices) return "callsNeedBrowser";
  if (state.device.value === "unverified") return "callsNeedDevice";
  return "";
});

// — What a person does —

export async function place(chat: Chat, media: Media) {
  if (refuse()) return;
  const call = await core("startCall", { chat: chat.id, media });
  enter(call, media, call.by === me()?.id && call.state === "ringing");
}

export async function answer(call: OngoingCall, media: Media) {
  if (!refuse()) enter(call, media, false);
}

export const decline = (call: OngoingCall) => core("declineCall", { call: call.id });

function refuse(): boolean {
  if (obstacle.value) say(text(obstacle.value));
  return obstacle.value !== "";
}

function enter({ id, chat }: OngoingCall, media: Media, outgoing: boolean) {
  close();
  const members = () => state.chats.value.find((each) => each.id === chat)?.members ?? [];
  const call = new Call(id, {
    user: me()!.id,
    token: (worn = "") => core("callToken", { worn }),
    tellKey: (key, to) => core("tellCallKey", { chat, key, to }),
    look: () => core("lookAtCall", { call: id }),
    hangUp: () => core("hangUp", { call: id }),
    member: (user) => members().some((member) => member.id === user),
    slots: Math.min(24, Math.max(2, members().length + 1)),
  });
  void core("prepareCall", { chat }).catch(() => {}); // without it the first key takes longer
  void call.media.turn("microphone", true);
  if (media === "video") void call.media.turn("camera", true);
  minimized.value = false;
  mine.value = { call, chat, media, outgoing, wants: new Wants((wants) => call.want(wants)) };
}

export function close() {
  mine.value?.call.leave();
  mine.value?.wants.stop();
  mine.value = null;
}

// — What goes on by itself —

listen((event) => {
  if (event.type === "call-key") mine.value?.call.key(event.key, event.user, event.device);
  if (event.type === "signed-out") close();
});

effect(() => {
  const call = mine.value?.call;
  if (call && state.chats.value) untracked(() => call.reconsider());
});

const rings = computed(() => ringing.value.length > 0 && !mine.value);

// Only one tab rings aloud, and only one that may: a browser lets no page play that nobody has touched.
effect(() => {
  if (!rings.value || !navigator.userActivation?.hasBeenActive) return;
  const over = new AbortController();
  void navigator.locks.request("ring", { signal: over.signal }, () => new Promise<void>((done) => {
    const stop = play("incoming");
    over.signal.addEventListener("abort", () => {
      stop();
      done();
    });
  })).catch(() => {}); // it was over before it was this tab's turn
  return () => over.abort();
});

effect(() => {
  if (!rings.value) return;
  const calls = untracked(() => ringing.value.map(({ id }) => id));
  const timer = setTimeout(() => { quiet.value = new Set([...quiet.value, ...calls]); }, ringsFor);
  return () => clearTimeout(timer);
});

// The other side is being called, and nobody is there yet.
export const calls = computed(() => {
  const { call, outgoing } = mine.value ?? {};
  return !!call && !!outgoing && call.phase.value !== "over" && call.others.value.length === 0;
});

effect(() => (calls.value ? play("outgoing") : undefined));
