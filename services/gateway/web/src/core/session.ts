// One signed-in session: its tokens and its calls. The access token stays in this worker's memory; the refresh token
// is in a cookie that no script can read.
import type { Me } from "../protocol";

export class Problem extends Error {
  constructor(readonly status: number, readonly code: string, readonly detail = "", readonly retryAfter = 0) {
    super(code || String(status));
  }

  // Whether the same request may do better later.
  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500 || this.code === "try_again";
  }
}

export const unreachable = () => new Problem(0, "offline");

interface Tokens { access_token: string; expires_in: number; user: { id: string; username: string; display_name: string }; device_id: string; session_id: string }

let accessToken = "";
let renewing: Promise<Me> | null = null;
let renewal: ReturnType<typeof setTimeout> | undefined;
let clockOffset = 0;

export const hooks = { renewed: () => {}, ended: () => {}, servedBy: (_host: string) => {} };

export const token = () => accessToken;

// The server's time, as its answers tell it: ids we make must not come from the future.
export const now = () => Date.now() + clockOffset;

async function send<T>(method: string, path: string, body?: unknown): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json", "X-Secureconnect-Client": "web" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (accessToken) headers["Authorization"] = "Bearer " + accessToken;
  const content = body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body);
  let response: Response;
  try {
    response = await fetch(path, { method, headers, body: content, cache: "no-store" });
  } catch {
    throw unreachable();
  }
  hooks.servedBy(response.headers.get("X-Served-By") ?? "");
  const date = Date.parse(response.headers.get("Date") ?? "");
  if (date) clockOffset = Math.abs(date - Date.now()) > 5000 ? date - Date.now() : 0;
  const answer = response.status === 204 ? {} : await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(response.status, answer.code ?? answer.errcode ?? "", answer.detail, Number(response.headers.get("Retry-After")) || 0);
  return answer as T;
}

// Calls as the signed-in user; a token that has just expired is renewed once.
export async function call<T = unknown>(method: string, path: string, body?: unknown): Promise<T> {
  try {
    return await send<T>(method, path, body);
  } catch (problem) {
    if (!(problem instanceof Problem) || problem.status !== 401 || !accessToken || problem.code === "reauthentication_required") throw problem;
    await renew();
    return send<T>(method, path, body);
  }
}

function keep(tokens: Tokens): Me {
  accessToken = tokens.access_token;
  clearTimeout(renewal);
  renewal = setTimeout(() => renew().catch(() => retryRenewal()), Math.max(tokens.expires_in - 60, 10) * 1000);
  const { user, device_id, session_id } = tokens;
  return { id: user.id, username: user.username, name: user.display_name || user.username, deviceId: device_id, sessionId: session_id };
}

function retryRenewal() {
  clearTimeout(renewal);
  if (accessToken) renewal = setTimeout(() => renew().catch(() => retryRenewal()), 5000);
}

function drop() {
  accessToken = "";
  clearTimeout(renewal);
}

// Several callers share one renewal: each refresh token is good for one use.
export function renew(): Promise<Me> {
  renewing ??= refresh().finally(() => { renewing = null; });
  return renewing;
}

async function refresh() {
  const had = accessToken;
  try {
    accessToken = "";
    const me = keep(await send<Tokens>("POST", "/v1/auth/refresh", {}));
    hooks.renewed();
    return me;
  } catch (problem) {
    if (problem instanceof Problem && problem.status === 401) {
      drop();
      hooks.ended();
    } else {
      accessToken = had;
    }
    throw problem;
  }
}

// The user of the session this browser still has, if it has one.
export async function resume(): Promise<Me | null> {
  try {
    return await renew();
  } catch (problem) {
    if (problem instanceof Problem && problem.status === 401) return null;
    throw problem;
  }
}

export async function login(username: string, password: string, device: string): Promise<Me> {
  accessToken = "";
  return keep(await send<Tokens>("POST", "/v1/auth/login", { username, password, device_name: device }));
}

export const register = (account: object) => send("POST", "/v1/auth/register", account);

export async function logout() {
  try {
    await call("POST", "/v1/auth/logout");
  } finally {
    drop();
  }
}
