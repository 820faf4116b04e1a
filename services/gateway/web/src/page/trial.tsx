// "Test my connection": what a call with oneself found, and what to do where it failed.
import { useEffect, useState } from "preact/hooks";
import { Cipher } from "../call/cipher";
import { type Finding, Trial, type TrialStep, trialSteps } from "../call/trial";
import { mine } from "./calling";
import { core } from "./core";
import { language, text } from "./texts";

export function TestConnection() {
  const [trial, setTrial] = useState<Trial | null>(null);
  useEffect(() => () => trial?.stop(), [trial]);
  const start = () => {
    const next = new Trial(() => core("testCall"), (worn = "") => core("callToken", { worn }));
    setTrial(next);
    void next.run();
  };
  return (
    <>
      <p class="hint">{text("testHint")}</p>
      <button type="button" class="quiet" id="test-connection" disabled={trial?.running.value || mine.value !== null || !Cipher.possible} onClick={start}>{text("testConnection")}</button>
      {!Cipher.possible && <p class="trouble">{text("callsNeedBrowser")}</p>}
      {trial && <ol class="trial" id="trial" aria-live="polite">{trialSteps.map((step) => <Step key={step} step={step} finding={trial.findings.value[step]} />)}</ol>}
    </>
  );
}

function Step({ step, finding }: { step: TrialStep; finding: Finding }) {
  const { state, advice } = finding;
  return (
    <li data-step={step} data-state={state}>
      <span class="mark" role="img" aria-label={text("found." + state)} />
      <span class="who"><b>{text("trial." + step)}</b><small>{said(step, finding)}</small>{advice && <small class="advice">{text("advice." + advice)}</small>}</span>
    </li>
  );
}

function said(step: TrialStep, { state, milliseconds, loss = 0, over }: Finding): string {
  if (state === "waiting" || state === "running" || state === "failed") return text("found." + state);
  const time = text("milliseconds").replace("{count}", String(milliseconds));
  if (step !== "line") return `${text("found." + state)}, ${time}`;
  const percent = new Intl.NumberFormat(language.value, { style: "percent", maximumFractionDigits: 1 }).format(loss);
  return text("lineFound").replace("{time}", time).replace("{loss}", percent).replace("{over}", (over ?? "udp").toUpperCase());
}
