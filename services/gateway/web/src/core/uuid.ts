import { now } from "./session";

let last = 0;

// A UUIDv7 (RFC 9562 §5.7); those of one worker sort in the order they were made.
export function uuid7(): string {
  last = Math.max(now(), last + 1);
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  for (let i = 5, rest = Math.floor(last); i >= 0; i--, rest = Math.floor(rest / 256)) bytes[i] = rest % 256;
  bytes[6] = (bytes[6]! & 0x0f) | 0x70;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
