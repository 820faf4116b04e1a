// What is behind the door: the list on one side, a conversation on the other, and dialogs above both.
import { render } from "preact";
import { useEffect } from "preact/hooks";
import "./app.css";
import "./call.css";
import { CallLogDialog } from "./calllog";
import { ringing } from "./calling";
import { Conversation } from "./conversation";
import { core, listen, state } from "./core";
import { titleOf } from "./format";
import { Icon } from "./icons";
import { ChatList } from "./list";
import { notify } from "./notifications";
import { GroupDialog, InfoDialog, PeopleDialog } from "./people";
import { chat, chatId, dialog, openChat } from "./route";
import { Ringing } from "./ringing";
import { Recover, RecoveryKey, Verify } from "./security";
import { SessionList, Settings, SignOut } from "./settings";
import { CallView } from "./stage";
import { text } from "./texts";
import { toast } from "./ui";

export const open = (root: HTMLElement) => render(<App />, root);

export function close(root: HTMLElement) {
  render(null, root);
  dialog.value = null;
  openChat(null);
}

function App() {
  useEffect(attend, [chatId.value]);
  useEffect(() => listen(notify), []);
  useEffect(() => {
    addEventListener("keydown", shortcut);
    return () => removeEventListener("keydown", shortcut);
  }, []);
  const unread = state.chats.value.reduce((sum, each) => sum + each.unread, 0);
  const name = chat.value ? titleOf(chat.value) + " · " : "";
  const call = ringing.value.length > 0 ? text("call") + "! · " : "";
  useEffect(() => { document.title = (unread ? `(${unread}) ` : "") + call + name + "SecureConnect"; }, [unread, call, name]);
  if (!state.me.value) return null;
  if (state.device.value === "insecure") return <Insecure />;
  return (
    <div class="app" data-chat={chat.value ? "" : undefined}>
      <Ringing />
      <ChatList />
      <main class="pane">{chat.value ? <Conversation key={chat.value.id} chat={chat.value} /> : <Nothing />}</main>
      <CallView />
      <Dialogs />
      <p class="toast" role="status" hidden={!toast.value}>{toast.value}</p>
    </div>
  );
}

function Dialogs() {
  if (state.recoveryKey.value) return <RecoveryKey />;
  if (state.verification.value) return <Verify />;
  switch (dialog.value) {
    case "people": return <PeopleDialog />;
    case "group": return <GroupDialog />;
    case "info": return chat.value && <InfoDialog chat={chat.value} />;
    case "settings": return <Settings />;
    case "calls": return <CallLogDialog />;
    case "recover": return <Recover />;
    default: return null;
  }
}

function Nothing() {
  return (
    <div class="nothing">
      <Icon name="lock" size={40} />
      <h1>{text("nothingOpen")}</h1>
      <p>{text("nothingOpenHint")}</p>
    </div>
  );
}

// Without https a browser has no cryptography to offer: the account is all there is.
function Insecure() {
  return (
    <div class="plain">
      <section>
        <h1>{text("hello")} {state.me.value?.name}</h1>
        <p>{text("needsHttps")}</p>
        <SignOut />
        <h2>{text("sessions")}</h2>
        <SessionList />
      </section>
    </div>
  );
}

function attend() {
  const tell = () => void core("attention", { chat: chatId.value, visible: document.visibilityState === "visible" && document.hasFocus() });
  tell();
  addEventListener("focus", tell);
  addEventListener("blur", tell);
  document.addEventListener("visibilitychange", tell);
  const unlisten = listen((event) => { if (event.type === "leader") tell(); }); // who leads now has not been told
  return () => {
    unlisten();
    removeEventListener("focus", tell);
    removeEventListener("blur", tell);
    document.removeEventListener("visibilitychange", tell);
  };
}

function shortcut(event: KeyboardEvent) {
  if ((event.ctrlKey || event.metaKey) && event.key === "k") {
    event.preventDefault();
    document.getElementById("search")?.focus();
  }
  if (event.altKey && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
    event.preventDefault();
    const ids = state.chats.value.map(({ id }) => id);
    const at = ids.indexOf(chatId.value ?? "") + (event.key === "ArrowDown" ? 1 : -1);
    const next = ids[Math.max(0, Math.min(at, ids.length - 1))];
    if (next) openChat(next);
  }
}
