// The account's identity and the backup of its keys: made by the first device, taken over by every later one.
import { BackupDecryptionKey, OtherUserIdentity, RoomId } from "@matrix-org/matrix-sdk-crypto-wasm";
import type { DeviceState } from "../protocol";
import type { Keys } from "./crypto";
import type { Database } from "./db";
import { coalesce } from "./lock";
import { call, Problem } from "./session";
import type { Vault } from "./vault";

const algorithm = "m.megolm_backup.v1.curve25519-aes-sha2";

interface Backup { version: string; algorithm: string; auth_data: { public_key: string; secureconnect_identity?: { iv: string; ciphertext: string }; signatures?: unknown } }
interface BackedUp { rooms: Record<string, { sessions: Record<string, { session_data: { ephemeral: string; mac: string; ciphertext: string } }> }> }

export class Recovery {
  readonly save: () => Promise<void>;

  constructor(private readonly keys: Keys, private readonly db: Database, private readonly vault: Vault, private readonly on: { state: (state: DeviceState) => void; key: (key: string) => void; backup: (on: boolean) => void }) {
    this.save = coalesce(() => this.saveNow());
  }

  // Brings this device as far as it comes without asking anybody.
  async start() {
    await this.keys.pump();
    await this.keys.queryOwn();
    if (!await this.keys.identity(this.keys.me.id)) await this.begin();
    await this.judge();
    const kept = await this.db.get<{ box: Uint8Array<ArrayBuffer> }>("meta", "recovery-key");
    if (kept) this.on.key(await this.vault.open(kept.box));
  }

  async judge() {
    const [status, device] = [await this.keys.machine.crossSigningStatus(), await this.keys.ownDevice()];
    const signed = device?.isCrossSignedByOwner() ?? false;
    const backing = await this.keys.machine.isBackupEnabled();
    this.on.backup(backing);
    try {
      if (signed && status.hasMaster && !backing) await this.resumeBackup(status.hasUserSigning);
    } finally {
      this.on.state(signed && status.hasSelfSigning && status.hasUserSigning ? "ready" : "unverified");
    }
  }

  // The first device of an account. Whoever was faster is found at the next look.
  private async begin() {
    await this.publishIdentity(false);
    await this.newBackup();
  }

  private async publishIdentity(reset: boolean, password?: string) {
    const requests = await this.keys.machine.bootstrapCrossSigning(reset);
    if (requests.uploadKeysRequest) await this.keys.make(requests.uploadKeysRequest);
    const body = JSON.parse(requests.uploadSigningKeysRequest.body);
    if (password) body.auth = { type: "m.login.password", password };
    await call("POST", "/v1/keys/device_signing/upload", body);
    await this.keys.post([requests.uploadSignaturesRequest]);
    await this.keys.queryOwn();
  }

  // Everything was lost: a new identity, which all contacts will be shown as a change.
  async reset(password: string) {
    await this.publishIdentity(true, password);
    await this.newBackup();
    await this.judge();
  }

  private async newBackup() {
    const key = BackupDecryptionKey.createRandomKey();
    const text = encodeKey(bytesOf(key.toBase64()));
    const auth: Record<string, unknown> = { public_key: key.megolmV1PublicKey.publicKeyBase64, secureconnect_identity: await this.sealIdentity(bytesOf(key.toBase64())) };
    auth["signatures"] = JSON.parse((await this.keys.machine.sign(canonical(auth))).asJSON());
    await this.db.put("meta", { name: "recovery-key", box: await this.vault.seal(text) });
    const { version } = await call<{ version: string }>("POST", "/v1/keys/backup/version", { algorithm, auth_data: auth });
    await this.use(key, version);
    this.on.key(text);
  }

  private async use(key: BackupDecryptionKey, version: string) {
    const publicKey = key.megolmV1PublicKey.publicKeyBase64;
    await this.keys.machine.saveBackupDecryptionKey(key, version);
    await this.keys.machine.enableBackupV1(publicKey, version);
    this.on.backup(true);
    void this.save();
  }

  // A device verified by emoji is sent the backup's key by the other device; here it is taken up.
  private async resumeBackup(whole: boolean) {
    const kept = await this.keys.machine.getBackupKeys();
    const [secret] = await this.keys.machine.getSecretsFromInbox("m.megolm_backup.v1");
    const text = secret ?? kept.decryptionKeyBase64;
    const backup = await current();
    if (!backup && whole) return this.newBackup(); // the first device was interrupted
    if (!text || !backup) return;
    const key = BackupDecryptionKey.fromBase64(text);
    if (key.megolmV1PublicKey.publicKeyBase64 !== backup.auth_data.public_key) return;
    if (secret) {
      await this.restore(key, backup.version);
      await this.keys.machine.deleteSecretsFromInbox("m.megolm_backup.v1");
    }
    await this.use(BackupDecryptionKey.fromBase64(text), backup.version);
  }

