// One person in a call, or what they show: their picture, or their sign where there is none, and what there is to know of both.
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { type Member, pictureOf } from "../call/room";
import type { Quality } from "../call/wire";
import type { Id } from "../protocol";
import { type Mine, mine } from "./calling";
import { state } from "./core";
import { nameOf, others, tone } from "./format";
import { Icon } from "./icons";
import { text } from "./texts";
import { Avatar, PersonAvatar } from "./ui";

export function Picture({ track, mirrored, fit }: { track: MediaStreamTrack; mirrored?: boolean; fit?: "contain" | "cover" }) {
  const video = useRef<HTMLVideoElement>(null);
  useLayoutEffect(() => {
    video.current!.srcObject = new MediaStream([track]);
    return () => { if (video.current) video.current.srcObject = null; };
  }, [track]);
  return <video ref={video} class={`${mirrored ? "mirrored " : ""}${fit ?? "cover"}`} muted autoplay playsInline />;
}

// Tells the call how much of this picture is on the screen.
function useWanted(key: string) {
  const element = useRef<HTMLElement>(null);
  useEffect(() => mine.value?.wants.watch(element.current!, key), [key]);
  return element;
}

interface TileProps { member: Member; source: "camera" | "screen"; onPick?: () => void; picked?: boolean }

export function Tile({ member, source, onPick, picked }: TileProps) {
  const { call } = mine.value!, { user } = member;
  const key = pictureOf(user, source);
  const element = useWanted(key);
  const track = member.hidden ? undefined : call.pictures.value.get(key);
  const name = source === "screen" ? text("screenOf").replace("{who}", nameOf(user)) : nameOf(user);
  return (
    <figure ref={element} class={frameOf(user)} data-user={user} data-source={source} data-speaking={source === "camera" && member.speaking ? "" : undefined}>
      {track ? <Picture track={track} fit={source === "screen" ? "contain" : "cover"} /> : <PersonAvatar id={user} />}
      <Note member={member} />
      <Caption user={user} name={name} muted={source === "camera" && !member.sends.microphone} quality={member.quality} />
      {onPick && <button type="button" class="icon pick" aria-pressed={picked} aria-label={`${text(picked ? "unpin" : "pin")}: ${name}`} title={text(picked ? "unpin" : "pin")} onClick={onPick}><Icon name="pin" size={18} /></button>}
    </figure>
  );
}

export function OwnTile({ self }: { self: Mine }) {
  const { camera, microphone } = self.call.media, { id, name } = state.me.value!;
  const { track } = camera.value;
  return (
    <figure class={frameOf(id)} data-user={id} data-source="own" data-speaking={microphone.value.on && self.call.loudest.value.includes(id) ? "" : undefined}>
      {track ? <Picture track={track} mirrored /> : <Avatar id={id} name={name} />}
      <Caption user={id} name={text("you")} muted={!microphone.value.on} quality="good" />
    </figure>
  );
}

const frameOf = (user: Id) => `tile tone-${tone(user)}`;

function Caption({ user, name, muted, quality }: { user: Id; name: string; muted: boolean; quality: Quality }) {
  return (
    <figcaption>
      {muted && <span class="sign" role="img" aria-label={text("isMuted")} title={text("isMuted")}><Icon name="muted" size={16} /></span>}
      <span class="name">{name}</span>
      {isVerified(user) && <span class="sign" role="img" aria-label={text("verified")} title={text("verified")}><Icon name="shield" size={16} /></span>}
      {quality !== "good" && <Bars quality={quality} />}
    </figcaption>
  );
}

const levels: Record<Quality, number> = { good: 3, fair: 2, poor: 1, lost: 0 };

export function Bars({ quality }: { quality: Quality }) {
  return (
    <span class="bars" role="img" data-quality={quality} aria-label={text("quality." + quality)} title={text("quality." + quality)}>
      {[1, 2, 3].map((bar) => <i key={bar} data-on={bar <= levels[quality] ? "" : undefined} />)}
    </span>
  );
}

// Why there is nothing to see or hear of somebody.
function Note({ member: { user, here, hidden, quality } }: { member: Member }) {
  const reason = !here || quality === "lost" ? "comingBack" : hidden && "hidden." + hidden;
  return reason ? <TileNote>{text(reason).replace("{who}", nameOf(user))}</TileNote> : null;
}

const TileNote = ({ children }: { children: ComponentChildren }) => <p class="tile-note" role="status">{children}</p>;

// Whether this person's identity was confirmed, as the conversation with them shows it.
function isVerified(user: Id): boolean {
  return state.chats.value.some((chat) => chat.verified && (chat.id === mine.value?.chat || chat.kind === "direct") && others(chat).some(({ id }) => id === user));
}

