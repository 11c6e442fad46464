import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { Readable } from "node:stream";
import { test } from "node:test";

import { Coalesced } from "../src/coalesce";
import { Figures } from "../src/figures";
import { relay, type Level, type Log } from "../src/log";
import { entries, type Circumstances } from "../src/menu";
import {
  BACKEND_OPTIONS,
  effectOf,
  environment,
  LSP_OPTIONS,
  SERVE_VARIABLES,
  serverOptions,
  suggestsIn,
} from "../src/options";
import { findPython } from "../src/python";
import { complaint, face, stateOf } from "../src/state";

const given = (values: Record<string, unknown>) => (name: string) => values[name];

test("only what the user set is sent, so that tabwise.toml keeps its say", () => {
  const set = given({ level: "eager", minConfidence: null, "backend.url": "" });
  assert.deepEqual(serverOptions(set), { level: "eager" });
});

test("the backend's settings are a section of the options", () => {
  const set = given({ "backend.url": "http://gpu:8000", "backend.kind": "openai" });
  assert.deepEqual(serverOptions(set), {
    backend: { url: "http://gpu:8000", kind: "openai" },
  });
});

test("what the local backend starts with goes through the environment", () => {
  const set = given({
    "client.model": "/models/mine",
    "serve.threads": 2,
    "client.environment": { TABWISE_LSP_LOG_LEVEL: "DEBUG" },
  });
  assert.deepEqual(environment({ PATH: "/bin" }, set), {
    PATH: "/bin",
    TABWISE_SERVE_CHECKPOINT: "/models/mine",
    TABWISE_SERVE_THREADS: "2",
    TABWISE_LSP_LOG_LEVEL: "DEBUG",
  });
});

test("a changed setting does no more than it must", () => {
  assert.equal(effectOf(["level"]), "options");
  assert.equal(effectOf(["enabled", "client.package", "trace.server"]), "none");
  assert.equal(effectOf(["level", "client.path"]), "server");
  assert.equal(effectOf(["client.path", "client.model"]), "backend");
});

test("every setting is read somewhere", () => {
  const read = [
    ...LSP_OPTIONS,
    ...BACKEND_OPTIONS.map((name) => `backend.${name}`),
    ...Object.keys(SERVE_VARIABLES),
    "enabled",
    "client.languages",
    "client.path",
    "client.arguments",
    "client.environment",
    "client.package",
    "trace.server", // by vscode-languageclient
  ];
  const offered = Object.keys(manifest().contributes.configuration.properties);
  assert.deepEqual(offered.sort(), read.map((name) => `tabwise.${name}`).sort());
});

test("complaint 21, Tab against indent: no binding of ours takes Tab from VS Code", () => {
  const keys = manifest().contributes.keybindings.map(
    (binding: { key: string }) => binding.key,
  );
  assert.ok(keys.length > 0);
  assert.deepEqual(
    keys.filter((key: string) => /(^|[+ ])tab($| )/i.test(key)),
    [],
  );
});

test("a language that is not named is off", () => {
  assert.equal(suggestsIn({ python: true, rust: false }, "python"), true);
  assert.equal(suggestsIn({ python: true, rust: false }, "rust"), false);
  assert.equal(suggestsIn({ python: true }, "go"), false);
});

test("ten restarts asked for during one end in one more", async () => {
  let runs = 0;
  let release = () => {};
  const gate = new Promise<void>((open) => (release = open));
  const restarts = new Coalesced(async () => {
    runs += 1;
    if (runs === 1) await gate;
  });
  const all = Array.from({ length: 10 }, () => restarts.run());
  release();
  await Promise.all(all);
  assert.equal(runs, 2);
});

test("a failed run does not keep later ones from running", async () => {
  let runs = 0;
  const restarts = new Coalesced(() => {
    runs += 1;
    return runs === 1 ? Promise.reject(new Error("once")) : Promise.resolve();
  });
  await assert.rejects(restarts.run());
  await restarts.run();
  assert.equal(runs, 2);
});

test("figures tell percentiles of suggestions, not of empty answers", () => {
  const figures = new Figures();
  for (let ms = 1; ms <= 100; ms++) figures.observe(ms, 1);
  figures.observe(5000, 0);
  assert.equal(
    figures.describe(),
    "100 suggestions in 101 requests; median 51 ms, 95th percentile 96 ms",
  );
});