  // A new device with the recovery key: the identity first, then the keys of old messages.
  async recover(text: string): Promise<number> {
    const raw = decodeKey(text);
    const backup = await current();
    const key = raw && BackupDecryptionKey.fromBase64(base64(raw));
    if (!raw || !key || !backup || key.megolmV1PublicKey.publicKeyBase64 !== backup.auth_data.public_key) throw new Problem(400, "wrong_recovery_key");
    const seeds = await this.openIdentity(raw, backup.auth_data.secureconnect_identity);
    await this.keys.queryOwn();
    const status = await this.keys.machine.importCrossSigningKeys(seeds.master, seeds.self_signing, seeds.user_signing);
    const device = await this.keys.ownDevice();
    // An identity on the server that these seeds do not fit was put there by somebody else.
    if (!status.hasMaster || !status.hasSelfSigning || !device) throw new Problem(400, "identity_replaced");
    await this.keys.post([await device.verify()]);
    const identity = await this.keys.identity(this.keys.me.id);
    if (identity && !(identity instanceof OtherUserIdentity) && !identity.isVerified()) await this.keys.post([await identity.verify()]);
    await this.keys.queryOwn();
    const restored = await this.restore(key, backup.version);
    await this.use(BackupDecryptionKey.fromBase64(base64(raw)), backup.version);
    await this.judge();
    return restored;
  }

  private async restore(key: BackupDecryptionKey, version: string): Promise<number> {
    const { rooms } = await call<BackedUp>("GET", "/v1/keys/backup/keys?version=" + encodeURIComponent(version));
    const found = new Map<RoomId, Map<string, unknown>>();
    for (const [room, { sessions }] of Object.entries(rooms)) {
      const opened = new Map<string, unknown>();
      for (const [session, { session_data: data }] of Object.entries(sessions)) {
        try {
          opened.set(session, { ...JSON.parse(key.decryptV1(data.ephemeral, data.mac, data.ciphertext)), session_id: session });
        } catch { /* one damaged key must not keep the others away */ }
      }
      found.set(new RoomId(room), opened);
    }
    if (found.size === 0) return 0;
    return (await this.keys.machine.importBackedUpRoomKeys(found as Map<RoomId, Map<string, any>>, () => {}, version)).importedCount;
  }

  private async saveNow() {
    if (!await this.keys.machine.isBackupEnabled()) return;
    for (let request; (request = await this.keys.machine.backupRoomKeys());) await this.keys.make(request);
  }

  async kept() {
    await this.db.delete("meta", "recovery-key");
    this.on.key("");
  }

  private async sealIdentity(recoveryKey: Uint8Array<ArrayBuffer>) {
    const seeds = await this.keys.machine.exportCrossSigningKeys();
    const iv = crypto.getRandomValues(new Uint8Array(12));
    const content = JSON.stringify({ master: seeds?.masterKey, self_signing: seeds?.self_signing_key, user_signing: seeds?.userSigningKey });
    const sealed = await crypto.subtle.encrypt({ name: "AES-GCM", iv }, await identityKey(recoveryKey), new TextEncoder().encode(content));
    return { iv: base64(iv), ciphertext: base64(new Uint8Array(sealed)) };
  }

  private async openIdentity(recoveryKey: Uint8Array<ArrayBuffer>, sealed: { iv: string; ciphertext: string } | undefined): Promise<{ master: string; self_signing: string; user_signing: string }> {
    if (!sealed) throw new Problem(400, "wrong_recovery_key");
    try {
      const content = await crypto.subtle.decrypt({ name: "AES-GCM", iv: bytesOf(sealed.iv) }, await identityKey(recoveryKey), bytesOf(sealed.ciphertext));
      return JSON.parse(new TextDecoder().decode(content));
    } catch {
      throw new Problem(400, "wrong_recovery_key");
    }
  }
}

async function current(): Promise<Backup | null> {
  try {
    return await call<Backup>("GET", "/v1/keys/backup/version");
  } catch (problem) {
    if (problem instanceof Problem && problem.status === 404) return null;
    throw problem;
  }
}

async function identityKey(recoveryKey: Uint8Array<ArrayBuffer>) {
  const secret = await crypto.subtle.importKey("raw", recoveryKey, "HKDF", false, ["deriveKey"]);
  const derivation = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(), info: new TextEncoder().encode("secureconnect identity") };
  return crypto.subtle.deriveKey(derivation, secret, { name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]);
}

const base64 = (bytes: Uint8Array) => btoa(String.fromCharCode(...bytes)).replace(/=+$/, "");
const bytesOf = (text: string) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));

// Matrix canonical JSON (Appendices, "Canonical JSON"), of what has no numbers.
function canonical(value: unknown): string {
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  if (Array.isArray(value)) return "[" + value.map(canonical).join(",") + "]";
  return "{" + Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, part]) => JSON.stringify(key) + ":" + canonical(part)).join(",") + "}";
}

const alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const prefix = [0x8b, 0x01];

// The recovery key for people (Matrix specification, "Recovery key"): base58 in groups of four, with a parity byte.
export function encodeKey(key: Uint8Array): string {
  const bytes = [...prefix, ...key];
  bytes.push(bytes.reduce((parity, byte) => parity ^ byte, 0));
  let number = bytes.reduce((sum, byte) => sum * 256n + BigInt(byte), 0n);
  let text = "";
  for (; number > 0n; number /= 58n) text = alphabet[Number(number % 58n)] + text;
  return text.replace(/(.{4})(?=.)/g, "$1 ");
}

export function decodeKey(text: string): Uint8Array<ArrayBuffer> | null {
  let number = 0n;
  for (const char of text.replace(/\s/g, "")) {
    const digit = alphabet.indexOf(char);
    if (digit < 0) return null;
    number = number * 58n + BigInt(digit);
  }
  const bytes: number[] = [];
  for (; number > 0n; number /= 256n) bytes.unshift(Number(number % 256n));
  const whole = bytes.length === 35 && bytes[0] === prefix[0] && bytes[1] === prefix[1] && bytes.reduce((parity, byte) => parity ^ byte, 0) === 0;
  return whole ? Uint8Array.from(bytes.slice(2, 34)) : null;
}
