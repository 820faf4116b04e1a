// How much of each picture is wanted: as much as is on the screen of it, and nothing of what nobody sees.
import type { Want } from "./wire";

interface Shown { key: string; seen: boolean; height: number } // as if seen until the browser has looked

const ranks: Want[] = ["off", "low", "medium", "high"];

// The layers are of a 1280 by 720 picture and its half and quarter; one that is a little too small for its place is good enough.
export function wantFor(height: number): Want {
  if (height <= 0) return "off";
  return height <= 220 ? "low" : height <= 460 ? "medium" : "high";
}

export class Wants {
  private readonly shown = new Map<Element, Shown>();
  private timer = 0;
  private readonly visible = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) this.note(target, { seen: isIntersecting });
  });
  private readonly sizes = new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries) this.note(target, { height: contentRect.height * devicePixelRatio });
  });

  constructor(private readonly tell: (wants: Map<string, Want>) => void) {
    document.addEventListener("visibilitychange", this.soon);
  }

  // Watches an element that shows a picture, also where it is seen although this page is not (picture in picture).
  watch(element: Element, key: string): () => void {
    this.shown.set(element, { key, seen: true, height: element.getBoundingClientRect().height * devicePixelRatio });
    this.visible.observe(element);
    this.sizes.observe(element);
    this.soon();
    return () => {
      this.shown.delete(element);
      this.visible.unobserve(element);
      this.sizes.unobserve(element);
      this.soon();
    };
  }

  private note(element: Element, change: Partial<Shown>) {
    const shown = this.shown.get(element);
    if (!shown) return;
    Object.assign(shown, change);
    this.soon();
  }

  private readonly soon = () => {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => this.tell(this.now()), 60);
  };

  private now() {
    const wants = new Map<string, Want>();
    for (const [element, { key, seen, height }] of this.shown) {
      const apart = element.ownerDocument !== document || document.pictureInPictureElement === element;
      const want = apart ? wantFor(Math.max(height, 221)) : seen && !document.hidden ? wantFor(height) : "off";
      if (ranks.indexOf(want) > ranks.indexOf(wants.get(key) ?? "off")) wants.set(key, want);
    }
    return wants;
  }

  stop() {
    document.removeEventListener("visibilitychange", this.soon);
    clearTimeout(this.timer);
    this.visible.disconnect();
    this.sizes.disconnect();
  }
}
