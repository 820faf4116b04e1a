// One message, and one change of a conversation.
import type { ComponentChildren, VNode } from "preact";
import { useRef, useState } from "preact/hooks";
import type { Change, Entry } from "../protocol";
import { core, state } from "./core";
import { clock, nameOf } from "./format";
import { Icon } from "./icons";
import { reached } from "./route";
import { text } from "./texts";
import { attempt, IconButton, PersonAvatar, say } from "./ui";

const quick = ["👍", "❤️", "😂", "😮", "😢", "🙏"];

// What a person may do with a message, and where they see it.
export interface Around {
  group: boolean;
  joined: boolean;
  onReply: (entry: Entry) => void;
  onEdit: (entry: Entry) => void;
  onQuote: (id: string) => void;
}

interface Props {
  entry: Entry;
  around: Around;
  first: boolean; // of several in a row from one person
  marked: boolean;
}

// Made once for as long as nothing about it changes: a list that grows leaves what it has alone.
const made = new WeakMap<Entry, { props: Props; node: VNode }>();

export function messageNode(props: Props): VNode {
  const kept = made.get(props.entry);
  if (kept && kept.props.around === props.around && kept.props.first === props.first && kept.props.marked === props.marked) return kept.node;
  const node = <Message key={props.entry.id} {...props} />;
  made.set(props.entry, { props, node });
  return node;
}

// Where nothing hovers, every message shows that something can be done with it.
const touch = matchMedia("(hover: none)").matches;

function Message({ entry, around, first, marked }: Props) {
  const [near, setNear] = useState(touch); // the pointer or the keyboard is here: the tools are drawn for one message at a time
  const { group, joined, onReply, onEdit, onQuote } = around;
  const mine = entry.sender === state.me.value?.id;
  const usable = entry.kind !== "broken" && !entry.deleted && entry.seq > 0 && joined;
  return (
    <li class={`message${mine ? " mine" : ""}${first ? " first" : ""}${marked ? " marked" : ""}`} id={"m-" + entry.id} data-seq={entry.seq} tabIndex={-1}
      onPointerEnter={() => setNear(true)} onFocusIn={() => setNear(true)}
      onPointerLeave={(event) => setNear(touch || event.currentTarget.contains(document.activeElement))}
      onFocusOut={(event) => setNear(touch || event.currentTarget.matches(":hover") || event.currentTarget.contains(event.relatedTarget as Node | null))}>
      {!mine && group && (first ? <PersonAvatar id={entry.sender} small /> : <span class="avatar-gap" />)}
      <div class="stack">
        <div class="bubble">
          {!mine && first && group && <span class="sender">{nameOf(entry.sender)}</span>}
          <span class="unseen">{mine || !group ? nameOf(entry.sender) + ": " : ""}</span>
          {entry.replyTo && (
            <button type="button" class="quote" onClick={() => onQuote(entry.replyTo!.id)}>
              <b>{entry.replyTo.sender ? nameOf(entry.replyTo.sender) : text("someone")}</b>
              <span>{entry.replyTo.text || text("notHere")}</span>
            </button>
          )}
          <Body entry={entry} />
          <span class="meta">
            {entry.warning && <span class={entry.warning === "identity" ? "shield alarm" : "shield"} title={text("warning." + entry.warning)} role="img" aria-label={text("warning." + entry.warning)}><Icon name={entry.warning === "identity" ? "warning" : "info"} size={14} /></span>}
            {entry.edited && <span>{text("edited")}</span>}
            <time dateTime={new Date(entry.at).toISOString()}>{clock(entry.at)}</time>
            {mine && <Ticks entry={entry} />}
          </span>
        </div>
        {entry.reactions && entry.reactions.length > 0 && <Reactions entry={entry} usable={usable} />}
        <Trouble entry={entry} />
      </div>
      {usable && near && <Tools entry={entry} mine={mine} onReply={onReply} onEdit={onEdit} />}
    </li>
  );
}

function Body({ entry }: { entry: Entry }) {
  if (entry.deleted) return <p class="faint">{text("deleted")}</p>;
  if (entry.kind === "broken") return <p class="faint"><Icon name="lock" size={15} /> {text("broken." + entry.broken)}</p>;
  return (
    <>
      {entry.file && <p class="file"><b>{entry.file.name}</b> <span>{Math.ceil(entry.file.size / 1024)} KB</span></p>}
      {entry.text && <p class={onlyEmoji.test(entry.text) ? "emoji-only" : ""} dir="auto">{linked(entry.text)}</p>}
    </>
  );
}

const onlyEmoji = /^(\p{Extended_Pictographic}|\p{Emoji_Modifier}|\u200d|\ufe0f){1,8}$/u;
const link = /(https?:\/\/[^\s<>"]+[^\s<>".,;:!?)\]'])/g;

function linked(words: string): ComponentChildren {
  return words.split(link).map((part, i) => (i % 2 ? <a href={part} target="_blank" rel="noopener noreferrer nofollow">{part}</a> : part));
}

