/** Choosing where completions come from: the model that ships, a folder, a server. */

import * as vscode from "vscode";

/** Where they come from now, in a few words. */
export function describeModel(): string {
  const configuration = vscode.workspace.getConfiguration("tabwise");
  const url = configuration.get<string | null>("backend.url");
  const name = configuration.get<string | null>("client.model");
  return url ? `at ${url}` : `${name ?? "the model that ships"}, on this machine`;
}

/** Ask, and write the answer into the user's settings. */
export async function chooseModel(): Promise<void> {
  const choices = [
    { label: "$(home) The model that ships", choose: () => use(undefined, undefined) },
    { label: "$(folder) A checkpoint's folder…", choose: chooseFolder },
    { label: "$(remote) A server…", choose: chooseServer },
  ];
  const title = `Tabwise: now ${describeModel()}`;
  const chosen = await vscode.window.showQuickPick(choices, { title });
  await chosen?.choose();
}

async function chooseFolder(): Promise<void> {
  const [folder] =
    (await vscode.window.showOpenDialog({
      title: "A folder made by tabwise train, tune or import",
      canSelectFolders: true,
      canSelectFiles: false,
    })) ?? [];
  if (folder !== undefined) await use(folder.fsPath, undefined);
}

async function chooseServer(): Promise<void> {
  const url = await vscode.window.showInputBox({
    title: "The server's address; the code around the cursor is sent there",
    placeHolder: "http://gpu.example:8000",
    validateInput: (text) =>
      /^https?:\/\/\S+$/.test(text) ? undefined : "An address like http://host:8000",
  });
  if (url === undefined) return;
  await use(undefined, url);
  const more = "Another kind of server, or a key?";
  const settings = "Open its settings";
  if ((await vscode.window.showInformationMessage(more, settings)) === settings) {
    await vscode.commands.executeCommand(
      "workbench.action.openSettings",
      "tabwise.backend",
    );
  }
}

async function use(folder: string | undefined, url: string | undefined): Promise<void> {
  const configuration = vscode.workspace.getConfiguration("tabwise");
  const globally = vscode.ConfigurationTarget.Global;
  await configuration.update("client.model", folder, globally);
  await configuration.update("backend.url", url, globally);
}
