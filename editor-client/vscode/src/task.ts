/** Programs that run in a terminal, which stays to be read. */

import * as vscode from "vscode";

/** Run words as a task, without a shell; resolves when it has ended: true if it did
 * well. */
export async function runTask(
  name: string,
  words: string[],
  env: Record<string, string> = {},
): Promise<boolean> {
  const [program = "", ...rest] = words;
  const task = new vscode.Task(
    { type: "tabwise" },
    vscode.TaskScope.Global,
    name,
    "Tabwise",
    new vscode.ProcessExecution(program, rest, { env }),
  );
  task.presentationOptions = { reveal: vscode.TaskRevealKind.Always, clear: true };
  const execution = await vscode.tasks.executeTask(task);
  return new Promise((settle) => {
    const listener = vscode.tasks.onDidEndTaskProcess((event) => {
      if (event.execution !== execution) return;
      listener.dispose();
      settle(event.exitCode === 0);
    });
  });
}
