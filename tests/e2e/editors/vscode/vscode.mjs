/**
 * A real VS Code, its server on a port of this machine and its window in Chromium, with
 * the packaged extension, for a user and a project of its own.
 */

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";

import { chromium } from "playwright-core";

const HERE = import.meta.dirname;
export const ROOT = path.resolve(HERE, "../../../..");
export const VSIX = path.join(ROOT, "editor-client/vscode/build/tabwise.vsix");
export const TABWISE = path.join(ROOT, ".venv/bin/tabwise");
const PROGRAM = path.join(HERE, "node_modules/code-server/lib/vscode/out/server-main.js");
const CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const PATIENCE_MS = 60_000;
const SETTLED_MS = 300;
const GHOST = ".ghost-text-decoration, .ghost-text-decoration-preview, .ghost-text";
const STATUS = "[id*='tabwise.status']";

/** VS Code with a home, a project, and settings. `page` is its window. */
export class VsCode {
  constructor({ vsix = VSIX, size = { width: 1000, height: 640 } } = {}) {
    this.work = mkdtempSync(path.join(tmpdir(), "tabwise-vscode-"));
    this.project = path.join(this.work, "project");
    this.data = path.join(this.work, "data");
    this.vsix = vsix;
    this.size = size;
    this.look = {}; // further settings that always hold
    // nothing is found on this PATH: what is started is named by the settings
    this.environment = {
      ...process.env,
      TABWISE_STATE_DIR: path.join(this.work, "state"),
      HOME: this.work,
      PATH: path.join(this.work, "bin"),
    };
    for (const name of ["project", "state", "bin"]) mkdirSync(path.join(this.work, name));
    this.write(".profile", `PATH=${this.environment.PATH}\n`, this.work); // VS Code asks a shell
  }

