// A conversation: its head, what was said, and what is being written.
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Chat, Entry } from "../protocol";
import { core, state } from "./core";
import { day, moment, nameOf, others, sameDay, titleOf } from "./format";
import { Icon } from "./icons";
import { type Around, changeText, messageNode } from "./message";
import { CallBanner, CallButtons } from "./ringing";
import { dialog, jump, openChat } from "./route";
import { text } from "./texts";
import { Timeline } from "./timeline";
import { Action, attempt, ChatAvatar, IconButton } from "./ui";

export function Conversation({ chat }: { chat: Chat }) {
  const timeline = useMemo(() => new Timeline(chat.id), [chat.id]);
  useEffect(() => () => timeline.stop(), [timeline]);
  const [replying, setReplying] = useState<Entry | null>(null);
  const [editing, setEditing] = useState<Entry | null>(null);
  const editLast = () => {
    const last = timeline.entries.value.findLast(({ sender, kind, deleted, seq }) => sender === state.me.value?.id && kind === "text" && !deleted && seq > 0);
    if (last) setEditing(last);
  };
  return (
    <>
      <Head chat={chat} />
      <CallBanner chat={chat} />
      <Changed chat={chat} />
      <Messages key={chat.id} chat={chat} timeline={timeline} onReply={(entry) => { setEditing(null); setReplying(entry); }} onEdit={(entry) => { setReplying(null); setEditing(entry); }} />
      <p class="typing" aria-live="polite">{typists(chat)}</p>
      {chat.joined
        ? <Composer chat={chat} replying={replying} editing={editing} onDone={() => { setReplying(null); setEditing(null); }} onEditLast={editLast} onSent={() => { if (!timeline.atEnd) void timeline.toEnd(); }} />
        : <p class="no-composer">{text("notMember")}</p>}
    </>
  );
}

function Head({ chat }: { chat: Chat }) {
  return (
    <header class="head">
      <IconButton icon="back" label={text("back")} class="to-list" onClick={() => openChat(null)} />
      <ChatAvatar chat={chat} />
      <div class="head-text">
        <h2>{titleOf(chat)}{chat.verified && <span class="verified" role="img" aria-label={text("verified")} title={text("verified")}><Icon name="shield" size={17} /></span>}</h2>
        <p>{subtitle(chat)}</p>
      </div>
      <CallButtons chat={chat} />
      <IconButton icon="more" label={text("details")} id="open-info" onClick={() => { dialog.value = "info"; }} />
    </header>
  );
}

function subtitle(chat: Chat): string {
  if (state.connection.value === "offline") return text("liveClosed");
  if (chat.kind === "group") return text("memberCount").replace("{count}", String(chat.members.length));
  const [other] = others(chat);
  const presence = other && state.presence.value[other.id];
  if (presence?.online) return text("online");
  return presence?.seenAt ? `${text("lastSeen")} ${moment(Date.parse(presence.seenAt))}` : text("encrypted");
}

function typists(chat: Chat): string {
  const there = (state.typing.value[chat.id] ?? []).map(nameOf);
  if (there.length === 0) return "";
  return there.length === 1 ? text("typing.one").replace("{who}", there[0]!) : text("typing.many").replace("{who}", there.join(", "));
}

// Somebody is not who we knew: nothing is sent until a person has decided.
function Changed({ chat }: { chat: Chat }) {
  return (
    <>
      {chat.changed.map((user) => (
        <div class="changed" role="alert" key={user}>
          <Icon name="warning" />
          <p><b>{text("identityChanged").replace("{who}", nameOf(user))}</b> {text("identityChangedHint")}</p>
          <div class="buttons">
            <Action run={() => core("verifyUser", { user })}>{text("verify")}</Action>
            <Action kind="quiet" run={() => core("approveIdentity", { user })}>{text("acceptIdentity")}</Action>
          </div>
        </div>
      ))}
    </>
  );
}

interface MessagesProps { chat: Chat; timeline: Timeline; onReply: (entry: Entry) => void; onEdit: (entry: Entry) => void }

const near = 60; // pixels from the end that still count as being there
const ahead = 1200; // pixels that are loaded before they are reached

