// The core: one worker in each tab, of which one leads (Web Locks). The leader has the session, the keys, the stores
// and the socket; the others pass their page's calls on to it and hear what it says.
import { type Calls, emptyState, type Event, type Failure, type Id, type Me, type Method, type State } from "../protocol";
import { Account } from "./account";
import { call, hooks, login, logout, Problem, register, renew, resume, token } from "./session";

type Ask = { ask: number; from: string; method: Method; args: unknown };
type Answer = { answer: number; to: string; value?: unknown; failure?: Failure };
type News = { news: Event };

const us = crypto.randomUUID?.() ?? String(Math.random());
const channel = new BroadcastChannel("core");
const secure = self.isSecureContext && "locks" in navigator;
const open = new Map<number, Ask>(); // our page's calls that wait for an answer
const attention = new Map<string, Parameters<Calls["attention"]>[0]>(); // what each tab shows
let leading = false;
let state: State = structuredClone(emptyState);
let account: Account | null = null;
let opening: Promise<void> = Promise.resolve();

const toPage = (message: Answer | News) => postMessage(message);

function emit(event: Event) {
  if (event.type === "state") Object.assign(state, event.part);
  toPage({ news: event });
  if (event.type !== "notify" && event.type !== "ringing") channel.postMessage({ news: event });
}

// — Calls —

self.onmessage = ({ data }: MessageEvent<{ ask: number; method: Method; args: unknown }>) => {
  const ask: Ask = { ...data, from: us };
  open.set(ask.ask, ask);
  if (leading) void answer(ask);
  else channel.postMessage(ask);
};

channel.onmessage = ({ data }: MessageEvent<Ask | Answer | News>) => {
  if ("ask" in data) {
    if (leading) void answer(data);
  } else if ("answer" in data) {
    const ask = data.to === us ? open.get(data.answer) : undefined;
    if (!ask) return;
    open.delete(data.answer);
    if (ask.method === "hello") Object.assign(state, data.value);
    toPage(data);
  } else {
    if (data.news.type === "state") Object.assign(state, data.news.part); // what we go on from, should we lead one day
    if (data.news.type === "leader" && !leading) for (const ask of open.values()) channel.postMessage(ask);
    toPage(data);
  }
};

async function answer(asked: Ask) {
  const { ask, from, method, args } = asked;
  const reply: Answer = { answer: ask, to: from };
  try {
    reply.value = await (calls[method] as (args: any, asked: Ask) => unknown)(args, asked);
  } catch (problem) {
    if (!(problem instanceof Problem)) console.error(problem);
    const { status, code, detail, retryAfter } = problem instanceof Problem ? problem : new Problem(500, "internal");
    reply.failure = { status, code, detail, retryAfter };
  }
  if (from !== us) channel.postMessage(reply);
  else if (open.delete(ask)) toPage(reply);
}

function signedIn(): Account {
  if (!account) throw new Problem(401, "session_ended");
  return account;
}

// A call that a leader did and had no time to answer is asked again of the next one: what is said has the asking's name.
const nameOf = ({ from, ask }: Ask) => `${from} ${ask}`;

