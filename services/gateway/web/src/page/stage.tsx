// A call, as large as the window allows, or small in a corner while its conversation goes on.
import type { ComponentChildren, RefObject } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Member } from "../call/room";
import type { Chat, Id } from "../protocol";
import { calls, close, type Mine, mine, minimized, ongoing, place, stateOf } from "./calling";
import { Controls } from "./controls";
import { state } from "./core";
import { duration, nameOf, others, titleOf } from "./format";
import { Icon } from "./icons";
import { apart, canBeApart, closeApart, openApart } from "./pip";
import { text } from "./texts";
import { Bars, OwnTile, Tile } from "./tile";
import { Action, attempt, ChatAvatar, IconButton, say } from "./ui";

export function CallView() {
  const self = mine.value;
  return self && <View key={self.call.id} self={self} />;
}

const chatOf = (self: Mine) => state.chats.value.find(({ id }) => id === self.chat);

function View({ self }: { self: Mine }) {
  const chat = chatOf(self);
  useEffect(() => () => closeApart(), []);
  if (self.call.phase.value === "over") return <Over self={self} chat={chat} />;
  if (apart.value) return null;
  return minimized.value ? <Mini self={self} chat={chat} /> : <Stage self={self} chat={chat} />;
}

const titled = (chat: Chat | undefined) => (chat ? titleOf(chat) : text("call"));

function Stage({ self, chat }: { self: Mine; chat: Chat | undefined }) {
  const stage = useRef<HTMLElement>(null);
  useEffect(() => {
    const before = document.activeElement;
    stage.current!.focus();
    return () => { if (before instanceof HTMLElement) before.focus(); };
  }, []);
  return (
    <section class="stage" ref={stage} tabIndex={-1} aria-label={`${text("call")}: ${titled(chat)}`}>
      <header>
        <div class="head-text">
          <h2>{titled(chat)}{chat?.verified && <span class="verified" role="img" aria-label={text("verified")} title={text("verified")}><Icon name="shield" size={17} /></span>}</h2>
          <p role="status"><Status self={self} chat={chat} /></p>
        </div>
        {canBeApart() && <IconButton icon="picture" label={text("pictureInPicture")} onClick={() => void attempt(() => openApart(<Apart />))} />}
        <IconButton icon="shrink" label={text("minimize")} id="minimize-call" onClick={() => { minimized.value = true; }} />
      </header>
      <Notices self={self} />
      <Tiles self={self} chat={chat} />
      <Controls self={self} />
    </section>
  );
}

function Status({ self: { call }, chat }: { self: Mine; chat: Chat | undefined }) {
  const people = call.others.value.length;
  if (call.phase.value === "joining") return <>{text("connecting")}</>;
  if (people === 0) return <>{calls.value ? text(rung(chat) ? "ringingThem" : "callingThem") : text("nobodyElse")}</>;
  if (!call.flowing.value) return <>{text(call.away.value || call.trouble.value ? "reconnecting" : "connecting")}</>;
  const count = chat?.kind === "group" ? ` · ${text("inCall").replace("{count}", String(people + 1))}` : "";
  return <><Time />{count}<span class="quiet-sign"> · <Icon name="lock" size={14} /> {text("encrypted")}</span></>;
}

// Whether it rings at somebody's.
const rung = (chat: Chat | undefined) => !!chat && others(chat).some(({ id }) => ongoing.value && stateOf(ongoing.value, id)?.state === "ringing");

function Time() {
  const [began] = useState(() => Date.now());
  const [now, setNow] = useState(began);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  return <span role="timer">{duration((now - began) / 1000)}</span>;
}

// What is wrong, in a sentence, and what can be done about it.
function Notices({ self: { call } }: { self: Mine }) {
  const { up, down } = call.quality.value;
  const weak = call.trouble.value ? "" : up === "poor" || up === "lost" ? "weak.up" : down === "poor" || down === "lost" ? "weak.down" : "";
  const { microphone, camera } = call.media;
  return (
    <div class="notices">
      {call.trouble.value && <p class="alarm" role="alert"><Icon name="warning" size={18} /> {text("trouble." + call.trouble.value)}</p>}
      {weak && <p role="status"><Bars quality="poor" /> {text(weak)}</p>}
      {microphone.value.problem && <p class="alarm" role="alert"><Icon name="muted" size={18} /> {text(`microphone.${microphone.value.problem}`)}</p>}
      {camera.value.problem && <p class="alarm" role="alert"><Icon name="cameraOff" size={18} /> {text(`camera.${camera.value.problem}`)}</p>}
      {call.sound.blocked.value && <p role="alert"><Icon name="speaker" size={18} /> {text("soundBlocked")} <button type="button" class="link" onClick={() => call.sound.again()}>{text("hear")}</button></p>}
    </div>
  );
}

interface Shown { member: Member; source: "camera" | "screen" }
const keyOf = ({ member, source }: Shown) => `${member.user} ${source}`;

