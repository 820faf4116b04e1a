// The conversations, the newest first, and the search over them and over everything said.
import { useEffect, useState } from "preact/hooks";
import type { Chat, Found } from "../protocol";
import { core, state } from "./core";
import { moment, nameOf, titleOf } from "./format";
import { Icon } from "./icons";
import { changeText } from "./message";
import { CallSign } from "./ringing";
import { chatId, dialog, openChat } from "./route";
import { text } from "./texts";
import { Avatar, ChatAvatar, IconButton } from "./ui";

export function ChatList() {
  const [query, setQuery] = useState("");
  const me = state.me.value!;
  const missed = state.missed.value;
  const requests = state.contacts.value.filter((id) => state.people.value[id]?.relation === "incoming").length;
  return (
    <aside class="side" aria-label={text("conversations")}>
      <header>
        <button type="button" class="me" aria-label={text("settings")} title={text("settings")} id="open-settings" onClick={() => { dialog.value = "settings"; }}><Avatar id={me.id} name={me.name} /></button>
        <h1>{text("conversations")}</h1>
        <span class="badged">
          <IconButton icon="phone" label={missed ? `${text("callLog")}, ${text("missedCalls").replace("{count}", String(missed))}` : text("callLog")} id="open-calls" onClick={() => { dialog.value = "calls"; }} />
          {missed > 0 && <span class="badge" aria-hidden="true">{missed > 99 ? "99+" : missed}</span>}
        </span>
        <span class="badged">
          <IconButton icon="people" label={requests ? `${text("people")}, ${text("requests").toLowerCase()}: ${requests}` : text("people")} id="open-people" onClick={() => { dialog.value = "people"; }} />
          {requests > 0 && <span class="badge" aria-hidden="true">{requests}</span>}
        </span>
        <IconButton icon="plus" label={text("newGroup")} id="open-group" onClick={() => { dialog.value = "group"; }} />
      </header>
      <div class="search">
        <Icon name="search" size={18} />
        <input id="search" type="search" value={query} placeholder={text("search")} aria-label={text("search")} onInput={(event) => setQuery(event.currentTarget.value)}
          onKeyDown={(event) => { if (event.key === "Escape") { setQuery(""); event.currentTarget.blur(); } }} />
      </div>
      {query.trim() ? <Results query={query} done={() => setQuery("")} /> : <Chats />}
      <Notices />
    </aside>
  );
}

function Chats() {
  const chats = state.chats.value;
  if (chats.length === 0) {
    return (
      <div class="empty">
        <p>{text("noChats")}</p>
        <button type="button" onClick={() => { dialog.value = "people"; }}>{text("findPeople")}</button>
      </div>
    );
  }
  return <nav class="chats" aria-label={text("conversations")}><ul>{chats.map((chat) => <Row key={chat.id} chat={chat} />)}</ul></nav>;
}

function Row({ chat }: { chat: Chat }) {
  const unread = chat.unread > 99 ? "99+" : chat.unread;
  return (
    <li>
      <a href={"#/c/" + chat.id} class="row" aria-current={chat.id === chatId.value ? "true" : undefined} onClick={(event) => { event.preventDefault(); openChat(chat.id); }}>
        <ChatAvatar chat={chat} />
        <span class="row-text">
          <span class="row-top"><span class="title">{titleOf(chat)}</span><CallSign chat={chat} />{chat.last && <time>{moment(chat.at)}</time>}</span>
          <span class="row-bottom"><span class="preview">{preview(chat)}</span>{chat.unread > 0 && <span class="badge" aria-label={`${unread} ${text("unread")}`}>{unread}</span>}</span>
        </span>
      </a>
    </li>
  );
}

function preview(chat: Chat) {
  const typing = state.typing.value[chat.id];
  if (typing?.length) return <em>{text("isTyping")}</em>;
  const { last } = chat;
  if (!last) return "";
  const mine = last.sender === state.me.value?.id;
  const who = last.kind !== "event" && (mine || chat.kind === "group") ? nameOf(last.sender) + ": " : "";
  if (last.deleted) return who + text("deleted");
  switch (last.kind) {
    case "event": return changeText(last.change!);
    case "broken": return who + text("broken." + last.broken);
    case "file": return who + last.file!.name;
    default: return who + last.text;
  }
}

// What a person should know or do. It comes and goes by itself, so it stands where it moves no button: below the list, and what has one lowest.
function Notices() {
  const { connection, device, queued } = state;
  return (
    <>
      {connection.value !== "online" && (
        <p class="connection" role="status">{connection.value === "connecting" ? text("liveOpening") : text("liveClosed")}{queued.value > 0 && ` ${text("queued").replace("{count}", String(queued.value))}`}</p>
      )}
      {device.value === "unverified" && (
        <div class="notice-box" role="status">
          <p><Icon name="shield" size={18} /> {text("deviceUnverified")}</p>
          <button type="button" id="open-recover" onClick={() => { dialog.value = "recover"; }}>{text("confirmDevice")}</button>
        </div>
      )}
      {device.value === "failed" && <div class="notice-box alarm" role="alert"><p><Icon name="warning" size={18} /> {text("keysFailed")}</p></div>}
    </>
  );
}

function Results({ query, done }: { query: string; done: () => void }) {
  const [found, setFound] = useState<Found[] | null>(null);
  useEffect(() => {
    let current = true;
    const timer = setTimeout(() => void core("search", { text: query }).then((hits) => { if (current) setFound(hits); }, () => {}), 120);
    return () => { current = false; clearTimeout(timer); };
  }, [query]);
  const wanted = query.trim().toLowerCase();
  const chats = state.chats.value.filter((chat) => titleOf(chat).toLowerCase().includes(wanted));
  return (
    <div class="chats" role="region" aria-label={text("results")}>
      {chats.length > 0 && <><h2>{text("conversations")}</h2><ul onClick={done}>{chats.slice(0, 8).map((chat) => <Row key={chat.id} chat={chat} />)}</ul></>}
      {found && <h2>{text("messages")}</h2>}
      {found?.length === 0 && <p class="hint">{text("nothingFound")}</p>}
      <ul>
        {found?.map(({ entry }) => {
          const chat = state.chats.value.find(({ id }) => id === entry.chat);
          return chat && (
            <li key={entry.chat + entry.id}>
              <a href={"#/c/" + entry.chat} class="row" onClick={(event) => { event.preventDefault(); openChat(entry.chat, entry.seq); done(); }}>
                <ChatAvatar chat={chat} />
                <span class="row-text">
                  <span class="row-top"><span class="title">{titleOf(chat)}</span><time>{moment(entry.at)}</time></span>
                  <span class="preview">{nameOf(entry.sender)}: {entry.text}</span>
                </span>
              </a>
            </li>
          );
        })}
      </ul>
    </div>
  );
}
