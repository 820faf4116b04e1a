// Why no media flows, from what was seen: a sentence is chosen by it (texts.ts, "trouble.").
import type { RelayFacts } from "./relays";

export type Trouble = "server" | "credentials" | "full" | "relay" | "media";

export interface ConnectionFacts extends RelayFacts { connected: boolean }

export interface Facts {
  serverAway: number; // milliseconds without the call's socket
  waiting: number; // milliseconds since a connection that does not work was begun; 0 if both do
  connections: ConnectionFacts[];
}

const patience = 4000;

export function diagnose({ serverAway, waiting, connections }: Facts): Trouble | null {
  if (serverAway > patience) return "server";
  const broken = connections.filter(({ connected }) => !connected);
  if (waiting <= patience || broken.length === 0) return null;
  if (broken.some(({ answered }) => answered.length > 0)) return "media"; // the relay does what it should
  if (broken.some(({ refused }) => refused)) return "credentials";
  if (broken.some(({ full }) => full)) return "full";
  return "relay";
}
