// The recovery key, confirming a new device, and comparing emoji.
import { useState } from "preact/hooks";
import { core, state } from "./core";
import { nameOf } from "./format";
import { dialog } from "./route";
import { emojiName, text } from "./texts";
import { Action, attempt, Dialog, say } from "./ui";

export function RecoveryKey() {
  const key = state.recoveryKey.value;
  const [kept, setKept] = useState(false);
  const save = () => {
    const file = new Blob([`SecureConnect\n${state.me.value?.username}\n${key}\n`], { type: "text/plain" });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(file);
    link.download = `secureconnect-${state.me.value?.username}.txt`;
    link.click();
    URL.revokeObjectURL(link.href);
  };
  return (
    <Dialog title={text("recoveryKey")}>
      <p>{text("recoveryKeyHint")}</p>
      <p class="key" id="recovery-key" translate={false}>{key}</p>
      <div class="buttons">
        <button type="button" class="quiet" onClick={() => void navigator.clipboard?.writeText(key).then(() => say(text("copied")))}>{text("copy")}</button>
        <button type="button" class="quiet" onClick={save}>{text("saveFile")}</button>
      </div>
      <label class="choice"><input type="checkbox" id="kept-key" checked={kept} onChange={(event) => setKept(event.currentTarget.checked)} /> <span>{text("recoveryKeyKept")}</span></label>
      <div class="foot"><Action id="key-done" disabled={!kept} run={() => core("keptRecoveryKey")}>{text("done")}</Action></div>
    </Dialog>
  );
}

// A new device of an account that has an identity.
export function Recover() {
  const [key, setKey] = useState("");
  const [password, setPassword] = useState("");
  const [lost, setLost] = useState(false);
  const close = () => { dialog.value = null; };
  const recover = async () => {
    const { restored } = await core("recover", { key });
    say(text("recovered").replace("{count}", String(restored)));
    close();
  };
  const reset = async () => {
    await core("resetIdentity", { password });
    close();
  };
  if (lost) {
    return (
      <Dialog title={text("resetIdentity")} onClose={close}>
        <p>{text("resetIdentityHint")}</p>
        <label for="reset-password">{text("password")}</label>
        <input id="reset-password" type="password" autocomplete="current-password" value={password} onInput={(event) => setPassword(event.currentTarget.value)} />
        <div class="foot"><button type="button" class="quiet" onClick={() => setLost(false)}>{text("back")}</button><Action kind="danger" disabled={!password} run={reset}>{text("resetIdentity")}</Action></div>
      </Dialog>
    );
  }
  return (
    <Dialog title={text("confirmDevice")} onClose={close}>
      <p>{text("confirmDeviceHint")}</p>
      <h3>{text("withOtherDevice")}</h3>
      <Action id="verify-own" run={async () => { await core("verifyOwn"); close(); }}>{text("compareEmoji")}</Action>
      <h3>{text("withRecoveryKey")}</h3>
      <label for="recover-key">{text("recoveryKey")}</label>
      <textarea id="recover-key" class="key" rows={3} autocomplete="off" autocapitalize="none" spellcheck={false} value={key} onInput={(event) => setKey(event.currentTarget.value)} />
      <div class="foot">
        <button type="button" class="link" onClick={() => setLost(true)}>{text("haveNeither")}</button>
        <Action id="use-key" disabled={!key.trim()} run={recover}>{text("continue")}</Action>
      </div>
    </Dialog>
  );
}

export function Verify() {
  const verification = state.verification.value!;
  const who = verification.own ? text("yourOtherDevice") : nameOf(verification.user);
  const end = () => void attempt(() => core("endVerification"));
  const say = (key: string) => text(key).replace("{who}", who);
  return (
    <Dialog title={verification.own ? text("verifyDevice") : say("verifyPerson")} onClose={end}>
      {verification.phase === "asked" && (
        <>
          <p>{say("verifyAsked")}</p>
          <div class="foot"><button type="button" class="quiet" onClick={end}>{text("notNow")}</button><Action id="accept-verification" run={() => core("acceptVerification")}>{text("begin")}</Action></div>
        </>
      )}
      {verification.phase === "waiting" && <p role="status">{say("verifyWaiting")}</p>}
      {(verification.phase === "comparing" || verification.phase === "confirmed") && (
        <>
          <p>{say("verifyCompare")}</p>
          <ol class="emoji" id="emoji">{verification.emoji?.map(({ symbol, index, description }, i) => <li key={i}><span aria-hidden="true">{symbol}</span><small>{emojiName(index) ?? description}</small></li>)}</ol>
          {verification.phase === "confirmed"
            ? <p role="status">{say("verifyWaiting")}</p>
            : (
              <div class="foot">
                <Action kind="quiet danger" run={() => core("confirmEmoji", { match: false })}>{text("emojiDiffer")}</Action>
                <Action id="emoji-match" run={() => core("confirmEmoji", { match: true })}>{text("emojiMatch")}</Action>
              </div>
            )}
        </>
      )}
      {verification.phase === "done" && <><p role="status">{say(verification.own ? "verifyDoneOwn" : "verifyDone")}</p><div class="foot"><button type="button" id="verification-done" onClick={end}>{text("done")}</button></div></>}
      {verification.phase === "cancelled" && <><p role="alert">{text("verifyCancelled")}</p><div class="foot"><button type="button" onClick={end}>{text("close")}</button></div></>}
    </Dialog>
  );
}
