/** Programs that are asked something, without a shell. */

import { execFile } from "node:child_process";

const PATIENCE_MS = 10_000;

/** What the program prints, without blanks around; undefined where it cannot be started,
 * fails, or takes too long. */
export function output(
  words: readonly string[],
  env: NodeJS.ProcessEnv = process.env,
): Promise<string | undefined> {
  const [program = "", ...rest] = words;
  return new Promise((settle) => {
    execFile(program, rest, { timeout: PATIENCE_MS, env }, (error, stdout) => {
      settle(error === null ? stdout.trim() : undefined);
    });
  });
}
