// What this device keeps is sealed with a key that no script can read out of the browser: signing out drops the key,
// and what is left on the disk is noise.
import { type Box, type Database } from "./db";

const decoder = new TextDecoder();
const encoder = new TextEncoder();

export class Vault {
  private constructor(private readonly key: CryptoKey, readonly storeKey: Uint8Array) {}

  static async open(db: Database): Promise<Vault> {
    const kept = await db.get<{ key: CryptoKey; storeKey: Box }>("meta", "vault");
    if (kept) return new Vault(kept.key, await unseal(kept.key, kept.storeKey));
    const key = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]);
    const storeKey = crypto.getRandomValues(new Uint8Array(32));
    await db.put("meta", { name: "vault", key, storeKey: await sealBytes(key, storeKey) });
    return new Vault(key, storeKey);
  }

  seal(value: unknown): Promise<Box> { return sealBytes(this.key, encoder.encode(JSON.stringify(value))); }

  async open<T>(box: Box): Promise<T> { return JSON.parse(decoder.decode(await unseal(this.key, box))); }
}

async function sealBytes(key: CryptoKey, content: Uint8Array<ArrayBuffer>): Promise<Box> {
  const iv = crypto.getRandomValues(new Uint8Array(12));
  const sealed = new Uint8Array(await crypto.subtle.encrypt({ name: "AES-GCM", iv }, key, content));
  const box = new Uint8Array(iv.length + sealed.length);
  box.set(iv);
  box.set(sealed, iv.length);
  return box;
}

async function unseal(key: CryptoKey, box: Box): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await crypto.subtle.decrypt({ name: "AES-GCM", iv: box.subarray(0, 12) }, key, box.subarray(12)));
}