const calls: { [M in Method]: (a: Parameters<Calls[M]>[0] & {}, asked: Ask) => ReturnType<Calls[M]> | Promise<ReturnType<Calls[M]>> } = {
  hello: () => ({ ...state, known: true }),
  resume: () => resumed(),
  login: async ({ username, password, device }) => {
    const me = await login(username, password, device);
    await enter(me);
    return me;
  },
  register: async (a) => { await register(a); },
  logout: async () => {
    account?.live.stop();
    try {
      await logout();
    } finally {
      await out("us");
    }
  },
  sessions: async () => (await call<{ sessions: any[] }>("GET", "/v1/auth/sessions")).sessions,
  endSession: async ({ id }) => { await call("DELETE", "/v1/auth/sessions/" + encodeURIComponent(id)); },
  rename: async ({ name }) => {
    const user = await call<{ display_name: string }>("PATCH", "/v1/users/me", { display_name: name });
    emit({ type: "state", part: { me: { ...state.me!, name: user.display_name } } });
  },
  changePassword: async ({ current, next }) => { await call("POST", "/v1/users/me/password", { current_password: current, new_password: next }); },
  attention: (a, { from }) => attend(from, a),

  timeline: ({ chat, ...range }) => signedIn().chats.timeline(chat, range),
  send: ({ chat, text, replyTo }, asked) => signedIn().chats.say(chat, nameOf(asked), (id) => ({ id, kind: "text", text, ...(replyTo && { reply_to: replyTo }) })),
  edit: ({ chat, target, text }, asked) => signedIn().chats.say(chat, nameOf(asked), (id) => ({ id, kind: "edit", target, text })),
  react: ({ chat, target, key, on }, asked) => signedIn().chats.say(chat, nameOf(asked), (id) => ({ id, kind: "react", target, key, on })),
  remove: ({ chat, target }, asked) => signedIn().chats.say(chat, nameOf(asked), (id) => ({ id, kind: "delete", target })),
  again: ({ chat, id }, asked) => signedIn().chats.again(chat, id, nameOf(asked)),
  discard: ({ chat, id }) => signedIn().chats.discard(chat, id),
  read: ({ chat, seq }) => signedIn().chats.read(chat, seq),
  typing: ({ chat, on }) => signedIn().chats.typing(chat, on),
  search: ({ text, chat }) => signedIn().chats.search(text, chat),

  openDirect: ({ user }) => signedIn().chats.openDirect(user),
  createGroup: ({ name, users }) => signedIn().chats.createGroup(name, users),
  renameGroup: ({ chat, name }) => signedIn().chats.change(chat, "PATCH", "", { name }),
  addMembers: ({ chat, users }) => signedIn().chats.change(chat, "POST", "/members", { user_ids: users }),
  removeMember: ({ chat, user }) => signedIn().chats.change(chat, "DELETE", "/members/" + user),
  leave: ({ chat }) => signedIn().chats.leave(chat),

  findPeople: ({ text }) => signedIn().people.find(text),
  request: ({ user }) => signedIn().people.change("POST", "", { user_id: user }),
  accept: ({ user }) => signedIn().people.change("POST", `/${user}/accept`),
  reject: ({ user }) => signedIn().people.change("POST", `/${user}/reject`),
  forget: ({ user }) => signedIn().people.change("DELETE", `/${user}`),
  block: ({ user, on }) => signedIn().people.change(on ? "PUT" : "DELETE", `/${user}/block`),

  approveIdentity: async ({ user }) => {
    await signedIn().keys.approve(user);
    await signedIn().chats.identitiesChanged([user]);
  },
  fingerprints: async ({ user }) => ({ ours: await signedIn().keys.fingerprint(signedIn().me.id), theirs: await signedIn().keys.fingerprint(user) }),
  confirmFingerprint: async ({ user, fingerprint }) => {
    await signedIn().keys.confirm(user, fingerprint);
    await signedIn().chats.identitiesChanged([user]);
  },
  verifyUser: ({ user }) => signedIn().verifying.start(user),
  verifyOwn: () => signedIn().verifying.start(signedIn().me.id),
  acceptVerification: () => signedIn().verifying.accept(),
  confirmEmoji: ({ match }) => signedIn().verifying.confirm(match),
  endVerification: () => signedIn().verifying.end(),
  startCall: ({ chat, media }) => signedIn().calls.start(chat, media),
  testCall: () => signedIn().calls.test(),
  lookAtCall: ({ call }) => signedIn().calls.look(call),
  declineCall: ({ call }) => signedIn().calls.decline(call),
  hangUp: ({ call }) => signedIn().calls.hangUp(call),
  callLog: ({ before }) => signedIn().calls.log(before),
  sawCalls: ({ at }) => signedIn().calls.saw(at),
  callToken: async ({ worn }) => {
    if (!token() || token() === worn) await renew();
    return token();
  },
  prepareCall: ({ chat }) => signedIn().callKeys.prepare(chat),
  tellCallKey: ({ chat, key, to }) => signedIn().callKeys.tell(chat, key, to),

  keptRecoveryKey: () => signedIn().recovery.kept(),
  recover: async ({ key }) => {
    const restored = await signedIn().recovery.recover(key);
    await signedIn().chats.unlock();
    return { restored };
  },
  resetIdentity: ({ password }) => signedIn().recovery.reset(password),
};

// A tab holds the lock of its name for as long as it lives.
function attend(tab: string, a: Parameters<Calls["attention"]>[0]) {
  if (secure && tab !== us && !attention.has(tab)) void navigator.locks.request("tab " + tab, () => { attention.delete(tab); });
  attention.set(tab, a);
}

const watched = (chat: Id | null) => [...attention.values()].some((each) => each.visible && (chat === null || each.chat === chat));

// — Coming and going —

async function resumed(): Promise<Me | null> {
  if (state.me) return state.me;
  const me = await resume();
  if (me) await enter(me);
  return me;
}

async function enter(me: Me) {
  await account?.stop();
  account = null;
  emit({ type: "state", part: { ...structuredClone(emptyState), servedBy: state.servedBy, me, device: secure ? "starting" : "insecure" } });
  if (!secure) return;
  opening = Account.open(me, emit, watched).then((opened) => { account = opened; });
  try {
    await opening;
  } catch (problem) {
    console.error(problem);
    emit({ type: "state", part: { device: "failed" } });
  }
}

async function out(by: "us" | "server") {
  const leaving = account;
  account = null;
  emit({ type: "state", part: { ...structuredClone(emptyState), servedBy: state.servedBy } });
  emit({ type: "signed-out", by });
  if (by === "us") await leaving?.erase();
  else await leaving?.stop();
}

hooks.renewed = () => account?.live.authenticate();
hooks.ended = () => { if (state.me) void out("server"); };
hooks.servedBy = (host) => { if (host && host !== state.servedBy) emit({ type: "state", part: { servedBy: host } }); };

async function lead() {
  const { me } = state; // as the leader before us said
  state.me = null;
  try {
    if (!await resumed() && me) emit({ type: "signed-out", by: "server" });
  } catch {
    if (me) await enter(me); // what is on this device is there without the server
    else waitForServer();
  }
  leading = true; // what was asked meanwhile is answered now
  emit({ type: "leader" });
  for (const ask of open.values()) void answer(ask);
  await new Promise(() => {}); // until this tab is closed
}

// The server was away when we began: the session is there as soon as it is.
function waitForServer() {
  setTimeout(() => {
    if (!state.me) void renew().then(enter, (problem) => { if (problem.status !== 401) waitForServer(); });
  }, 3000);
}

if (secure) {
  void navigator.locks.request("tab " + us, () => new Promise(() => {}));
  void navigator.locks.request("core", lead);
} else void lead();
