/** Where the language server's program is. Looking is apart from starting. */

import * as path from "node:path";

/** A program with the arguments that come before the subcommand, and where it was seen. */
export interface Candidate {
  readonly command: string;
  readonly before: readonly string[];
  readonly origin: "setting" | "workspace" | "own" | "tool" | "PATH";
}

export interface Surroundings {
  readonly setting: string | null;
  /** The workspace's Python; undefined in an untrusted workspace. */
  readonly interpreter: string | undefined;
  /** Undefined in an untrusted workspace: what lies there is not to be run. */
  readonly workspace: string | undefined;
  /** Where `Install the Server` puts it. */
  readonly storage: string;
  readonly home: string;
  readonly environment: NodeJS.ProcessEnv;
  readonly platform: NodeJS.Platform;
}

/** What a program prints for these words; undefined where it fails. */
export type Ask = (words: readonly string[]) => Promise<string | undefined>;

export type Resolution =
  | { readonly kind: "found"; readonly candidate: Candidate; readonly version: string }
  | { readonly kind: "old"; readonly candidate: Candidate; readonly version: string }
  | { readonly kind: "wrong-setting"; readonly path: string }
  | { readonly kind: "missing" };

export const OLDEST = "0.1.0";

/** The workspace cannot pass off its own module for ours: -P. */
const MODULE = ["-P", "-m", "tabwise_server"];

/** Where pipx and uv put the commands of tools, by their own variables. */
const TOOL_FOLDERS = ["PIPX_BIN_DIR", "UV_TOOL_BIN_DIR", "XDG_BIN_HOME"];

/** Every place worth a look, the user's own word first. */
export function candidates(around: Surroundings): Candidate[] {
  if (around.setting !== null) {
    const command = expandHome(around.setting, around.home);
    return [{ command, before: [], origin: "setting" }];
  }
  const program = (folder: string, origin: Candidate["origin"]): Candidate => ({
    command: path.join(folder, executable(around.platform)),
    before: [],
    origin,
  });
  const found: Candidate[] = [];
  if (around.interpreter !== undefined) {
    found.push({ command: around.interpreter, before: MODULE, origin: "workspace" });
  }
  const scripts = scriptsFolder(around.platform);
  if (around.workspace !== undefined) {
    found.push(program(path.join(around.workspace, ".venv", scripts), "workspace"));
  }
  found.push(program(path.join(around.storage, "server", scripts), "own"));
  for (const folder of toolFolders(around)) found.push(program(folder, "tool"));
  found.push({ command: executable(around.platform), before: [], origin: "PATH" });
  return found;
}

/** The first candidate that answers with a version new enough. */
export async function resolve(around: Surroundings, ask: Ask): Promise<Resolution> {
  let old: Resolution | undefined;
  for (const candidate of candidates(around)) {
    const version = await versionOf(candidate, ask);
    if (version === undefined) continue;
    if (!isOlder(version, OLDEST)) return { kind: "found", candidate, version };
    old ??= { kind: "old", candidate, version };
  }
  if (old !== undefined) return old;
  if (around.setting !== null) return { kind: "wrong-setting", path: around.setting };
  return { kind: "missing" };
}

/** Whether version `a` comes before `b`; only numbers count. */
export function isOlder(a: string, b: string): boolean {
  const [left, right] = [numbers(a), numbers(b)];
  for (const [i, wanted] of right.entries()) {
    const has = left[i] ?? 0;
    if (has !== wanted) return has < wanted;
  }
  return false;
}

export function scriptsFolder(platform: NodeJS.Platform): string {
  return platform === "win32" ? "Scripts" : "bin";
}

/** `~` is not known to what starts programs without a shell. */
export function expandHome(file: string, home: string): string {
  return file === "~" || file.startsWith("~/") ? path.join(home, file.slice(1)) : file;
}

async function versionOf(candidate: Candidate, ask: Ask): Promise<string | undefined> {
  const said = await ask([candidate.command, ...candidate.before, "--version"]);
  return said !== undefined && /^\d+(\.\d+)+\S*$/.test(said) ? said : undefined;
}

function toolFolders(around: Surroundings): Set<string> {
  const named = TOOL_FOLDERS.map((name) => around.environment[name] ?? "");
  const usual = path.join(around.home, ".local", "bin");
  return new Set([...named.filter((folder) => folder !== ""), usual]);
}

function executable(platform: NodeJS.Platform): string {
  return platform === "win32" ? "tabwise.exe" : "tabwise";
}

function numbers(version: string): number[] {
  return (version.match(/\d+/g) ?? []).map(Number);
}
