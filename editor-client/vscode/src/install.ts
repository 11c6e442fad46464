/** Installs the server into a Python environment that belongs to this extension. */

import * as os from "node:os";
import * as path from "node:path";

import * as vscode from "vscode";

import { output } from "./program";
import { findPython } from "./python";
import { expandHome, scriptsFolder } from "./resolve";
import { runTask } from "./task";

/** Ask what to install, install it in a terminal that shows everything; true if done. */
export async function installServer(storage: string): Promise<boolean> {
  const python = await findPython(output);
  if (python === undefined) {
    await offerPython();
    return false;
  }
  const what = await requirement();
  if (what === undefined) return false;
  const folder = path.join(storage, "server");
  const own = path.join(folder, scriptsFolder(process.platform), "python");
  const source = expandHome(what, os.homedir());
  const name = "Install the server";
  return (
    (await runTask(name, [python, "-m", "venv", folder])) &&
    (await runTask(name, [own, "-m", "pip", "install", "--upgrade", source]))
  );
}

/** The setting, or what the user names now. */
async function requirement(): Promise<string | undefined> {
  const configuration = vscode.workspace.getConfiguration("tabwise");
  const set = configuration.get<string | null>("client.package");
  if (set) return set;
  return vscode.window.showInputBox({
    title: "Install Tabwise's server",
    prompt: "A wheel, a folder with Tabwise's source, or a requirement of your index",
    placeHolder: "~/src/tabwise",
    ignoreFocusOut: true,
  });
}

async function offerPython(): Promise<void> {
  const get = "Get Python";
  const said = "Tabwise needs Python 3.11 or newer, and none was found on the PATH.";
  if ((await vscode.window.showWarningMessage(said, get)) === get) {
    await vscode.env.openExternal(
      vscode.Uri.parse("https://www.python.org/downloads/"),
    );
  }
}
