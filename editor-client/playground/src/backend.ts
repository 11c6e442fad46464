/** The backend that served this page, asked with its key where it has one. */

const KEY = "tabwise-key";

export interface Completion {
  readonly text: string;
  readonly confidence: number;
  readonly tokens: number;
  readonly prompt_tokens: number;
  readonly cached_tokens: number;
  readonly timings: { readonly latency_ms: number };
}

export interface Piece {
  readonly id: number;
  readonly text: string;
}

export class KeyWanted extends Error {}

export function keepKey(key: string): void {
  sessionStorage.setItem(KEY, key);
}

export function complete(
  prefix: string,
  suffix: string,
  session: string,
  signal: AbortSignal,
): Promise<Completion> {
  const body = { prefix, suffix, session, language: "python", path: "playground.py" };
  return post<Completion>("v1/tabwise/complete", body, signal);
}

export async function tokenize(text: string): Promise<Piece[]> {
  return (await post<{ tokens: Piece[] }>("v1/tabwise/tokenize", { text })).tokens;
}

export async function metrics(): Promise<string> {
  return (await ask("metrics")).text();
}

async function post<T>(path: string, body: unknown, signal?: AbortSignal): Promise<T> {
  const init: RequestInit = { method: "POST", body: JSON.stringify(body) };
  if (signal !== undefined) init.signal = signal;
  return (await ask(path, init)).json() as Promise<T>;
}

async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers({ "Content-Type": "application/json" });
  const key = sessionStorage.getItem(KEY);
  if (key !== null) headers.set("Authorization", `Bearer ${key}`);
  const response = await fetch(path, { ...init, headers });
  if (response.status === 401) throw new KeyWanted("the key is missing or refused");
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response;
}
