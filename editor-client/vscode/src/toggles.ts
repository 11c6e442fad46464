/** Switching suggestions on and off, by writing the settings that say so. */

import * as vscode from "vscode";

import { suggestsIn } from "./options";

function configuration(): vscode.WorkspaceConfiguration {
  return vscode.workspace.getConfiguration("tabwise");
}

function languages(): Record<string, boolean> {
  return configuration().get<Record<string, boolean>>("client.languages") ?? {};
}

/** Whether suggestions are wanted: by the user's settings; with the workspace's over
 * them, undefined where none is open; and in a language. */
export function switchedOn(language: string): {
  everywhere: boolean;
  workspace: boolean | undefined;
  language: boolean;
} {
  const seen = configuration().inspect<boolean>("enabled");
  return {
    everywhere: seen?.globalValue ?? true,
    workspace:
      vscode.workspace.name === undefined
        ? undefined
        : configuration().get<boolean>("enabled") === true,
    language: suggestsIn(languages(), language),
  };
}

export async function toggle(): Promise<void> {
  const { everywhere } = switchedOn("");
  await configuration().update(
    "enabled",
    !everywhere,
    vscode.ConfigurationTarget.Global,
  );
}

export async function toggleWorkspace(): Promise<void> {
  const { workspace } = switchedOn("");
  await configuration().update(
    "enabled",
    !workspace,
    vscode.ConfigurationTarget.Workspace,
  );
}

export async function toggleLanguage(language: string): Promise<void> {
  const all = languages();
  const changed = { ...all, [language]: !suggestsIn(all, language) };
  await configuration().update(
    "client.languages",
    changed,
    vscode.ConfigurationTarget.Global,
  );
}
