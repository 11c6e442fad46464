/** What the status bar says of each state, in plain words, with the way out. */

import type { Resolution } from "./resolve";

export type State =
  | { readonly kind: "starting" | "ready" | "disabled" }
  | { readonly kind: "offline" | "slow"; readonly reason: string }
  | { readonly kind: "stopped"; readonly reason: string };

/** active: suggestions may come. */
export interface Face {
  readonly text: string;
  readonly tooltip: string;
  readonly warning: boolean;
  readonly active: boolean;
}

export function face(state: State, figures: string): Face {
  const calm = { warning: false, active: false };
  switch (state.kind) {
    case "ready":
      return {
        text: "$(sparkle) Tabwise",
        tooltip: `Tabwise is ready: ${figures}`,
        warning: false,
        active: true,
      };
    case "slow":
      return {
        text: "$(watch) Tabwise",
        tooltip: `Tabwise is slow: ${state.reason}`,
        warning: false,
        active: true,
      };
    case "starting":
      return {
        text: "$(sync~spin) Tabwise",
        tooltip: "Tabwise is starting its backend",
        ...calm,
      };
    case "disabled":
      return {
        text: "$(circle-slash) Tabwise",
        tooltip: "Tabwise is switched off here; click to switch it on",
        ...calm,
      };
    case "offline":
      return {
        text: "$(debug-disconnect) Tabwise: offline",
        tooltip: `No suggestions for now: ${state.reason}`,
        warning: true,
        active: false,
      };
    case "stopped":
      return {
        text: "$(warning) Tabwise",
        tooltip: state.reason,
        warning: true,
        active: false,
      };
  }
}

/** The server's own notification as a state. */
export function stateOf(said: { state?: unknown; reason?: unknown }): State {
  if (said.state === "ready" || said.state === "starting") return { kind: said.state };
  const reason = typeof said.reason === "string" ? said.reason : "no reason given";
  if (said.state === "slow") return { kind: "slow", reason };
  return { kind: "offline", reason };
}

/** Why there is no server to start, and what to do. */
export function complaint(resolution: Exclude<Resolution, { kind: "found" }>): string {
  switch (resolution.kind) {
    case "missing":
      return "Tabwise's server was not found. Install it, or say where it is in tabwise.client.path.";
    case "wrong-setting":
      return `tabwise.client.path is ${resolution.path}, which does not answer to --version. Correct it, or empty it to have the server looked for.`;
    case "old":
      return `Tabwise ${resolution.version} (${resolution.candidate.command}) is too old for this extension. Update it, then restart.`;
  }
}