  async start() {
    assert.ok(existsSync(PROGRAM), "VS Code's server is not installed: run ./install");
    assert.ok(existsSync(this.vsix), "no extension: npm run package in editor-client/vscode");
    this.setSettings({});
    execFileSync(process.execPath, this.#words(["--install-extension", this.vsix]),
      { env: this.environment, stdio: "pipe" });
    this.port = await freePort();
    const words = ["--without-connection-token", "--host", "127.0.0.1", "--port", String(this.port)];
    this.process = spawn(process.execPath, this.#words(words), { env: this.environment });
    await saying(this.process, "Extension host agent listening");
    this.browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: CHROMIUM });
    this.page = await this.browser.newPage({ viewport: this.size });
    this.page.setDefaultTimeout(PATIENCE_MS);
  }

  async stop() {
    await this.browser?.close();
    this.process?.kill();
    this.tabwise("stop");
    rmSync(this.work, { recursive: true, force: true, maxRetries: 5 });
  }

  /** Write a file of the project, or of another folder. */
  write(name, text, folder = this.project) {
    const file = path.join(folder, name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, text);
  }

  /** The machine's settings, which VS Code follows at once. */
  setSettings(more) {
    const always = {
      "tabwise.client.path": TABWISE,
      "tabwise.minConfidence": 0.1, // whole lines, which leave no bracket open
      "workbench.startupEditor": "none",
      "editor.quickSuggestions": { other: "off", comments: "off", strings: "off" },
      "editor.minimap.enabled": false,
      "terminal.integrated.gpuAcceleration": "off", // so that its text can be read
      "chat.commandCenter.enabled": false,
      "telemetry.telemetryLevel": "off",
    };
    this.write("data/Machine/settings.json", JSON.stringify({ ...always, ...this.look, ...more }), this.data);
  }

  tabwise(...words) {
    execFileSync(TABWISE, words, { env: this.environment, stdio: "pipe" });
  }

  /** Open a folder, and say whether its authors are to be trusted. */
  async open(folder, trusted = true) {
    await this.page.goto(`http://127.0.0.1:${this.port}/?folder=${folder}`);
    const answer = trusted ? "Yes, I trust the authors" : "No, I don't trust the authors";
    await this.page.getByText(answer).click();
  }

  async openFile(name) {
    const row = this.page.locator(".explorer-folders-view .monaco-list-row", { hasText: name });
    await row.dblclick();
    await this.page.locator(".tab", { hasText: name }).waitFor();
  }

  async command(title) {
    await this.page.keyboard.press("F1");
    await this.page.locator(".quick-input-widget input").fill(`>${title}`);
    await this.page.locator(".quick-input-list .monaco-list-row", { hasText: title }).first().waitFor();
    await this.page.keyboard.press("Enter");
  }

  /** Put the cursor behind the last line that holds `text`, ready to type. */
  async goToEndOf(text, name) {
    const lines = readFileSync(path.join(this.project, name), "utf8").split("\n");
    const number = lines.findLastIndex((line) => line.includes(text)) + 1;
    const editor = this.page.locator(`.monaco-editor[data-uri$="/${name}"]`);
    await editor.locator(".view-line").first().click();
    await this.page.keyboard.press("Control+g");
    await this.page.locator(".quick-input-widget input").fill(`:${number}:200`);
    await this.page.keyboard.press("Enter");
    await this.page.locator(".quick-input-widget").waitFor({ state: "hidden" });
    await this.page.locator(".statusbar-item", { hasText: `Ln ${number},` }).waitFor();
    await editor.and(this.page.locator(".focused")).waitFor();
  }

  type(text) {
    return this.page.keyboard.type(text, { delay: 60 });
  }

  /** The ghost text, once it has stayed the same for a while. */
  async ghostAppears() {
    let shown = "";
    await this.until(async () => {
      const before = shown;
      shown = await this.ghost();
      return shown !== "" && shown === before;
    }, SETTLED_MS);
    return shown;
  }

  /** Ask until it holds. */
  async until(holds, everyMs = 50) {
    const ends = performance.now() + PATIENCE_MS;
    while (!(await holds())) {
      assert.ok(performance.now() < ends, "it never came to hold");
      await this.page.waitForTimeout(everyMs);
    }
  }

  async ghost() {
    const parts = await this.page.locator(GHOST).allTextContents();
    return parts.join("").replaceAll("\u00a0", " ");
  }

  /** Until the ghost text is exactly this. */
  async ghostIs(text) {
    await this.page.waitForFunction(
      ([selector, wanted]) =>
        [...document.querySelectorAll(selector)].map((e) => e.textContent).join("")
          .replaceAll("\u00a0", " ") === wanted,
      [GHOST, text],
    );
  }

  /** Until a line of the editor is exactly this, but for its indentation. */
  async lineIs(text) {
    await this.page.waitForFunction(
      (wanted) => [...document.querySelectorAll(".view-line")].some(
        (line) => line.textContent.replaceAll("\u00a0", " ").trim() === wanted),
      text.trim(),
    );
  }

  /** Until the status item's words, which screen readers get, match. */
  async statusSays(words) {
    const status = this.page.locator(STATUS);
    await status.getByLabel(words).or(status.and(this.page.getByLabel(words))).first().waitFor();
  }

  async statusNow() {
    return (await this.page.locator(".statusbar").innerHTML()).match(/id="[^"]*tabwise[^>]*>/g);
  }

  async openMenu() {
    await this.page.locator(STATUS).first().click();
    return this.page.locator(".quick-input-list");
  }

  /** What the extension and the backend logged. */
  logs() {
    return readdirSync(this.work, { recursive: true })
      .filter((name) => /Tabwise\.log$|daemon\.log$/.test(name))
      .map((name) => `--- ${name}\n${readFileSync(path.join(this.work, name), "utf8")}`)
      .join("\n");
  }

  #words(words) {
    return [PROGRAM, "--accept-server-license-terms", "--server-data-dir", this.data, ...words];
  }
}

/** A real `tabwise serve`, which can be killed and started again at the same address. */
export class Backend {
  async start() {
    this.port ??= await freePort();
    this.url = `http://127.0.0.1:${this.port}`;
    this.process = spawn(TABWISE, ["serve", "--port", String(this.port)]);
    await saying(this.process, this.url);
  }

  kill() {
    this.process?.kill("SIGKILL");
  }
}

/** Resolves when a process has said `words`; fails when it ends before. */
function saying(process_, words) {
  let said = "";
  return new Promise((settle, fail) => {
    const listen = (chunk) => {
      said += chunk;
      if (said.includes(words)) settle();
    };
    process_.stdout.on("data", listen);
    process_.stderr.on("data", listen);
    process_.on("exit", () => fail(new Error(`it ended:\n${said}`)));
  });
}

function freePort() {
  return new Promise((settle) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => settle(port));
    });
  });
}
