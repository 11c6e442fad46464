/** The backend that served this page, asked with its key where it has one. */

const KEY = "tabwise-key";

/** A token. cached: its keys and values were computed before. */
export interface Piece {
  readonly id: number;
  readonly text: string;
  readonly cached: boolean;
  readonly sentinel: boolean;
}

export interface Suggested {
  readonly text: string;
  readonly raw: string;
  readonly confidence: number;
  readonly threshold: number;
  readonly pieces: readonly Piece[];
  readonly prompt: readonly Piece[];
  readonly healed: string;
  readonly latency_ms: number;
}

export interface Health {
  readonly model: string;
  readonly device: string;
  readonly version: string;
}

/** The server asks for a key. sent: this page had one, which was refused. */
export class KeyWanted extends Error {
  constructor(readonly sent: boolean) {
    super(sent ? "That key is refused." : "This server asks for its API key.");
  }
}

export function keepKey(key: string): void {
  sessionStorage.setItem(KEY, key);
}

export async function suggest(
  prefix: string,
  suffix: string,
  level: string,
  session: string,
  signal: AbortSignal,
): Promise<Suggested> {
  const body = JSON.stringify({ prefix, suffix, level, session });
  const response = await ask("v1/tabwise/suggest", { method: "POST", body, signal });
  return (await response.json()) as Suggested;
}

export async function health(): Promise<Health> {
  return (await (await ask("health")).json()) as Health;
}

export async function metrics(): Promise<string> {
  return (await ask("metrics")).text();
}

/** Fails with words for people. */
async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers({ "Content-Type": "application/json" });
  const key = sessionStorage.getItem(KEY);
  if (key !== null) headers.set("Authorization", `Bearer ${key}`);
  const response = await reach(path, { ...init, headers });
  if (response.status === 401) throw new KeyWanted(key !== null);
  if (!response.ok) throw new Error(await refusal(response));
  return response;
}

async function reach(path: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(path, init);
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new Error("The backend does not answer. Does tabwise serve still run?");
  }
}

async function refusal(response: Response): Promise<string> {
  const body = (await response.json().catch(() => ({}))) as { detail?: string };
  return `The backend refuses: ${body.detail ?? `HTTP status ${response.status}`}`;
}