function Messages({ chat, timeline, onReply, onEdit }: MessagesProps) {
  const scroller = useRef<HTMLDivElement>(null);
  const place = useRef<{ end: boolean; anchor?: { id: string; top: number } | undefined }>({ end: true });
  const [away, setAway] = useState(false);
  const readBefore = useMemo(() => (chat.unread > 0 ? chat.read : Infinity), [chat.id]);
  const entries = timeline.entries.value;
  const freshest = entries.find(({ seq, kind, sender }) => seq > readBefore && kind !== "event" && sender !== state.me.value?.id)?.id;

  // Remembers what the reader looks at, so that it stays where it is whatever comes above or below it.
  const remember = () => {
    const box = scroller.current;
    if (!box) return;
    const end = timeline.atEnd && box.scrollHeight - box.scrollTop - box.clientHeight < near;
    const top = box.getBoundingClientRect().top;
    const seen = end ? undefined : Array.from(box.querySelectorAll<HTMLElement>("li.message")).find((item) => item.getBoundingClientRect().bottom > top);
    place.current = { end, anchor: seen && { id: seen.id, top: seen.getBoundingClientRect().top } };
  };
  timeline.beforeChange = remember;

  useLayoutEffect(() => {
    const box = scroller.current!;
    const { end, anchor } = place.current;
    if (end) box.scrollTop = box.scrollHeight;
    else if (anchor) {
      const item = document.getElementById(anchor.id);
      if (item) box.scrollTop += item.getBoundingClientRect().top - anchor.top;
    }
    settle();
  }, [entries]);

  useEffect(() => {
    const wanted = jump.value?.chat === chat.id ? jump.value.seq : null;
    if (wanted === null) {
      if (!timeline.loaded.value) void attempt(() => timeline.toEnd());
      return;
    }
    jump.value = null;
    void attempt(() => timeline.toMessage(wanted)).then(() => show(timeline.mark.value));
  }, [jump.value]);

  // The composer or the keyboard takes room: the end stays in view.
  useEffect(() => {
    const box = scroller.current!;
    const observer = new ResizeObserver(() => { if (place.current.end) box.scrollTop = box.scrollHeight; });
    observer.observe(box);
    const seen = () => settle();
    addEventListener("focus", seen);
    return () => { observer.disconnect(); removeEventListener("focus", seen); };
  }, []);

  const settle = () => {
    const box = scroller.current;
    if (!box || !timeline.loaded.value) return;
    const below = box.scrollHeight - box.scrollTop - box.clientHeight;
    place.current = { ...place.current, end: timeline.atEnd && below < near };
    setAway(below > 600 || !timeline.atEnd);
    if (box.scrollTop < ahead) void timeline.older();
    if (below < ahead) void timeline.newer();
    if (!place.current.end || !document.hasFocus() || document.visibilityState !== "visible") return;
    const last = timeline.entries.value.findLast(({ seq }) => seq > 0)?.seq;
    const { read } = state.chats.value.find(({ id }) => id === chat.id) ?? chat;
    if (last && last > read) void core("read", { chat: chat.id, seq: last });
  };

  const show = (id: string | null) => {
    const item = id && document.getElementById("m-" + id);
    if (!item) return;
    place.current = { end: false };
    item.scrollIntoView({ block: "center" });
    item.focus({ preventScroll: true });
  };

  const quote = async (id: string) => {
    timeline.mark.value = id;
    const here = document.getElementById("m-" + id);
    if (here) return show(id);
  };

  const around = useMemo<Around>(() => ({ group: chat.kind === "group", joined: chat.joined, onReply, onEdit, onQuote: quote }), [chat.kind, chat.joined, timeline]);

  // The arrows go from message to message, Tab from a message to what can be done with it.
  const walk = (event: KeyboardEvent) => {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    event.preventDefault();
    const all = Array.from(scroller.current!.querySelectorAll<HTMLElement>("li.message"));
    const at = all.findIndex((item) => item.contains(document.activeElement));
    all[at < 0 ? all.length - 1 : at + (event.key === "ArrowDown" ? 1 : -1)]?.focus();
  };

  const toEnd = async () => {
    place.current = { end: true };
    if (timeline.atEnd) scroller.current!.scrollTop = scroller.current!.scrollHeight;
    else await timeline.toEnd();
  };

  return (
    <div class="scroll-box">
      <div class="scroller" ref={scroller} onScroll={settle} onKeyDown={walk} tabIndex={0} aria-label={text("messages")} role="region">
        {timeline.loaded.value && timeline.atStart && <p class="beginning"><Icon name="lock" size={16} /> {text("beginning")}</p>}
        <ol role={"log" as never} aria-live="polite" aria-relevant="additions" aria-label={text("messages")}>
          {entries.flatMap((entry, i) => { // one flat list: in lists of their own, equal keys would not find each other
            const before = entries[i - 1];
            const newDay = !before || !sameDay(before.at, entry.at);
            const fresh = entry.id === freshest;
            const first = newDay || fresh || !before || before.sender !== entry.sender || before.kind === "event" || entry.at - before.at > 300_000;
            return [
              newDay && <li class="divider" key={"d-" + entry.id}><span>{day(entry.at)}</span></li>,
              fresh && <li class="divider fresh" key="fresh"><span>{text("newMessages")}</span></li>,
              entry.kind === "event"
                ? <li class="event" key={entry.id} data-seq={entry.seq}>{changeText(entry.change!)}</li>
                : messageNode({ entry, around, first, marked: entry.id === timeline.mark.value }),
            ];
          })}
        </ol>
      </div>
      {away && (
        <span class="to-end"><IconButton icon="down" label={text("toEnd")} onClick={toEnd} />{chat.unread > 0 && <span class="badge">{chat.unread > 99 ? "99+" : chat.unread}</span>}</span>
      )}
    </div>
  );
}