test("an offline backend says why, in the warning colour", () => {
  const state = stateOf({ state: "offline", reason: "the key is refused" });
  const shown = face(state, "");
  assert.equal(shown.warning, true);
  assert.match(shown.tooltip, /the key is refused/);
});

test("every complaint names a way out", () => {
  assert.match(complaint({ kind: "missing" }), /Install it/);
  assert.match(complaint({ kind: "wrong-setting", path: "/x" }), /\/x.*Correct it/);
});

test("what an untrusted workspace may not set covers all that is run, sent to or read", () => {
  const { capabilities, contributes } = manifest();
  const restricted: string[] =
    capabilities.untrustedWorkspaces.restrictedConfigurations;
  const settings = Object.keys(contributes.configuration.properties);
  const risky = settings.filter((s) =>
    /^tabwise\.((client|backend|serve)\.(?!languages)|remember|secret|skip)/.test(s),
  );
  assert.deepEqual([...restricted].sort(), risky.sort());
});

test("every setting is described, and every command has a title", () => {
  const { configuration, commands } = manifest().contributes;
  for (const setting of Object.values<Record<string, string>>(
    configuration.properties,
  )) {
    assert.ok((setting.markdownDescription ?? "").length > 10);
  }
  for (const command of commands) assert.ok(command.title);
});

test("the server's lines are logged at the level that they name", async () => {
  const heard: [Level, string][] = [];
  const log = Object.fromEntries(
    (["debug", "info", "warn", "error"] as const).map((level) => [
      level,
      (line: string) => heard.push([level, line]),
    ]),
  ) as unknown as Log;
  const stderr = Readable.from([
    "no level yet\n2026-01-02 03:04:05,678 INFO tabwise_server.lsp: ready\n",
    "2026-01-02 03:04:05,678 WARNING tabwise_server.lsp: slow\n  more of it\n",
  ]);
  relay(stderr, log);
  await new Promise((settle) => stderr.on("close", settle));
  await new Promise((settle) => setImmediate(settle));
  assert.deepEqual(heard, [
    ["error", "no level yet"],
    ["info", "tabwise_server.lsp: ready"],
    ["warn", "tabwise_server.lsp: slow"],
    ["warn", "  more of it"],
  ]);
});

test("the menu says what a line will do, and offers to install what is missing", () => {
  const now: Circumstances = {
    state: "ready",
    figures: "3 suggestions",
    model: "the model that ships",
    language: "python",
    missing: false,
    on: { everywhere: true, workspace: true, language: false },
  };
  const labels = entries(now).map((entry) => entry.label.replace(/^\S+ /, ""));
  assert.ok(labels.includes("Stop suggesting everywhere"));
  assert.ok(labels.includes("Suggest in python"));
  assert.ok(labels.includes("Stop suggesting in this workspace"));
  assert.ok(!labels.includes("Install the server"));
  const nothingOpen = entries({ ...now, on: { ...now.on, workspace: undefined } });
  assert.ok(!nothingOpen.some((entry) => entry.command === "tabwise.toggleWorkspace"));
  const missing = entries({ ...now, missing: true });
  assert.ok(missing.some((entry) => entry.command === "tabwise.install"));
});

test("every command of the menu is one that the extension has", () => {
  const on = { everywhere: true, workspace: true, language: true };
  const texts = { state: "", figures: "", model: "", language: "" };
  const known: string[] = manifest().contributes.commands.map(
    (command: { command: string }) => command.command,
  );
  for (const entry of entries({ ...texts, missing: true, on })) {
    assert.ok(known.includes(entry.command), entry.command);
  }
});

test("a Python that is too old is passed over, and none is told as none", async () => {
  const answers: Record<string, string> = { "python3.11": "True", python3: "False" };
  assert.equal(
    await findPython((words) => Promise.resolve(answers[words[0] ?? ""])),
    "python3.11",
  );
  const old = (words: readonly string[]) =>
    Promise.resolve(words[0] === "python3" ? "False" : undefined);
  assert.equal(await findPython(old), undefined);
});

function manifest() {
  return JSON.parse(readFileSync("package.json", "utf8"));
}
