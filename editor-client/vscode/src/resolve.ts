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
  readonly platform: NodeJS.Platform;
}

export type Probe = (candidate: Candidate) => Promise<string | undefined>;

export type Resolution =
  | { readonly kind: "found"; readonly candidate: Candidate; readonly version: string }
  | { readonly kind: "old"; readonly candidate: Candidate; readonly version: string }
  | { readonly kind: "wrong-setting"; readonly path: string }
  | { readonly kind: "missing" };

export const OLDEST = "0.1.0";

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
    const before = ["-m", "tabwise_server"];
    found.push({ command: around.interpreter, before, origin: "workspace" });
  }
  if (around.workspace !== undefined) {
    const scripts = scriptsFolder(around.platform);
    found.push(program(path.join(around.workspace, ".venv", scripts), "workspace"));
  }
  const own = path.join(around.storage, "server", scriptsFolder(around.platform));
  found.push(program(own, "own"));
  found.push(program(path.join(around.home, ".local", "bin"), "tool")); // pipx, uv
  found.push({ command: executable(around.platform), before: [], origin: "PATH" });
  return found;
}

/** The first candidate that answers with a version new enough. */
export async function resolve(around: Surroundings, probe: Probe): Promise<Resolution> {
  let old: Resolution | undefined;
  for (const candidate of candidates(around)) {
    const version = await probe(candidate);
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

function executable(platform: NodeJS.Platform): string {
  return platform === "win32" ? "tabwise.exe" : "tabwise";
}

function expandHome(file: string, home: string): string {
  return file === "~" || file.startsWith("~/") ? path.join(home, file.slice(1)) : file;
}

function numbers(version: string): number[] {
  return (version.match(/\d+/g) ?? []).map(Number);
}
