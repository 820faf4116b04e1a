// The part of a conversation that is on the page: a window over it that moves with the reader and never grows large.
import { signal } from "@preact/signals";
import type { Entry, Event, Id, Page } from "../protocol";
import { core, listen } from "./core";

const step = 16; // drawn at once: so few that scrolling never stands still
const screen = 30; // what one sees first
const most = 150; // on the page

const order = (a: Entry, b: Entry) => (a.seq || Infinity) - (b.seq || Infinity) || a.at - b.at;

export class Timeline {
  readonly entries = signal<Entry[]>([]);
  readonly loaded = signal(false);
  readonly mark = signal<Id | null>(null); // a message that was jumped to
  atStart = false;
  atEnd = true;
  beforeChange: () => void = () => {};
  private loading = false;
  private place = 0; // counts the jumps: what was asked for before one is not wanted after it
  private readonly unlisten: () => void;

  constructor(readonly chat: Id) {
    this.unlisten = listen((event) => this.heard(event));
  }

  stop() { this.unlisten(); }

  private set(entries: Entry[]) {
    this.beforeChange();
    this.entries.value = entries;
  }

  async toEnd() {
    this.place++;
    const page = await core("timeline", { chat: this.chat, limit: screen });
    this.atEnd = true;
    this.atStart = page.atStart;
    this.set(page.entries);
    this.loaded.value = true;
  }

  async toMessage(seq: number) {
    this.place++;
    const page = await core("timeline", { chat: this.chat, around: seq, limit: screen });
    this.atStart = page.atStart;
    this.atEnd = page.atEnd;
    this.set(page.entries);
    this.mark.value = page.entries.find((entry) => entry.seq === seq)?.id ?? null;
    this.loaded.value = true;
  }

  older() {
    const first = this.entries.value.find(({ seq }) => seq > 0)?.seq;
    if (this.atStart || !first) return;
    return this.load({ before: first }, (page) => {
      this.atStart = page.atStart;
      const all = [...page.entries, ...this.entries.value];
      if (all.length > most) this.atEnd = false;
      this.set(all.slice(0, most));
    });
  }

  newer() {
    const last = this.entries.value.findLast(({ seq }) => seq > 0)?.seq;
    if (this.atEnd || !last) return;
    return this.load({ after: last }, (page) => {
      this.atEnd = page.atEnd;
      const all = [...this.entries.value, ...page.entries];
      if (all.length > most) this.atStart = false;
      this.set(all.slice(-most));
    });
  }

  private async load(where: { before: number } | { after: number }, take: (page: Page) => void) {
    if (this.loading) return;
    this.loading = true;
    const { place } = this;
    try {
      const page = await core("timeline", { chat: this.chat, ...where, limit: step });
      if (place === this.place) take(page);
    } finally {
      this.loading = false;
    }
  }

  private heard(event: Event) {
    if (event.type === "leader") void (this.atEnd ? this.toEnd() : undefined);
    if (event.type !== "timeline" || event.chat !== this.chat || !this.loaded.value) return;
    if (event.reset) return void (this.atEnd && this.toEnd());
    const changed = new Map(event.entries.map((entry) => [entry.id, entry]));
    const next = this.entries.value.filter(({ id }) => !event.gone.includes(id)).map((entry) => changed.get(entry.id) ?? entry);
    const known = new Set(next.map(({ id }) => id));
    if (this.atEnd) {
      const first = next.find(({ seq }) => seq > 0)?.seq ?? 0;
      next.push(...event.entries.filter(({ id, seq }) => !known.has(id) && (seq === 0 || seq > first || this.atStart)));
    }
    next.sort(order);
    this.set(next.length > 2 * most ? (this.atStart = false, next.slice(-most)) : next);
  }
}
