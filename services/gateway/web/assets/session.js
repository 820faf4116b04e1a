// One signed-in session: tokens, calls and the live socket.
// The access token stays in this page's memory; the refresh token is in a cookie that no script can read.

export class Problem extends Error {
  constructor(status, body, retryAfter) {
    super(body.title ?? String(status));
    Object.assign(this, { status, code: body.code, detail: body.detail, retryAfter });
  }
}

let accessToken = "";
let renewing = null;
let renewal = 0;
export let servedBy = "";

async function send(method, path, body) {
  const headers = { Accept: "application/json", "X-Secureconnect-Client": "web" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (accessToken) headers.Authorization = "Bearer " + accessToken;
  const response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store" });
  servedBy = response.headers.get("X-Served-By") ?? servedBy;
  const content = response.status === 204 ? {} : await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(response.status, content, Number(response.headers.get("Retry-After")) || 0);
  return content;
}

// Calls as the signed-in user; a token that has just expired is renewed once.
export async function call(method, path, body) {
  try {
    return await send(method, path, body);
  } catch (problem) {
    if (problem.status !== 401 || !accessToken) throw problem;
    await renew();
    return send(method, path, body);
  }
}

function keep(tokens) {
  accessToken = tokens.access_token;
  clearTimeout(renewal);
  renewal = setTimeout(() => renew().catch(() => {}), Math.max(tokens.expires_in - 60, 10) * 1000);
  return tokens.user;
}

export function forget() {
  accessToken = "";
  clearTimeout(renewal);
  live.stop();
}

// Several callers share one renewal: each refresh token is good for one use.
function renew() {
  renewing ??= refresh().finally(() => { renewing = null; });
  return renewing;
}

async function refresh() {
  const wasSignedIn = accessToken !== "";
  accessToken = "";
  try {
    const user = keep(await send("POST", "/v1/auth/refresh", {}));
    live.authenticate();
    return user;
  } catch (problem) {
    if (problem.status === 401) {
      forget();
      if (wasSignedIn) dispatchEvent(new Event("signed-out"));
    }
    throw problem;
  }
}

// The user of the session this browser still has, if it has one.
export async function resume() {
  try {
    return await renew();
  } catch (problem) {
    if (problem.status === 401) return null;
    throw problem;
  }
}

export async function login(username, password) {
  accessToken = "";
  return keep(await send("POST", "/v1/auth/login", { username, password, device_name: deviceName() }));
}

export const register = (account) => send("POST", "/v1/auth/register", account);

export async function logout() {
  live.stop(); // its end is no news now
  try {
    await call("POST", "/v1/auth/logout");
  } finally {
    forget();
  }
}

function deviceName() {
  const agent = navigator.userAgent;
  const browser = ["Firefox", "Edg", "OPR", "Chrome", "Safari"].find((name) => agent.includes(name + "/")) ?? "Browser";
  const system = ["Android", "iPhone", "iPad", "Windows", "Mac OS", "Linux"].find((name) => agent.includes(name));
  return system ? `${browser}, ${system}` : browser;
}

// The live socket. Codes 4500–4999 are final; after any other end it comes back, each time after a longer, random wait.
export const live = {
  socket: null, attempt: 0, timer: 0, report: () => {},

  start(report) {
    this.stop();
    this.report = report;
    this.open();
  },

  open() {
    this.report("liveOpening");
    const socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/v1/ws");
    this.socket = socket;
    socket.onopen = () => this.authenticate();
    socket.onmessage = ({ data }) => {
      if (JSON.parse(data).type !== "ready") return;
      this.attempt = 0;
      this.report("liveOpen");
    };
    socket.onclose = ({ code }) => {
      if (this.socket !== socket) return;
      if (code >= 4500) {
        this.report("liveEnded");
        renew().then(() => this.again(), () => {});
        return;
      }
      this.again();
    };
  },

  again() {
    this.report("liveClosed");
    const wait = Math.random() * Math.min(30_000, 1000 * 2 ** this.attempt++);
    this.timer = setTimeout(() => this.open(), 250 + wait);
  },

  authenticate() {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type: "auth", token: accessToken }));
  },

  stop() {
    clearTimeout(this.timer);
    const socket = this.socket;
    this.socket = null;
    socket?.close(1000);
  },
};