// Sent, delivered to everybody, read by everybody.
function Ticks({ entry }: { entry: Entry }) {
  if (entry.state === "failed" || entry.state === "blocked") return <span class="alarm" role="img" aria-label={text("notSent")}><Icon name="warning" size={15} /></span>;
  if (entry.state === "sending" || (entry.seq === 0 && entry.state !== "sent")) return <span role="img" aria-label={text("sending")} class="ticks"><Icon name="clock" size={14} /></span>;
  const { delivered, read } = reached.value;
  if (entry.seq > 0 && read >= entry.seq) return <span role="img" aria-label={text("read")} title={text("read")} class="ticks seen"><Icon name="both" size={16} /></span>;
  if (entry.seq > 0 && delivered >= entry.seq) return <span role="img" aria-label={text("delivered")} title={text("delivered")} class="ticks"><Icon name="both" size={16} /></span>;
  return <span role="img" aria-label={text("sent")} title={text("sent")} class="ticks"><Icon name="sent" size={16} /></span>;
}

function Reactions({ entry, usable }: { entry: Entry; usable: boolean }) {
  const me = state.me.value!.id;
  return (
    <ul class="reactions" aria-label={text("reactions")}>
      {entry.reactions!.map(({ key, users }) => (
        <li key={key}>
          <button type="button" disabled={!usable} aria-pressed={users.includes(me)} title={users.map(nameOf).join(", ")} aria-label={`${key} ${users.map(nameOf).join(", ")}`}
            onClick={() => attempt(() => core("react", { chat: entry.chat, target: entry.id, key, on: !users.includes(me) }))}>{key}<span>{users.length}</span></button>
        </li>
      ))}
    </ul>
  );
}

function Trouble({ entry }: { entry: Entry }) {
  const { chat, id } = entry;
  if (entry.state === "blocked") return <p class="trouble" role="status">{text("held." + entry.failure)}</p>;
  if (entry.state !== "failed") return null;
  return (
    <p class="trouble" role="alert">{text("notSent")} <button type="button" class="link" onClick={() => attempt(() => core("again", { chat, id }))}>{text("again")}</button>
      {" · "}<button type="button" class="link" onClick={() => attempt(() => core("discard", { chat, id }))}>{text("discard")}</button></p>
  );
}

function Tools({ entry, mine, onReply, onEdit }: { entry: Entry; mine: boolean; onReply: (entry: Entry) => void; onEdit: (entry: Entry) => void }) {
  const [open, setOpen] = useState<"above" | "below" | false>(false);
  const { chat, id } = entry;
  const me = state.me.value!.id;
  const tools = useRef<HTMLDivElement>(null);
  const shut = () => {
    setOpen(false);
    tools.current!.querySelector<HTMLElement>("[aria-expanded]")!.focus(); // what had the focus goes with the menu
  };
  const close = (work: () => void) => () => { shut(); work(); };
  const react = (key: string) => {
    const on = !entry.reactions?.find((each) => each.key === key)?.users.includes(me);
    void attempt(() => core("react", { chat, target: id, key, on }));
  };
  return (
    <div class="tools" ref={tools} onKeyDown={(event) => { if (event.key === "Escape" && open) shut(); }} onFocusOut={(event) => { if (!event.currentTarget.contains(event.relatedTarget as Node | null)) setOpen(false); }}>
      <IconButton icon="reply" label={text("reply")} onClick={() => onReply(entry)} />
      <IconButton icon="react" label={text("reactOrMore")} expanded={Boolean(open)} onClick={(event) => setOpen(!open && (roomAbove(event.currentTarget as Element) ? "above" : "below"))} />
      {open && (
        <div class={open === "below" ? "menu below" : "menu"} role="group" aria-label={text("reactOrMore")}>
          <div class="quick">{quick.map((key) => <button type="button" key={key} aria-label={key} onClick={close(() => react(key))}>{key}</button>)}</div>
          <button type="button" onClick={close(() => onReply(entry))}><Icon name="reply" size={17} />{text("reply")}</button>
          <button type="button" onClick={close(() => void navigator.clipboard?.writeText(entry.text ?? "").then(() => say(text("copied")), () => {}))}><Icon name="copy" size={17} />{text("copy")}</button>
          {mine && entry.kind === "text" && <button type="button" onClick={close(() => onEdit(entry))}><Icon name="edit" size={17} />{text("edit")}</button>}
          {mine && <button type="button" class="danger" onClick={close(() => void attempt(() => core("remove", { chat, target: id })))}><Icon name="trash" size={17} />{text("delete")}</button>}
        </div>
      )}
    </div>
  );
}

const menuHeight = 260;
const roomAbove = (button: Element) => button.getBoundingClientRect().top - button.closest(".scroller")!.getBoundingClientRect().top > menuHeight;

export function changeText({ type, by, users = [], name, role }: Change): string {
  const who = by ? nameOf(by) : text("someone");
  const whom = users.filter((id) => id !== by).map(nameOf).join(", ");
  return text("event." + type).replace("{who}", who).replace("{whom}", whom).replace("{name}", name ?? "").replace("{role}", role ? text("role." + role) : "");
}
