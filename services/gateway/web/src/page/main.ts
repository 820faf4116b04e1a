// The door: sign in or create an account. What is behind it is loaded meanwhile.
import type { Me } from "../protocol";
import { core, greet, listen, Refusal } from "./core";
import { language, refusal, setLanguage, text, translate } from "./texts";
import "./theme";

const inside = import("./app");
const $ = <E extends HTMLElement>(id: string) => document.getElementById(id) as E;

function show(view: "signed-out" | "registering") {
  $("door").hidden = false;
  $("signed-in").hidden = true;
  for (const name of ["signed-out", "registering"]) $(name).hidden = name !== view;
  $(view).querySelector("input")?.focus();
}

function say(sentence: string) {
  $("message").textContent = sentence;
  $("message").hidden = !sentence;
}

function onSubmit(id: string, action: (fields: Record<string, string>) => Promise<void>) {
  const form = $<HTMLFormElement>(id);
  const button = form.querySelector<HTMLButtonElement>("button[type=submit]")!;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    say("");
    button.disabled = true;
    try {
      await action(Object.fromEntries(new FormData(form)) as Record<string, string>);
    } catch (error) {
      say(error instanceof Refusal ? refusal(error.failure) : text("offline"));
    } finally {
      button.disabled = false;
    }
  });
}

async function enter(_: Me) {
  for (const form of Array.from(document.forms)) form.reset();
  const { open } = await inside;
  $("door").hidden = true;
  $("signed-in").hidden = false;
  if (location.pathname !== "/") history.replaceState(null, "", "/" + location.hash);
  open($("signed-in"));
}

onSubmit("login-form", async ({ username, password }) => enter(await core("login", { username: username!, password: password!, device: deviceName() })));

onSubmit("register-form", async ({ username, display_name, password, invite }) => {
  await core("register", { username: username!, display_name: display_name!, password: password!, ...(invite && { invite }) });
  await enter(await core("login", { username: username!, password: password!, device: deviceName() }));
});

$("show-register").addEventListener("click", () => { say(""); show("registering"); });
$("show-login").addEventListener("click", () => { say(""); show("signed-out"); });

const chooser = $<HTMLSelectElement>("language");
chooser.value = language.value;
chooser.addEventListener("change", () => {
  setLanguage(chooser.value);
  translate();
  say("");
});

listen(async (event) => {
  if (event.type === "state" && event.part.me && $("signed-in").hidden) await enter(event.part.me); // another tab signed in
  if (event.type !== "signed-out") return;
  (await inside).close($("signed-in"));
  show("signed-out");
  say(event.by === "server" ? text("sessionEnded") : "");
});

function deviceName() {
  const agent = navigator.userAgent;
  const browser = ["Firefox", "Edg", "OPR", "Chrome", "Safari"].find((name) => agent.includes(name + "/")) ?? "Browser";
  const system = ["Android", "iPhone", "iPad", "Windows", "Mac OS", "Linux"].find((name) => agent.includes(name));
  return system ? `${browser}, ${system}` : browser;
}

translate();
try {
  await greet();
  const me = await core("resume");
  if (me) await enter(me);
  else show("signed-out");
} catch (error) {
  show("signed-out");
  say(error instanceof Refusal ? refusal(error.failure) : text("offline"));
}
