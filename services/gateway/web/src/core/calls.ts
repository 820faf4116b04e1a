// The calls that go on in our conversations, and the log of those that were. What is said in one is the page's that is in it.
import type { CallLog, CallRecord, Event, Id, Me, Media, OngoingCall } from "../protocol";
import type { Chats } from "./chats";
import { coalesce } from "./lock";
import type { People } from "./people";
import { call, now, Problem } from "./session";
import { uuid7 } from "./uuid";
import type { CallView, RecordView } from "./wire";

const ringsFor = 45_000;

export class Calling {
  readonly refresh: () => Promise<void>;
  private list: OngoingCall[] = [];

  constructor(private readonly me: Me, private readonly chats: Chats, private readonly people: People, private readonly emit: (event: Event) => void, private readonly watched: (chat: null) => boolean) {
    this.refresh = coalesce(() => this.refreshNow());
  }

  private async refreshNow() {
    const { calls } = await call<{ calls: CallView[] | null }>("GET", "/v1/calls");
    const before = this.list;
    this.list = (calls ?? []).map(ongoing).filter(({ chat, state }) => chat && state !== "ended");
    this.emit({ type: "state", part: { calls: this.list } });
    void this.people.ensure(this.list.flatMap(({ members }) => members.map(({ id }) => id)));
    for (const each of this.list) if (this.rings(each) && !before.some((known) => known.id === each.id && this.rings(known))) this.announce(each);
    if (before.some(({ id }) => !this.list.some((each) => each.id === id))) await this.missed();
  }

  private rings({ members, at }: OngoingCall) {
    return now() - at < ringsFor && members.some(({ id, state }) => id === this.me.id && state === "ringing");
  }

  private announce({ id, chat, by, media }: OngoingCall) {
    if (this.watched(null)) return;
    const group = this.chats.list().find((each) => each.id === chat && each.kind === "group");
    const caller = this.people.name(by);
    this.emit({ type: "ringing", call: id, chat, media, title: group ? `${caller} · ${group.name}` : caller });
  }

  async start(chat: Id, media: Media): Promise<OngoingCall> {
    return ongoing(await tell<CallView>("/v1/calls", { conversation_id: chat, client_id: uuid7(), media }));
  }

  async test(): Promise<OngoingCall> { return ongoing(await tell<CallView>("/v1/calls/test")); }
  async look(id: Id): Promise<OngoingCall> { return ongoing(await call<CallView>("GET", "/v1/calls/" + id)); }
  async decline(id: Id) { await tell(`/v1/calls/${id}/decline`); }
  async hangUp(id: Id) { await tell(`/v1/calls/${id}/leave`); }

  async log(before: string): Promise<CallLog> {
    const page = await call<{ calls: RecordView[] | null; next?: string; missed: number; seen_at?: string }>("GET", "/v1/calls/history?limit=30" + (before && "&before=" + encodeURIComponent(before)));
    this.emit({ type: "state", part: { missed: page.missed } });
    return { calls: (page.calls ?? []).map(recordOf), next: page.next ?? "", missed: page.missed, seenAt: page.seen_at ? Date.parse(page.seen_at) : 0 };
  }

  async missed() { await this.log(""); }

  async saw(at: number) {
    await call("PUT", "/v1/calls/history/seen", { at: new Date(at).toISOString() });
    await this.missed();
  }
}

// What a person does is not to fail because the network changes at that moment, which ends what is on its way. It may be said twice.
async function tell<T>(path: string, body?: unknown): Promise<T> {
  try {
    return await call<T>("POST", path, body);
  } catch (problem) {
    if (!(problem instanceof Problem) || problem.status !== 0) throw problem;
    return call<T>("POST", path, body);
  }
}

const ongoing = (c: CallView): OngoingCall => ({
  id: c.id, chat: c.conversation_id ?? "", media: c.media, by: c.started_by, at: Date.parse(c.started_at), state: c.state, reason: c.reason ?? "",
  members: (c.members ?? []).map(({ user_id, state, device_id }) => ({ id: user_id, state, device: device_id ?? "" })),
});

const recordOf = (r: RecordView): CallRecord => ({
  call: r.call_id, chat: r.conversation_id, media: r.media, by: r.started_by, at: Date.parse(r.started_at), ended: Date.parse(r.ended_at), seconds: r.seconds, outcome: r.outcome, reason: r.reason,
});
