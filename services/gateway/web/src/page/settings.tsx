// One's own account, this device, and how things look.
import { useEffect, useState } from "preact/hooks";
import type { SessionView } from "../protocol";
import { core, state } from "./core";
import { DeviceChoices, TryDevices } from "./devices";
import { show, type Shown, shown } from "./notifications";
import { dialog } from "./route";
import { language, languages, setLanguage, text } from "./texts";
import { setTheme, type Theme, theme } from "./theme";
import { TestConnection } from "./trial";
import { Action, attempt, Dialog, say } from "./ui";

const close = () => { dialog.value = null; };

export function Settings() {
  return (
    <Dialog title={text("settings")} onClose={close}>
      <Profile />
      <Looks />
      <CallSettings />
      <Security />
      <Password />
      <p class="hint">{text("servedBy")} {state.servedBy.value}</p>
      <div class="foot"><SignOut /></div>
      <h3>{text("sessions")}</h3>
      <SessionList />
    </Dialog>
  );
}

function Profile() {
  const me = state.me.value!;
  const [name, setName] = useState(me.name);
  return (
    <section>
      <label for="display-name">{text("displayName")}</label>
      <div class="inline">
        <input id="display-name" value={name} maxLength={64} autocomplete="name" onInput={(event) => setName(event.currentTarget.value)} />
        <Action kind="quiet" disabled={!name.trim() || name === me.name} run={async () => { await core("rename", { name: name.trim() }); say(text("saved")); }}>{text("save")}</Action>
      </div>
      <p class="hint">@{me.username}</p>
    </section>
  );
}

function Looks() {
  const [permission, setPermission] = useState("Notification" in window ? Notification.permission : "denied");
  return (
    <section class="fields">
      <label for="choose-language">{text("language")}</label>
      <select id="choose-language" value={language.value} onChange={(event) => setLanguage(event.currentTarget.value)}>
        {(Object.entries(languages) as [string, string][]).map(([code, name]) => <option key={code} value={code} lang={code}>{name}</option>)}
      </select>
      <label for="choose-theme">{text("theme")}</label>
      <select id="choose-theme" value={theme.value} onChange={(event) => setTheme(event.currentTarget.value as Theme)}>
        {(["system", "light", "dark"] as Theme[]).map((each) => <option key={each} value={each}>{text("theme." + each)}</option>)}
      </select>
      <span>{text("notifications")}</span>
      {permission === "default"
        ? <button type="button" class="quiet" onClick={async () => setPermission(await Notification.requestPermission())}>{text("allow")}</button>
        : <span class="hint">{text(permission === "granted" ? "notificationsOn" : "notificationsOff")}</span>}
      <label for="choose-shown">{text("notificationsShow")}</label>
      <select id="choose-shown" value={shown.value} onChange={(event) => show(event.currentTarget.value as Shown)}>
        {(["words", "name"] as Shown[]).map((each) => <option key={each} value={each}>{text("notificationsShow." + each)}</option>)}
      </select>
    </section>
  );
}

function CallSettings() {
  return (
    <details id="call-settings">
      <summary>{text("calls")}</summary>
      <section class="fields"><DeviceChoices /></section>
      <TryDevices />
      <TestConnection />
    </details>
  );
}

function Security() {
  const device = state.device.value;
  return (
    <section>
      <h3>{text("encryption")}</h3>
      <p>{text("device." + device)} {device === "ready" && text(state.backup.value ? "backupOn" : "backupOff")}</p>
      {device === "unverified" && <button type="button" onClick={() => { dialog.value = "recover"; }}>{text("confirmDevice")}</button>}
    </section>
  );
}

// Comes late, so it stands below everything that can be pressed.
export function SessionList() {
  const [sessions, setSessions] = useState<SessionView[]>([]);
  const load = async () => setSessions(await core("sessions"));
  useEffect(() => { void attempt(load); }, []);
  const end = async (id: string) => {
    await core("endSession", { id });
    await load();
  };
  return (
    <ul class="people" id="sessions">
      {sessions.map(({ id, device_name, device_id, last_used_at, current }) => (
        <li key={id}>
          <span class="who"><b>{device_name || device_id}</b><small>{current ? text("thisDevice") : `${text("lastUsed")} ${new Date(last_used_at).toLocaleString(language.value)}`}</small></span>
          {!current && <Action kind="quiet" run={() => end(id)}>{text("endSession")}</Action>}
        </li>
      ))}
    </ul>
  );
}

function Password() {
  const change = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const { current, next } = Object.fromEntries(new FormData(form)) as Record<string, string>;
    if (!await attempt(() => core("changePassword", { current: current!, next: next! }))) return;
    form.reset();
    say(text("passwordChanged"));
  };
  return (
    <details>
      <summary>{text("changePassword")}</summary>
      <form onSubmit={change}>
        <input type="text" name="username" autocomplete="username" value={state.me.value?.username} hidden readOnly />
        <label for="password-now">{text("currentPassword")}</label>
        <input id="password-now" name="current" type="password" autocomplete="current-password" required />
        <label for="password-next">{text("newPassword")}</label>
        <input id="password-next" name="next" type="password" autocomplete="new-password" minLength={8} maxLength={256} required />
        <button type="submit">{text("changePassword")}</button>
      </form>
    </details>
  );
}

export function SignOut() {
  const [sure, setSure] = useState(false);
  const careful = state.device.value === "unverified" || (state.device.value === "ready" && !state.backup.value);
  const out = () => attempt(() => core("logout"));
  if (!sure) return <button type="button" class="quiet danger" id="logout" onClick={() => (careful ? setSure(true) : void out())}>{text("logout")}</button>;
  return <div role="alert"><p>{text("logoutLosesKeys")}</p><Action kind="danger" run={out}>{text("logout")}</Action></div>;
}