interface ComposerProps { chat: Chat; replying: Entry | null; editing: Entry | null; onDone: () => void; onEditLast: () => void; onSent: () => void }

const drafts = new Map<string, string>(); // kept while the page lives, and nowhere else
const longest = 16_000;

function Composer({ chat, replying, editing, onDone, onEditLast, onSent }: ComposerProps) {
  const field = useRef<HTMLTextAreaElement>(null);
  const [words, setWords] = useState(drafts.get(chat.id) ?? "");
  const told = useRef(0);

  useEffect(() => { if (matchMedia("(hover: hover)").matches || replying || editing) field.current?.focus(); }, [chat.id, replying, editing]);
  useLayoutEffect(() => { setWords(editing ? editing.text ?? "" : drafts.get(chat.id) ?? ""); }, [editing]);
  useLayoutEffect(() => {
    const area = field.current!;
    area.style.height = "0";
    area.style.height = Math.min(area.scrollHeight + 2, 200) + "px";
  }, [words]);

  const write = (next: string) => {
    setWords(next);
    if (editing) return;
    drafts.set(chat.id, next);
    if (next && Date.now() - told.current > 4000) {
      told.current = Date.now();
      void core("typing", { chat: chat.id, on: true });
    } else if (!next && told.current) stopTyping();
  };
  const stopTyping = () => {
    if (told.current) void core("typing", { chat: chat.id, on: false });
    told.current = 0;
  };
  const send = async () => {
    const said = words.trim();
    if (!said) return;
    stopTyping();
    setWords("");
    if (!editing) drafts.delete(chat.id);
    onDone();
    field.current?.focus();
    const done = await attempt(() => editing
      ? core("edit", { chat: chat.id, target: editing.id, text: said })
      : core("send", { chat: chat.id, text: said, ...(replying && { replyTo: replying.id }) }));
    if (done) onSent();
    else setWords(said);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && matchMedia("(hover: hover)").matches) {
      event.preventDefault();
      void send();
    }
    if (event.key === "Escape" && (replying || editing)) onDone();
    if (event.key === "ArrowUp" && words === "") {
      event.preventDefault();
      onEditLast();
    }
  };
  const above = editing ?? replying;
  return (
    <form class="composer" onSubmit={(event) => { event.preventDefault(); void send(); }}>
      {above && (
        <div class="above">
          <Icon name={editing ? "edit" : "reply"} size={18} />
          <p><b>{editing ? text("editing") : nameOf(above.sender)}</b><span>{above.text ?? above.file?.name}</span></p>
          <IconButton icon="close" label={text("cancel")} onClick={onDone} />
        </div>
      )}
      <div class="write">
        <textarea ref={field} id="composer" rows={1} maxLength={longest} value={words} placeholder={text("writeMessage")} aria-label={text("writeMessage")} dir="auto" enterkeyhint="send"
          onInput={(event) => write(event.currentTarget.value)} onKeyDown={onKeyDown} onBlur={stopTyping} />
        <button type="submit" class="icon send" id="send" aria-label={text("send")} title={text("send")} disabled={!words.trim()}><Icon name="send" /></button>
      </div>
    </form>
  );
}
