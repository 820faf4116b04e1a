// What is heard of the others: one element a place, since a browser mixes no tracks of strangers by itself.
import { signal } from "@preact/signals";

export class Sound {
  readonly blocked = signal(false); // the browser wants a click first
  private readonly elements = new Map<string, HTMLAudioElement>();
  private sink = "";

  play(name: string, track: MediaStreamTrack) {
    if (this.elements.has(name)) return;
    const element = new Audio();
    element.srcObject = new MediaStream([track]);
    this.elements.set(name, element);
    void this.send(element);
    this.start(element);
  }

  private start(element: HTMLAudioElement) {
    element.play().then(() => { this.blocked.value = false; }, (problem) => { if (problem.name === "NotAllowedError") this.blocked.value = true; });
  }

  again() { for (const element of this.elements.values()) this.start(element); }

  async through(speaker: string) {
    this.sink = speaker;
    await Promise.all([...this.elements.values()].map((element) => this.send(element)));
  }

  private async send(element: HTMLAudioElement) {
    if ("setSinkId" in element && element.sinkId !== this.sink) await element.setSinkId(this.sink).catch(() => element.setSinkId("")); // unplugged: the system's own
  }

  end(name: string) {
    const element = this.elements.get(name);
    if (!element) return;
    element.srcObject = null;
    this.elements.delete(name);
  }

  stop() { for (const name of [...this.elements.keys()]) this.end(name); }
}
