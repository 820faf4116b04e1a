// A window of its own for a call, above all others, where the browser has such windows; else the largest picture alone.
import { signal } from "@preact/signals";
import { type ComponentChild, render } from "preact";

interface Apart { requestWindow: (size: { width: number; height: number }) => Promise<Window> }
const maker = () => (window as Window & { documentPictureInPicture?: Apart }).documentPictureInPicture;

export const apart = signal<Window | null>(null);

export const canBeApart = () => maker() !== undefined || document.pictureInPictureEnabled;

export async function openApart(view: ComponentChild) {
  const made = await maker()?.requestWindow({ width: 340, height: 290 });
  if (!made) {
    await document.querySelector<HTMLVideoElement>(".stage :is(.front, .pair, .grid) video:not(.mirrored)")?.requestPictureInPicture();
    return;
  }
  const root = made.document.documentElement;
  root.lang = document.documentElement.lang;
  if (document.documentElement.dataset["theme"]) root.dataset["theme"] = document.documentElement.dataset["theme"];
  made.document.title = document.title;
  for (const sheet of Array.from(document.querySelectorAll("link[rel=stylesheet]"))) made.document.head.append(sheet.cloneNode());
  made.document.body.className = "app apart";
  made.addEventListener("pagehide", () => {
    render(null, made.document.body);
    apart.value = null;
  });
  render(view, made.document.body);
  apart.value = made;
}

export function closeApart() {
  apart.value?.close();
}
