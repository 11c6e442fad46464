import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Coalesced } from "../src/coalesce";
import { Figures } from "../src/figures";
import { environment, initializationOptions, suggestsIn } from "../src/options";
import { complaint, face, stateOf } from "../src/state";

const given = (values: Record<string, unknown>) => (name: string) => values[name];

test("only what the user set is sent, so that tabwise.toml keeps its say", () => {
  const options = initializationOptions(given({ level: "eager", minConfidence: null }));
  assert.deepEqual(options, { level: "eager" });
});

test("the model and the backend go through the environment", () => {
  const set = given({
    "client.model": "/models/mine",
    "backend.url": "http://gpu:8000",
    "backend.kind": "openai",
    "client.environment": { TABWISE_LSP_LOG_LEVEL: "DEBUG" },
  });
  assert.deepEqual(environment({ PATH: "/bin" }, set), {
    PATH: "/bin",
    TABWISE_SERVE_CHECKPOINT: "/models/mine",
    TABWISE_BACKEND_URL: "http://gpu:8000",
    TABWISE_BACKEND_KIND: "openai",
    TABWISE_LSP_LOG_LEVEL: "DEBUG",
  });
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

test("what an untrusted workspace may not set covers all that is run or sent to", () => {
  const manifest = JSON.parse(readFileSync("package.json", "utf8"));
  const restricted: string[] =
    manifest.capabilities.untrustedWorkspaces.restrictedConfigurations;
  const settings = Object.keys(manifest.contributes.configuration.properties);
  const risky = settings.filter((s) =>
    /^tabwise\.(client|backend)\.(?!languages)/.test(s),
  );
  assert.deepEqual([...restricted].sort(), risky.sort());
});

test("every setting is described, and every command has a title", () => {
  const { configuration, commands } = JSON.parse(
    readFileSync("package.json", "utf8"),
  ).contributes;
  for (const setting of Object.values<Record<string, string>>(
    configuration.properties,
  )) {
    assert.ok((setting.markdownDescription ?? "").length > 10);
  }
  for (const command of commands) assert.ok(command.title);
});
