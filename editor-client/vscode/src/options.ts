/** What the settings mean to the server: its options, and the local backend's
 * environment. */

/** A setting's value where the user gave one, by its name after `tabwise.`. */
export type Given = (name: string) => unknown;

/** Settings that are options of `[lsp]`, by their own names. */
export const LSP_OPTIONS = [
  "level",
  "minConfidence",
  "deadlineMs",
  "maxNewTokens",
  "maxPrefixChars",
  "maxSuffixChars",
  "contextChars",
  "prefetch",
  "rememberWorkspace",
  "statistics",
  "secretPatterns",
  "skipIgnored",
  "languages",
  "files",
] as const;

/** Settings that are options of `[backend]`. */
export const BACKEND_OPTIONS = [
  "url",
  "kind",
  "model",
  "template",
  "apiKey",
  "caFile",
  "clientCert",
  "clientKey",
  "hedgeMs",
  "connectTimeoutMs",
  "startTimeoutS",
] as const;

/** Setting -> environment variable, of the local backend, which starts but once. */
export const SERVE_VARIABLES = {
  "client.model": "TABWISE_SERVE_CHECKPOINT",
  "serve.runner": "TABWISE_SERVE_RUNNER",
  "serve.device": "TABWISE_SERVE_DEVICE",
  "serve.threads": "TABWISE_SERVE_THREADS",
  "serve.slots": "TABWISE_SERVE_SLOTS",
  "serve.kvBytes": "TABWISE_SERVE_KV_BYTES",
  "serve.idleExitS": "TABWISE_SERVE_IDLE_EXIT_S",
} as const;

/** The options to send; what the user never touched is left out, so that tabwise.toml
 * keeps its say. */
export function serverOptions(given: Given): Record<string, unknown> {
  const backend = chosen(BACKEND_OPTIONS, (name) => given(`backend.${name}`));
  const options = chosen(LSP_OPTIONS, given);
  return Object.keys(backend).length > 0 ? { ...options, backend } : options;
}

/** The server's environment: this one's, the settings', and the user's own lines. */
export function environment(base: NodeJS.ProcessEnv, given: Given): NodeJS.ProcessEnv {
  const own: NodeJS.ProcessEnv = {};
  for (const [name, variable] of Object.entries(SERVE_VARIABLES)) {
    const value = given(name);
    if (typeof value === "string" || typeof value === "number") {
      own[variable] = String(value);
    }
  }
  const further = (given("client.environment") ?? {}) as Record<string, string>;
  return { ...base, ...own, ...further };
}

/** Whether a language is one of those switched on. */
export function suggestsIn(
  languages: Readonly<Record<string, boolean>>,
  language: string,
): boolean {
  return languages[language] === true;
}

/** What must happen for a changed setting to hold, the most that any of them needs. */
export type Effect = "none" | "options" | "server" | "backend";

export function effectOf(names: readonly string[]): Effect {
  const effects = names.map(effectOfOne);
  const order: Effect[] = ["backend", "server", "options"];
  return order.find((effect) => effects.includes(effect)) ?? "none";
}

function effectOfOne(name: string): Effect {
  if (name in SERVE_VARIABLES) return "backend";
  if (name === "enabled" || name === "client.package") return "none";
  if (name.startsWith("client.")) return "server";
  return name.startsWith("trace.") ? "none" : "options";
}

function chosen(names: readonly string[], given: Given): Record<string, unknown> {
  const known = names.map((name) => [name, given(name)] as const);
  return Object.fromEntries(
    known.filter(([, value]) => value !== undefined && value !== null && value !== ""),
  );
}
