// The page's side of the core: calls that are answered, and the state it tells, as a signal for each part.
import { batch, signal, type Signal } from "@preact/signals";
import workerURL from "../core/worker.ts?worker&url";
import { type Calls, emptyState, type Event, type Failure, type Method, type State } from "../protocol";
import { worker as start } from "./scripts";

export class Refusal extends Error {
  constructor(readonly failure: Failure) { super(failure.code); }
}

const worker = start(workerURL, "core");
const waiting = new Map<number, { resolve: (value: any) => void; reject: (refusal: Refusal) => void }>();
const listeners = new Set<(event: Event) => void>();
let next = 0;

export const state = Object.fromEntries(Object.entries(emptyState).map(([part, value]) => [part, signal(value)])) as { [P in keyof State]: Signal<State[P]> };

function learn(part: Partial<State>) {
  batch(() => {
    for (const [name, value] of Object.entries(part)) if (name in state) (state[name as keyof State] as Signal<unknown>).value = value;
  });
}

worker.onmessage = ({ data }) => {
  if ("news" in data) {
    const event: Event = data.news;
    if (event.type === "state") learn(event.part);
    if (event.type === "leader") void core("hello").then(learn);
    for (const listener of listeners) listener(event);
    return;
  }
  const { resolve, reject } = waiting.get(data.answer)!;
  waiting.delete(data.answer);
  if (data.failure) reject(new Refusal(data.failure));
  else resolve(data.value);
};

type Args<M extends Method> = Parameters<Calls[M]> extends [] ? [] : Parameters<Calls[M]>;

export function core<M extends Method>(method: M, ...args: Args<M>): Promise<ReturnType<Calls[M]>> {
  const ask = ++next;
  return new Promise((resolve, reject) => {
    waiting.set(ask, { resolve, reject });
    worker.postMessage({ ask, method, args: args[0] });
  });
}

export function listen(listener: (event: Event) => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export async function greet() { learn(await core("hello")); }
