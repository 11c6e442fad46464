/** Installs the server into a Python environment that belongs to this extension. */

import * as os from "node:os";
import * as path from "node:path";

import * as vscode from "vscode";

import { exists } from "./probe";
import { scriptsFolder } from "./resolve";

const PYTHONS = ["python3.13", "python3.12", "python3.11", "python3", "python"];
const OLD = "import sys; sys.exit(sys.version_info < (3, 11))";

/** Ask what to install, install it in a terminal that shows everything; true if done. */
export async function installServer(storage: string): Promise<boolean> {
  const python = await somePython();
  if (python === undefined) {
    await offerPython();
    return false;
  }
  const what = await requirement();
  if (what === undefined) return false;
  const folder = path.join(storage, "server");
  const own = path.join(folder, scriptsFolder(process.platform), "python");
  return (
    (await runTask([python, "-m", "venv", folder])) &&
    (await runTask([own, "-m", "pip", "install", "--upgrade", expandHome(what)]))
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

async function somePython(): Promise<string | undefined> {
  for (const name of PYTHONS) {
    if ((await exists(name)) && (await succeeds([name, "-c", OLD]))) return name;
  }
  return undefined;
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

async function succeeds(words: string[]): Promise<boolean> {
  const { execFile } = await import("node:child_process");
  const [program, ...rest] = words;
  return new Promise((settle) => {
    execFile(program ?? "", rest, (error) => settle(error === null));
  });
}

/** Run words as a task, without a shell; resolves when it has ended. */
async function runTask(words: string[]): Promise<boolean> {
  const [program, ...rest] = words;
  const task = new vscode.Task(
    { type: "tabwise" },
    vscode.TaskScope.Global,
    "Install the server",
    "Tabwise",
    new vscode.ProcessExecution(program ?? "", rest),
  );
  const execution = await vscode.tasks.executeTask(task);
  return new Promise((settle) => {
    const listener = vscode.tasks.onDidEndTaskProcess((event) => {
      if (event.execution !== execution) return;
      listener.dispose();
      settle(event.exitCode === 0);
    });
  });
}

function expandHome(file: string): string {
  return file.startsWith("~/") ? path.join(os.homedir(), file.slice(2)) : file;
}
