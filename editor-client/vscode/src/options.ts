/** What the settings mean to the server: its options and its environment. */

export interface Configuration {
  get<T>(name: string): T | undefined;
}

/** Setting -> option of `[lsp]`; unset ones stay with the server's own default. */
const LSP_OPTIONS = [
  "level",
  "minConfidence",
  "deadlineMs",
  "maxNewTokens",
  "maxPrefixChars",
  "maxSuffixChars",
  "contextChars",
] as const;

/** Setting -> environment variable, for what is settled before the server starts. */
const ENVIRONMENT = {
  "client.model": "TABWISE_SERVE_CHECKPOINT",
  "backend.url": "TABWISE_BACKEND_URL",
  "backend.model": "TABWISE_BACKEND_MODEL",
  "backend.apiKey": "TABWISE_BACKEND_API_KEY",
} as const;

/** `initializationOptions`; values that the user never touched are left out, so that
 * tabwise.toml keeps its say. */
export function initializationOptions(
  explicit: (name: string) => unknown,
): Record<string, unknown> {
  const options: Record<string, unknown> = {};
  for (const name of LSP_OPTIONS) {
    const value = explicit(name);
    if (value !== undefined && value !== null) options[name] = value;
  }
  return options;
}

/** The server's environment: this one's, the settings', and the user's own lines. */
export function environment(
  base: NodeJS.ProcessEnv,
  explicit: (name: string) => unknown,
): NodeJS.ProcessEnv {
  const own: NodeJS.ProcessEnv = {};
  for (const [name, variable] of Object.entries(ENVIRONMENT)) {
    const value = explicit(name);
    if (typeof value === "string" && value !== "") own[variable] = value;
  }
  const kind = explicit("backend.kind");
  if (typeof kind === "string") own.TABWISE_BACKEND_KIND = kind;
  const further = (explicit("client.environment") ?? {}) as Record<string, string>;
  return { ...base, ...own, ...further };
}

/** Whether a language is one of those switched on. */
export function suggestsIn(
  languages: Readonly<Record<string, boolean>>,
  language: string,
): boolean {
  return languages[language] === true;
}
