// Who is in the call, and what is known of each: the server's word, and what keys have proven.
import type { CallPeer, Id } from "../protocol";
import type { Place } from "./down";
import type { Quality, Source, WireParticipant } from "./wire";
import type { Count } from "./worker";

// Why nothing of theirs is seen or heard: their key has not come, or they must not have ours.
export type Hidden = "" | "key" | "identity" | "device" | "member";

export interface Member {
  participant: Id;
  user: Id;
  here: boolean;
  quality: Quality;
  speaking: boolean;
  hidden: Hidden;
  sends: Partial<Record<Source, boolean>>; // whether it is on
}

const comesBackWithin = 12_000; // under another name, when all join anew
const speaksWithin = 1500; // after a frame of theirs was opened
const keyDueAfter = 2000;

export const pictureOf = (user: Id, source: Source) => `${user} ${source}`;

export class Room {
  me: Id = ""; // the participant we are
  private readonly there = new Map<Id, WireParticipant>();
  private readonly gone = new Map<Id, { participant: WireParticipant; at: number }>();
  private readonly qualities = new Map<Id, Quality>();
  private readonly heard = new Map<Id, number>(); // when a frame of theirs was opened last
  private readonly unopened = new Map<Id, number>(); // since when their frames have no key
  private speakers: Id[] = [];

  // forgotten is called with whoever will not be back under that name.
  constructor(private readonly user: Id, private readonly forgotten: (participant: Id) => void) {}

  // Who is there now. Anew, those who were may still be on their way.
  are(participants: WireParticipant[], anew: boolean, now: number) {
    const before = [...this.there.values()];
    this.there.clear();
    for (const participant of participants) if (participant.id !== this.me) this.there.set(participant.id, participant);
    for (const participant of before) {
      if (this.there.has(participant.id)) continue;
      if (anew) this.gone.set(participant.id, { participant, at: now });
      else this.forget(participant.id);
    }
  }

  take(participant: WireParticipant) {
    if (participant.id !== this.me) this.there.set(participant.id, participant);
  }

  leave(participant: Id) {
    this.there.delete(participant);
    this.forget(participant);
  }

  private forget(participant: Id) {
    this.gone.delete(participant);
    for (const map of [this.qualities, this.heard, this.unopened]) map.delete(participant);
    this.forgotten(participant);
  }

  participant(id: Id) { return this.there.get(id); }
  get participants() { return [...this.there.values()]; }
  get peers(): CallPeer[] { return this.participants.map(({ id, user_id, device_id }) => ({ participant: id, user: user_id, device: device_id })); }

  private get everybody() { return [...[...this.gone.values()].map(({ participant }) => participant), ...this.there.values()]; }

  speak(speakers: Id[]) { this.speakers = speakers; }

  rate(qualities: Record<Id, Quality>) { for (const [id, quality] of Object.entries(qualities)) this.qualities.set(id, quality); }

  // Learns from what was opened, and what was not.
  count(places: Iterable<Place>, counts: Record<string, Count>, now: number) {
    for (const { name, carries } of places) {
      const count = counts[name];
      const sender = count && count.opened === 0 && count.missing > 0 ? this.senderOf(carries) : undefined;
      if (count && count.opened > 0) {
        this.heard.set(count.owner, now);
        this.unopened.delete(count.owner);
      } else if (sender && !this.unopened.has(sender)) this.unopened.set(sender, now);
    }
  }

  private senderOf(track: Id): Id | undefined {
    return track ? this.everybody.find(({ tracks }) => tracks?.some(({ id }) => id === track))?.id : undefined;
  }

  // Whether something should come at a place now.
  expects({ carries }: Place): boolean {
    const sender = this.there.get(this.senderOf(carries) ?? "");
    return !!sender?.here && this.qualities.get(sender.id) !== "lost" && sender.tracks!.some(({ id, muted }) => id === carries && !muted);
  }

  members(refused: Map<Id, string>, now: number): Member[] {
    const back = new Set(this.participants.map(({ user_id }) => user_id));
    for (const [id, { at }] of this.gone) if (now - at > comesBackWithin) this.forget(id);
    const away = [...this.gone.values()].map(({ participant }) => participant).filter(({ user_id }) => !back.has(user_id));
    return [...this.participants, ...away].sort((a, b) => a.joined_at.localeCompare(b.joined_at)).map((participant): Member => ({
      participant: participant.id, user: participant.user_id, here: participant.here && this.there.has(participant.id),
      quality: this.qualities.get(participant.id) ?? "good", speaking: this.speaks(participant.id, now), hidden: this.hiddenBy(participant.id, refused, now),
      sends: Object.fromEntries((participant.tracks ?? []).map(({ source, muted }) => [source, !muted])),
    }));
  }

  // The server says who speaks; it is believed of those whose voice was opened by their own key.
  private speaks(id: Id, now: number) { return this.speakers.includes(id) && (id === this.me || now - (this.heard.get(id) ?? -Infinity) < speaksWithin); }

  // The users who speak, the loudest first.
  loudest(now: number): Id[] {
    return this.speakers.filter((id) => this.speaks(id, now)).map((id) => (id === this.me ? this.user : this.there.get(id)?.user_id ?? "")).filter(Boolean);
  }

  private hiddenBy(participant: Id, refused: Map<Id, string>, now: number): Hidden {
    if (refused.has(participant)) return refused.get(participant) as Hidden;
    return now - (this.unopened.get(participant) ?? Infinity) > keyDueAfter ? "key" : "";
  }

  // A picture is shown at whoever's key opened it, if that is whom the server names.
  pictures(places: Iterable<Place>): Map<string, MediaStreamTrack> {
    const pictures = new Map<string, MediaStreamTrack>();
    for (const { kind, carries, owner, track } of places) {
      const participant = kind === "video" && owner ? this.everybody.find(({ id }) => id === owner) : undefined;
      const sent = participant?.tracks?.find(({ id, muted }) => id === carries && !muted);
      if (sent) pictures.set(pictureOf(participant!.user_id, sent.source), track);
    }
    return pictures;
  }
}
