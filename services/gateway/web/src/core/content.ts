// Reads what is inside a message (CONTENT.md). Whoever wrote it may be anybody: what does not fit is damaged.
import type { Attachment, Content, Id } from "../protocol";

const textLimit = 16_000;
const name = /^[0-9a-f-]{36}$/;

export function readContent(value: any): Content | null {
  if (typeof value !== "object" || value === null || !isId(value.id)) return null;
  const { id, kind, text, target } = value;
  switch (kind) {
    case "text": return isText(text) ? { id, kind, text, ...replyOf(value) } : null;
    case "file": return isFile(value.file) ? { id, kind, file: value.file, ...(isText(text) && { text }), ...replyOf(value) } : null;
    case "edit": return isText(text) && isId(target) ? { id, kind, target, text } : null;
    case "delete": return isId(target) ? { id, kind, target } : null;
    case "react": {
      const { key, on } = value;
      const fits = isId(target) && typeof key === "string" && key !== "" && new TextEncoder().encode(key).length <= 32 && typeof on === "boolean";
      return fits ? { id, kind, target, key, on } : null;
    }
    default: return null;
  }
}

const isId = (value: unknown): value is Id => typeof value === "string" && name.test(value);
const isText = (value: unknown): value is string => typeof value === "string" && value.length > 0 && value.length <= textLimit;
const replyOf = (value: any) => (isId(value.reply_to) ? { reply_to: value.reply_to as Id } : {});

function isFile(value: any): value is Attachment {
  return typeof value === "object" && value !== null && ["name", "type", "url", "key", "hash"].every((field) => typeof value[field] === "string" && value[field].length <= 2048) && Number.isSafeInteger(value.size);
}
