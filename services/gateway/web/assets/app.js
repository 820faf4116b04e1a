// The pages of an account: sign in, create one, see who and where you are signed in, sign out.

import { current, choose, refusal, text, translate } from "./texts.js";
import * as session from "./session.js";

const $ = (id) => document.getElementById(id);
const views = ["signed-out", "registering", "signed-in"];

function show(view) {
  for (const name of views) $(name).hidden = name !== view;
  $(view).querySelector("input")?.focus();
}

function say(sentence) {
  $("message").textContent = sentence;
  $("message").hidden = !sentence;
}

const explain = (error) => say(error instanceof session.Problem ? refusal(error) : text("offline"));

// Runs one thing a person asked for, with its button waiting.
async function attempt(button, action) {
  say("");
  button.disabled = true;
  try {
    await action();
  } catch (error) {
    explain(error);
  } finally {
    button.disabled = false;
  }
}

function onSubmit(form, action) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(form.querySelector("button[type=submit]"), () => action(Object.fromEntries(new FormData(form))));
  });
}

async function welcome(user) {
  $("me-name").textContent = user.display_name || user.username;
  $("me-username").textContent = user.username;
  $("served-by").textContent = session.servedBy;
  for (const form of document.forms) form.reset();
  try {
    await listSessions();
  } finally {
    show("signed-in"); // whole: what comes later would move the buttons from under a pointer
    session.live.start((state) => {
      $("live").dataset.text = state;
      $("live").textContent = text(state);
    });
  }
}

async function listSessions() {
  const { sessions } = await session.call("GET", "/v1/auth/sessions");
  $("sessions").replaceChildren(...sessions.map(sessionItem));
}

function sessionItem(entry) {
  const item = document.createElement("li");
  const about = document.createElement("div");
  const when = document.createElement("small");
  about.textContent = entry.device_name || entry.device_id;
  const used = new Date(entry.last_used_at).toLocaleString(current());
  when.textContent = entry.current ? text("thisDevice") : `${text("lastUsed")} ${used}`;
  about.append(when);
  item.append(about);
  if (!entry.current) item.append(endButton(entry, about.firstChild.textContent));
  return item;
}

function endButton(entry, name) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet";
  button.textContent = text("endSession");
  button.setAttribute("aria-label", `${text("endSessionOf")} ${name}`);
  button.addEventListener("click", () => attempt(button, async () => {
    await session.call("DELETE", "/v1/auth/sessions/" + encodeURIComponent(entry.id));
    await listSessions();
  }));
  return button;
}

onSubmit($("login-form"), async ({ username, password }) => welcome(await session.login(username, password)));

onSubmit($("register-form"), async ({ username, display_name, password, invite }) => {
  await session.register({ username, display_name, password, ...(invite && { invite }) });
  await welcome(await session.login(username, password));
});

$("show-register").addEventListener("click", () => { say(""); show("registering"); });
$("show-login").addEventListener("click", () => { say(""); show("signed-out"); });

$("logout").addEventListener("click", () => attempt($("logout"), async () => {
  await session.logout();
  show("signed-out");
}));

addEventListener("signed-out", () => {
  show("signed-out");
  say(text("sessionEnded"));
});

$("language").value = current();
$("language").addEventListener("change", () => {
  choose($("language").value);
  translate();
  say("");
  if (!$("signed-in").hidden) listSessions().catch(explain);
});

translate();
try {
  const user = await session.resume();
  if (user) await welcome(user);
  else show("signed-out");
} catch (error) {
  show("signed-out");
  explain(error);
}
