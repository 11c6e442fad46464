/** The server's log at the level that each line names. */

import { createInterface } from "node:readline";
import type { Readable } from "node:stream";

export type Level = "debug" | "info" | "warn" | "error";

/** What takes the lines: an output channel. */
export type Log = Readonly<Record<Level, (line: string) => void>>;

const LEVELS: Readonly<Record<string, Level>> = {
  DEBUG: "debug",
  INFO: "info",
  WARNING: "warn",
  ERROR: "error",
};
const LINE = /^[-\d]+ [:,\d]+ (DEBUG|INFO|WARNING|ERROR) (.*)$/;

/** Pass on the lines of the server's stderr; one that names no level, such as a
 * traceback's, goes with the one before it. */
export function relay(stderr: Readable, log: Log): void {
  let level: Level = "error";
  createInterface({ input: stderr }).on("line", (line) => {
    const [, name = "", said] = LINE.exec(line) ?? [];
    level = LEVELS[name] ?? level;
    log[level](said ?? line);
  });
}
