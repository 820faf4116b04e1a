// The calls that were: who called, what became of it, and calling back.
import { useEffect, useRef, useState } from "preact/hooks";
import type { CallRecord } from "../protocol";
import { mine, place } from "./calling";
import { core, state } from "./core";
import { clock, day, duration, nameOf, sameDay, titleOf } from "./format";
import { Icon, type IconName } from "./icons";
import { dialog, openChat } from "./route";
import { text } from "./texts";
import { attempt, ChatAvatar, Dialog, IconButton } from "./ui";

const close = () => { dialog.value = null; };

export function CallLogDialog() {
  const [records, setRecords] = useState<CallRecord[] | null>(null);
  const [next, setNext] = useState("");
  const [seenAt, setSeenAt] = useState<number | null>(null); // as it was when the log was opened
  const load = (before: string) => attempt(async () => {
    const page = await core("callLog", { before });
    setRecords((shown) => (before ? [...shown ?? [], ...page.calls] : page.calls));
    setNext(page.next);
    setSeenAt((first) => first ?? page.seenAt);
    if (page.missed > 0) await core("sawCalls", { at: Math.max(...page.calls.map(({ ended }) => ended)) });
  });
  const paged = useRef(false);
  useEffect(() => { if (!paged.current) void load(""); }, [state.calls.value]);
  const earlier = () => {
    paged.current = true;
    void load(next);
  };
  return (
    <Dialog title={text("callLog")} onClose={close}>
      {records?.length === 0 && <p class="hint">{text("noCalls")}</p>}
      <ul class="people call-log" aria-label={text("callLog")}>
        {(records ?? []).flatMap((record, i, all) => [
          (i === 0 || !sameDay(all[i - 1]!.at, record.at)) && <li class="day" key={"d" + record.call}><h3>{day(record.at)}</h3></li>,
          <Row key={record.call} record={record} fresh={record.outcome === "missed" && record.ended > (seenAt ?? 0)} />,
        ])}
      </ul>
      {next && <div class="foot"><button type="button" class="quiet" id="earlier-calls" onClick={earlier}>{text("earlierCalls")}</button></div>}
    </Dialog>
  );
}

function Row({ record, fresh }: { record: CallRecord; fresh: boolean }) {
  const chat = state.chats.value.find(({ id }) => id === record.chat);
  const mineIs = record.by === state.me.value?.id;
  const icon: IconName = record.outcome === "missed" ? "missed" : mineIs ? "outgoing" : "incoming";
  const back = (media: "audio" | "video") => attempt(async () => {
    close();
    if (chat) openChat(chat.id);
    await place(chat!, media);
  });
  return (
    <li data-outcome={record.outcome} data-fresh={fresh ? "" : undefined}>
      {chat && <ChatAvatar chat={chat} />}
      <span class="who">
        <b>{chat ? titleOf(chat) : nameOf(record.by)}</b>
        <small><Icon name={icon} size={15} /> {clock(record.at)} · {what(record, mineIs)}</small>
      </span>
      {chat?.joined && !mine.value && (
        <span class="buttons">
          <IconButton icon="phone" label={`${text("callAudio")}: ${titleOf(chat)}`} onClick={() => void back("audio")} />
          <IconButton icon="camera" label={`${text("callVideo")}: ${titleOf(chat)}`} onClick={() => void back("video")} />
        </span>
      )}
    </li>
  );
}

function what({ outcome, reason, seconds, media }: CallRecord, mineIs: boolean): string {
  if (outcome === "answered" && seconds > 0) return `${text(media === "video" ? "videoCall" : "audioCall")} · ${duration(seconds)}`;
  return text(mineIs ? "log.outgoing." + reason : "log." + outcome, "log." + outcome);
}