function Tiles({ self, chat }: { self: Mine; chat: Chat | undefined }) {
  const [picked, setPicked] = useState("");
  const { call } = self;
  const members = call.others.value;
  const screens = members.filter(({ sends }) => sends.screen).map((member): Shown => ({ member, source: "screen" }));
  const people = useForward(members, call.loudest.value).map((member): Shown => ({ member, source: "camera" }));
  const all = [...screens, ...people];
  const front = all.find((shown) => keyOf(shown) === picked) ?? screens[0];
  const tile = (shown: Shown) => {
    const key = keyOf(shown), chosen = key === (front && keyOf(front));
    return <Tile key={key} {...shown} picked={chosen} {...(all.length > 1 && { onPick: () => setPicked(chosen && picked ? "" : key) })} />;
  };
  if (members.length === 0) return <Alone self={self} chat={chat} />;
  if (front) {
    return (
      <div class="tiles with-front">
        <div class="front">{tile(front)}</div>
        <div class="strip">{all.filter((shown) => shown !== front).map(tile)}<OwnTile self={self} /></div>
      </div>
    );
  }
  if (members.length === 1) return <div class="tiles pair">{people.map(tile)}<OwnTile self={self} /></div>;
  return <Grid count={members.length + 1}>{people.map(tile)}<OwnTile self={self} /></Grid>;
}

const onScreen = 24;

// Everybody keeps their place; whoever speaks and is further down than the screen shows takes the place of the last who is silent.
function useForward(members: Member[], loudest: Id[]): Member[] {
  const first = useRef<Id[]>([]);
  const there = new Map(members.map((member) => [member.user, member]));
  const kept = first.current.filter((user) => there.has(user));
  for (const { user } of members) if (kept.length < onScreen && !kept.includes(user)) kept.push(user);
  for (const user of loudest) {
    if (kept.includes(user) || !there.has(user)) continue;
    const silent = kept.findLastIndex((each) => !loudest.includes(each));
    if (silent >= 0) kept[silent] = user;
  }
  first.current = kept;
  return [...kept.map((user) => there.get(user)!), ...members.filter(({ user }) => !kept.includes(user))];
}

function Alone({ self, chat }: { self: Mine; chat: Chat | undefined }) {
  return (
    <div class="tiles alone">
      {chat && <ChatAvatar chat={chat} />}
      <OwnTile self={self} />
    </div>
  );
}

// As many columns as leave little room empty and make the tiles neither narrow nor flat.
function Grid({ count, children }: { count: number; children: ComponentChildren }) {
  const box = useRef<HTMLDivElement>(null);
  const columns = useColumns(box, Math.min(count, onScreen + 1));
  return <div class="tiles grid" ref={box} style={{ gridTemplateColumns: `repeat(${columns}, minmax(0, 1fr))` }}>{children}</div>;
}

const pleasing = 1.3; // width by height

function useColumns(box: RefObject<HTMLDivElement | null>, count: number): number {
  const [{ width, height }, setSize] = useState({ width: 16, height: 9 });
  useLayoutEffect(() => {
    const observer = new ResizeObserver(([entry]) => setSize({ width: entry!.contentRect.width, height: entry!.contentRect.height }));
    observer.observe(box.current!);
    return () => observer.disconnect();
  }, []);
  const worth = (columns: number) => {
    const rows = Math.ceil(count / columns), shape = width / columns / (height / rows);
    return Math.min(shape / pleasing, pleasing / shape) * count / (columns * rows);
  };
  let best = 1;
  for (let columns = 2; columns <= count; columns++) if (worth(columns) > worth(best)) best = columns;
  return best;
}

function Apart() {
  const self = mine.value;
  return self && <Mini self={self} chat={chatOf(self)} />;
}

// The call goes on below what is read and written meanwhile.
function Mini({ self, chat }: { self: Mine; chat: Chat | undefined }) {
  const { call } = self;
  const members = call.others.value;
  const screen = members.find(({ sends }) => sends.screen);
  const loudest = members.find(({ user }) => call.loudest.value.includes(user)) ?? members[0];
  return (
    <section class="mini" aria-label={`${text("call")}: ${titled(chat)}`}>
      {screen ? <Tile member={screen} source="screen" /> : loudest ? <Tile member={loudest} source="camera" /> : <OwnTile self={self} />}
      <p role="status"><b>{titled(chat)}</b> <Status self={self} chat={chat} /></p>
      <Controls self={self} small />
    </section>
  );
}

// What became of the call, until it is read.
function Over({ self, chat }: { self: Mine; chat: Chat | undefined }) {
  const reason = self.call.reason.value;
  const plain = reason === "left" || reason === "cancelled";
  useEffect(() => {
    if (plain) {
      say(text("ended." + reason));
      return close();
    }
    const timer = setTimeout(close, 15_000);
    return () => clearTimeout(timer);
  }, []);
  if (plain) return null;
  const [other] = chat ? others(chat) : [];
  const sentence = text(reason.startsWith("refused.") ? reason.replace("refused", "code") : "ended." + reason, "ended.refused");
  return (
    <section class="ringing" role="alertdialog" aria-labelledby="call-over">
      {chat && <ChatAvatar chat={chat} />}
      <p id="call-over"><b>{titled(chat)}</b><span>{sentence.replace("{who}", chat?.kind === "direct" && other ? nameOf(other.id) : text("someone"))}</span></p>
      <div class="buttons">
        <button type="button" class="quiet" onClick={close}>{text("close")}</button>
        {chat?.joined && reason !== "elsewhere" && reason !== "removed" && <Action id="call-again" run={() => place(chat, self.media)}>{text("callAgain")}</Action>}
      </div>
    </section>
  );
}
