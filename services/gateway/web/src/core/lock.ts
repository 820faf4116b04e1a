// Work under one name is done one after the other.
const tails = new Map<string, Promise<unknown>>();

export function serial<T>(name: string, work: () => Promise<T>): Promise<T> {
  const before = tails.get(name) ?? Promise.resolve();
  const mine = before.then(work, work);
  const tail = mine.catch(() => {}).then(() => { if (tails.get(name) === tail) tails.delete(name); });
  tails.set(name, tail);
  return mine;
}

// Calls that come while one runs share the one that follows it.
export function coalesce(work: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | null = null;
  let next: Promise<void> | null = null;
  const run = (): Promise<void> => {
    if (running) return next ??= running.catch(() => {}).then(() => { next = null; return run(); });
    return running = work().finally(() => { running = null; });
  };
  return run;
}
