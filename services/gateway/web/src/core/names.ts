// Identifiers as Megolm and Olm see them. The host is constant: what was signed stays good when the domain changes.
import type { Id } from "../protocol";

const host = ":secureconnect";

export const userName = (id: Id) => "@" + id + host;
export const roomName = (id: Id) => "!" + id + host;
export const idOf = (name: string): Id => name.slice(1, name.endsWith(host) ? -host.length : undefined);
