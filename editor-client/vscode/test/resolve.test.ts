import assert from "node:assert/strict";
import { test } from "node:test";

import { candidates, isOlder, resolve, type Surroundings } from "../src/resolve";

const AROUND: Surroundings = {
  setting: null,
  interpreter: "/env/bin/python",
  workspace: "/project",
  storage: "/storage",
  home: "/home/ada",
  environment: {},
  platform: "linux",
};

test("the workspace's Python comes before tools, and the PATH last", () => {
  assert.deepEqual(
    candidates(AROUND).map((c) => c.command),
    [
      "/env/bin/python",
      "/project/.venv/bin/tabwise",
      "/storage/server/bin/tabwise",
      "/home/ada/.local/bin/tabwise",
      "tabwise",
    ],
  );
});

test("pipx and uv are looked for where their variables say", () => {
  const environment = { PIPX_BIN_DIR: "/tools", UV_TOOL_BIN_DIR: "/tools" };
  const tools = candidates({ ...AROUND, environment }).filter(
    (c) => c.origin === "tool",
  );
  assert.deepEqual(
    tools.map((c) => c.command),
    ["/tools/tabwise", "/home/ada/.local/bin/tabwise"],
  );
});

test("nothing of an untrusted workspace is looked at", () => {
  const untrusted = { ...AROUND, interpreter: undefined, workspace: undefined };
  assert.ok(candidates(untrusted).every((c) => c.origin !== "workspace"));
});

test("the setting alone counts, with ~ as the home folder", async () => {
  const around = { ...AROUND, setting: "~/bin/tabwise" };
  const [only, ...others] = candidates(around);
  assert.equal(only?.command, "/home/ada/bin/tabwise");
  assert.equal(others.length, 0);
  const nothing = await resolve(around, () => Promise.resolve(undefined));
  assert.deepEqual(nothing, { kind: "wrong-setting", path: "~/bin/tabwise" });
});

test("an old server is passed over for a newer one behind it", async () => {
  const versions: Record<string, string> = {
    "/env/bin/python": "0.0.9",
    tabwise: "0.2.0",
  };
  const found = await resolve(AROUND, ([command = ""]) =>
    Promise.resolve(versions[command]),
  );
  assert.equal(found.kind === "found" && found.candidate.command, "tabwise");
});

test("an old server alone is named as such, not as missing", async () => {
  const found = await resolve(AROUND, ([command]) =>
    Promise.resolve(command === "tabwise" ? "0.0.9" : undefined),
  );
  assert.equal(found.kind, "old");
});

test("versions compare by number, not by letter", () => {
  assert.equal(isOlder("0.9.0", "0.10.0"), true);
  assert.equal(isOlder("0.10.0", "0.9.0"), false);
  assert.equal(isOlder("1.0", "1.0.0"), false);
});

test("a program that prints anything but a version is not ours", async () => {
  const found = await resolve(AROUND, () => Promise.resolve("usage: tabwise"));
  assert.equal(found.kind, "missing");
});
