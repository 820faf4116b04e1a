// A call that comes: who calls, and where, and what to say to that. It takes no focus from whoever is writing.
import { useEffect } from "preact/hooks";
import type { Chat, OngoingCall } from "../protocol";
import { answer, callIn, decline, mine, obstacle, place, ringing, stateOf } from "./calling";
import { state } from "./core";
import { nameOf, others, titleOf } from "./format";
import { Icon } from "./icons";
import { text } from "./texts";
import { Action, attempt, IconButton, PersonAvatar } from "./ui";

export function Ringing() {
  const [call] = ringing.value;
  useEffect(() => {
    if (!call) return;
    const press = (event: KeyboardEvent) => {
      if (!event.altKey || event.ctrlKey || event.metaKey || !["KeyA", "KeyX"].includes(event.code)) return;
      event.preventDefault();
      void attempt(() => (event.code === "KeyA" ? answer(call, "audio") : decline(call)));
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, [call]);
  return call && !mine.value ? <Incoming call={call} /> : null;
}

function Incoming({ call }: { call: OngoingCall }) {
  const chat = state.chats.value.find(({ id }) => id === call.chat);
  const where = chat?.kind === "group" ? `${titleOf(chat)} · ` : "";
  return (
    <section class="ringing" role="alertdialog" aria-labelledby="who-calls" aria-live="assertive">
      <PersonAvatar id={call.by} />
      <p id="who-calls"><b>{nameOf(call.by)}</b><span>{where}{text(call.media === "video" ? "incomingVideo" : "incomingAudio")}</span></p>
      {obstacle.value && <p class="trouble">{text(obstacle.value)}</p>}
      <div class="buttons">
        <button type="button" class="hang-up" id="decline-call" aria-keyshortcuts="Alt+X" onClick={() => void attempt(() => decline(call))}><Icon name="hangup" size={18} /> {text("decline")}</button>
        {!obstacle.value && (
          <>
            <Action kind={call.media === "video" ? "quiet" : ""} id="answer-audio" run={() => answer(call, "audio")}><Icon name="phone" size={18} /> {text("answer")}</Action>
            <Action kind={call.media === "video" ? "" : "quiet"} id="answer-video" run={() => answer(call, "video")}><Icon name="camera" size={18} /> {text("answerVideo")}</Action>
          </>
        )}
      </div>
    </section>
  );
}

// In the head of a conversation.
export function CallButtons({ chat }: { chat: Chat }) {
  if (!chat.joined || others(chat).length === 0 || callIn(chat.id)) return null;
  const busy = mine.value !== null;
  const button = (media: "audio" | "video") => {
    const label = busy ? text("alreadyInCall") : text(media === "audio" ? "callAudio" : "callVideo");
    return <IconButton icon={media === "audio" ? "phone" : "camera"} id={"call-" + media} label={label} disabled={busy} onClick={() => void attempt(() => place(chat, media))} />;
  };
  return <>{button("audio")}{button("video")}</>;
}

// Above the messages while a call goes on there.
export function CallBanner({ chat }: { chat: Chat }) {
  const call = callIn(chat.id);
  if (!call || call.members.length === 0 || mine.value?.call.id === call.id) return null;
  const me = stateOf(call, state.me.value?.id);
  if (me?.state === "ringing") return null; // it says so itself
  const there = call.members.filter((member) => member.state === "joined").map(({ id }) => nameOf(id));
  const elsewhere = me?.state === "joined";
  const sentence = elsewhere ? text(me.device === state.me.value?.deviceId ? "inCallInTab" : "inCallElsewhere") : text("callGoesOn").replace("{who}", there.slice(0, 3).join(", ") + (there.length > 3 ? "…" : ""));
  return (
    <Banner sentence={sentence}>
      {obstacle.value
        ? <span class="trouble">{text(obstacle.value)}</span>
        : <Action id="join-call" disabled={mine.value !== null} run={() => answer(call, "audio")}>{text(elsewhere ? "moveHere" : "joinCall")}</Action>}
      {!obstacle.value && <Action kind="quiet" id="join-video" disabled={mine.value !== null} run={() => answer(call, "video")}>{text(elsewhere ? "answerVideo" : "joinVideo")}</Action>}
    </Banner>
  );
}

function Banner({ sentence, children }: { sentence: string; children: preact.ComponentChildren }) {
  return <div class="call-banner" role="status"><Icon name="phone" size={18} /><p>{sentence}</p><div class="buttons">{children}</div></div>;
}

// Beside a conversation in the list.
export function CallSign({ chat }: { chat: Chat }) {
  if (!callIn(chat.id)) return null;
  return <span class="call-sign" role="img" aria-label={text("callNow")} title={text("callNow")}><Icon name="phone" size={16} /></span>;
}

