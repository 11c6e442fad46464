/**
 * The packaged extension in a real VS Code, in a real browser, with the checkpoint that
 * ships: typed, shown, accepted with Tab, typed through, offline and back, a setting.
 *
 *     ./install && node run.mjs [--vsix FILE] [--tabwise FILE] [--keep FOLDER]
 *
 * Prints a line for each step with its seconds; leaves a picture of each in FOLDER.
 */

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";

import { chromium } from "playwright-core";

const HERE = import.meta.dirname;
const ROOT = path.resolve(HERE, "../../../..");
const VSCODE = path.join(HERE, "node_modules/code-server/lib/vscode");
const CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const PATIENCE_MS = 45_000;
const GHOST = ".ghost-text-decoration, .ghost-text-decoration-preview, .ghost-text";
const STATUS = "[id*='tabwise.status']";
const BEFORE = readFileSync(path.join(ROOT, "examples/inventory.py"), "utf8").replace(
  /return name in self.items.*/,
  "",
);

const { values: flags } = parseArgs({
  options: {
    vsix: { type: "string", default: path.join(ROOT, "editor-client/vscode/build/tabwise.vsix") },
    tabwise: { type: "string", default: path.join(ROOT, ".venv/bin/tabwise") },
    keep: { type: "string", default: path.join(HERE, "build") },
  },
});

const work = mkdtempSync(path.join(tmpdir(), "tabwise-vscode-"));
const project = path.join(work, "project");
const state = path.join(work, "state");
const machineSettings = path.join(work, "data/data/Machine/settings.json");
const environment = { ...process.env, TABWISE_STATE_DIR: state, HOME: work };

async function main() {
  prepare();
  const port = await freePort();
  const server = startVsCode(port);
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: CHROMIUM });
  const page = await browser.newPage({ viewport: { width: 1000, height: 640 } });
  page.setDefaultTimeout(PATIENCE_MS);
  try {
    await server.listening;
    await walk(page, `http://127.0.0.1:${port}/?folder=${project}`);
  } catch (error) {
    await picture(page, "failed");
    console.error(server.log(), statusOf(await page.locator(".statusbar").innerHTML()));
    tellLogs();
    throw error;
  } finally {
    await browser.close();
    server.stop();
    tabwise("stop");
    rmSync(work, { recursive: true, force: true });
  }
}

async function walk(page, url) {
  await step("opens, and the status bar says ready", () => opens(page, url));
  await step("shows ghost text while typing", () => showsGhostText(page));
  await picture(page, "ghost-text");
  await step("keeps it while it is typed through", () => typesThrough(page));
  await step("takes it with Tab", () => takesWithTab(page));
  await picture(page, "accepted");
  await step("goes offline when the backend cannot start", () => goesOffline(page));
  await picture(page, "offline");
  await step("comes back", () => comesBack(page));
  await step("follows a changed setting", () => followsSetting(page));
  await picture(page, "switched-off");
  await step("shows its menu", () => showsMenu(page));
  await picture(page, "menu");
}

async function opens(page, url) {
  await page.goto(url);
  await page.getByText("Yes, I trust the authors").click();
  const file = page.locator(".explorer-folders-view .monaco-list-row", { hasText: "inventory.py" });
  await file.dblclick();
  await statusSays(page, /ready/);
}

async function showsGhostText(page) {
  await goToEndOf(page, "def __contains__(self, name: str) -> bool:");
  await page.keyboard.press("Enter");
  await page.keyboard.type("return name in", { delay: 60 });
  await page.locator(GHOST).first().waitFor();
}

async function typesThrough(page) {
  const shown = await ghostText(page);
  const typed = shown.slice(0, 3);
  await page.keyboard.type(typed, { delay: 60 });
  await page.waitForFunction(
    ([selector, rest]) =>
      [...document.querySelectorAll(selector)].map((e) => e.textContent).join("")
        .replaceAll("\u00a0", " ") === rest,
    [GHOST, shown.slice(3)],
  );
}

async function takesWithTab(page) {
  const rest = await ghostText(page);
  const before = await lineAtCursor(page, "return name in");
  await page.keyboard.press("Tab");
  await page.waitForFunction(
    (wanted) => [...document.querySelectorAll(".view-line")].some(
      (line) => line.textContent.replaceAll("\u00a0", " ").includes(wanted)),
    (before.replace(rest, "") + rest).trim(),
  );
}

