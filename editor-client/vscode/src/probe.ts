/** Asks a program for its version. */

import { execFile } from "node:child_process";

import type { Candidate } from "./resolve";

const PATIENCE_MS = 10_000;

/** The version that the candidate tells; undefined where it cannot be started. */
export function probe(candidate: Candidate): Promise<string | undefined> {
  const words = [...candidate.before, "--version"];
  return new Promise((settle) => {
    execFile(candidate.command, words, { timeout: PATIENCE_MS }, (error, stdout) => {
      const version = /^\d+(\.\d+)+\S*$/.exec(stdout.trim());
      settle(error === null && version !== null ? version[0] : undefined);
    });
  });
}

/** Whether a program can be started at all. */
export function exists(command: string): Promise<boolean> {
  return new Promise((settle) => {
    execFile(command, ["--version"], { timeout: PATIENCE_MS }, (error) => {
      settle(error === null);
    });
  });
}