async function goesOffline(page) {
  // A daemon that ends is started again at once: away is one that cannot start.
  setSettings({ "tabwise.client.model": path.join(work, "no-such-checkpoint") });
  tabwise("stop");
  await statusSays(page, /No suggestions for now: .*no-such-checkpoint|No suggestions for now/);
  await page.locator(".statusbar-item.warning-kind").filter({ hasText: "Tabwise: offline" }).waitFor();
}

async function comesBack(page) {
  setSettings({});
  await statusSays(page, /ready/);
}

async function followsSetting(page) {
  setSettings({ "tabwise.enabled": false });
  await statusSays(page, /switched off/);
}

async function showsMenu(page) {
  await page.locator(STATUS).first().click();
  await page.locator(".quick-input-list").getByText("Restart the language server").waitFor();
}

/** The status item's words, which screen readers get, match. */
async function statusSays(page, words) {
  await page.locator(STATUS).getByLabel(words).or(page.locator(STATUS).and(page.getByLabel(words))).first().waitFor();
}

async function ghostText(page) {
  const parts = await page.locator(GHOST).allTextContents();
  return parts.join("").replaceAll("\u00a0", " ");
}

async function lineAtCursor(page, beginning) {
  const line = page.locator(".view-line", { hasText: beginning.replaceAll(" ", "\u00a0") });
  return (await line.first().textContent()).replaceAll("\u00a0", " ");
}

async function goToEndOf(page, text) {
  const lines = BEFORE.split("\n");
  const number = lines.findIndex((line) => line.includes(text)) + 1;
  await page.locator(".view-lines").first().click();
  await page.keyboard.press("Control+g");
  await page.locator(".quick-input-widget input").fill(`:${number}:200`);
  await page.keyboard.press("Enter");
  await page.locator(".quick-input-widget").waitFor({ state: "hidden" });
}

function prepare() {
  assert.ok(existsSync(VSCODE), "VS Code's server is not installed: run ./install");
  assert.ok(existsSync(flags.vsix), "no extension: npm run package in editor-client/vscode");
  for (const folder of [flags.keep, project, state]) mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(project, "inventory.py"), BEFORE);
  mkdirSync(path.dirname(machineSettings), { recursive: true });
  setSettings({});
  vsCode(["--install-extension", flags.vsix]);
}

function setSettings(more) {
  const always = {
    "tabwise.client.path": flags.tabwise,
    "tabwise.level": "eager",
    "workbench.startupEditor": "none",
    "editor.suggest.showWords": false,
    "editor.quickSuggestions": { other: "off", comments: "off", strings: "off" },
    "chat.commandCenter.enabled": false,
    "telemetry.telemetryLevel": "off",
  };
  writeFileSync(machineSettings, JSON.stringify({ ...always, ...more }));
}

function vsCode(words) {
  execFileSync(process.execPath, vsCodeWords(words), { env: environment, stdio: "pipe" });
}

function vsCodeWords(words) {
  const main = path.join(VSCODE, "out/server-main.js");
  return [main, "--accept-server-license-terms", "--server-data-dir", path.join(work, "data"), ...words];
}

function startVsCode(port) {
  const words = ["--without-connection-token", "--host", "127.0.0.1", "--port", String(port)];
  const process_ = spawn(process.execPath, vsCodeWords(words), { env: environment });
  let said = "";
  const listening = new Promise((settle, fail) => {
    const listen = (chunk) => {
      said += chunk;
      if (said.includes("Extension host agent listening")) settle();
    };
    process_.stdout.on("data", listen);
    process_.stderr.on("data", listen);
    process_.on("exit", () => fail(new Error(`VS Code ended:\n${said}`)));
  });
  listening.catch(() => {}); // told where it is awaited
  return { listening, log: () => said, stop: () => process_.kill() };
}

function tabwise(...words) {
  execFileSync(flags.tabwise, words, { env: environment, stdio: "pipe" });
}

function freePort() {
  return new Promise((settle) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => settle(port));
    });
  });
}

function statusOf(html) {
  return html.match(/id="[^"]*tabwise[^>]*>/g);
}

/** Print what the extension and the backend logged. */
function tellLogs() {
  for (const name of readdirSync(work, { recursive: true })) {
    if (!/Tabwise\.log$|daemon\.log$/.test(name)) continue;
    console.error(`--- ${name}\n${readFileSync(path.join(work, name), "utf8")}`);
  }
}

async function step(name, run) {
  const began = performance.now();
  await run();
  console.log(`ok  ${((performance.now() - began) / 1000).toFixed(1).padStart(5)} s  ${name}`);
}

async function picture(page, name) {
  await page.screenshot({ path: path.join(flags.keep, `${name}.png`) });
}

await main();
