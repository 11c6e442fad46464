/**
 * The packaged extension in a real VS Code, in a real browser, with the checkpoint that
 * ships: what a user sees when things go well, and when they do not.
 *
 *     ./install && node run.mjs [--keep FOLDER]
 *
 * Prints a line for each step with its seconds; leaves pictures in FOLDER.
 */

import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";

import { Backend, ROOT, TABWISE, VsCode } from "./vscode.mjs";

const { values: flags } = parseArgs({
  options: { keep: { type: "string", default: path.join(import.meta.dirname, "build") } },
});
const INVENTORY = readFileSync(path.join(ROOT, "examples/inventory.py"), "utf8")
  .replaceAll(/ {2}# <from> .*/g, "").replace(/return name in self.items.*/, "");
const STOCK = readFileSync(path.join(import.meta.dirname, "../stock.txt"), "utf8").trimEnd();
const TYPED = ".counts";
let whole = "";

const code = new VsCode();
const backend = new Backend();
const marker = path.join(code.work, "was-run");

async function main() {
  mkdirSync(flags.keep, { recursive: true });
  code.write("inventory.py", INVENTORY);
  try {
    await code.start();
    for (const [name, run] of STEPS) await step(name, run);
  } catch (error) {
    console.error(code.logs(), await code.statusNow(), error);
    await picture("failed");
    process.exitCode = 1;
  } finally {
    backend.kill();
    await code.stop();
  }
}

const STEPS = [
  ["runs nothing that an untrusted workspace names", restrictsAnUntrustedWorkspace],
  ["opens, and the status bar says ready", opens],
  ["shows ghost text while typing", showsGhostText],
  ["keeps it while it is typed through", typesThrough],
  ["takes a word with Control+Right, the rest with Tab", takesWordsThenAll],
  ["shows others on Alt+], when asked with Alt+\\", showsOthers],
  ["follows a changed option without a restart", followsOption],
  ["is switched off and on by a setting", followsSwitch],
  ["goes offline when the backend is killed", goesOffline],
  ["comes back with it", comesBack],
  ["says that a checkpoint is missing", namesMissingCheckpoint],
  ["goes back to the model that ships", goesBack],
  ["shows its menu", showsMenu],
  ["shows statistics in a terminal that stays", showsStatistics],
  ["says that a server is too old", namesOldServer],
  ["says that the program is wrong", namesWrongProgram],
  ["offers to install, and says that Python is missing", offersToInstall],
  ["finds what pipx or uv installed", findsTheTool],
];

async function restrictsAnUntrustedWorkspace() {
  const folder = path.join(code.work, "untrusted");
  const trap = path.join(folder, "trap.sh");
  code.write("trap.sh", `#!/bin/sh\n: > ${marker}\n`, folder);
  chmodSync(trap, 0o755);
  code.write("inventory.py", INVENTORY, folder);
  const settings = { "tabwise.client.path": trap, "tabwise.backend.url": "http://127.0.0.1:9" };
  code.write(".vscode/settings.json", JSON.stringify(settings), folder);
  await code.open(folder, false);
  await code.openFile("inventory.py");
  await code.page.getByText("Start with Tabwise").first().waitFor();
  await code.statusSays(/ready/);
  await picture("walkthrough");
  assert.ok(!existsSync(marker), "the workspace's program was run");
}

async function opens() {
  await code.open(code.project);
  await code.openFile("inventory.py");
  await code.statusSays(/ready/);
}

async function showsGhostText() {
  await code.goToEndOf("def __contains__(self, name: str) -> bool:", "inventory.py");
  await code.page.keyboard.press("Enter");
  await code.type("return name in");
  await code.ghostAppears();
  await picture("ghost-text");
}

async function typesThrough() {
  const shown = await code.ghost();
  await code.type(shown.slice(0, 3));
  await code.ghostIs(shown.slice(3));
}

async function takesWordsThenAll() {
  whole = await suggestionIn("stock.py");
  await code.page.keyboard.press("Control+ArrowRight");
  await code.until(async () => {
    const rest = await code.ghost();
    return rest !== "" && rest !== whole && whole.endsWith(rest);
  });
  await code.page.keyboard.press("Tab");
  await code.lineIs(STOCK.split("\n").at(-1) + TYPED + whole);
  await picture("accepted");
}

async function showsOthers() {
  code.setSettings({ "tabwise.minConfidence": 0 });
  await newLine();
  await code.type("x = ");
  await code.until(async () => {
    await code.page.keyboard.press("Escape");
    await code.page.keyboard.press("Alt+\\");
    await code.page.waitForTimeout(500);
    const first = await code.ghost();
    await code.page.keyboard.press("Alt+]");
    await code.page.waitForTimeout(200);
    return first !== "" && ![first, ""].includes(await code.ghost());
  });
  await picture("others");
  await code.page.keyboard.press("Escape");
  code.setSettings({});
}

async function followsOption() {
  code.setSettings({ "tabwise.maxNewTokens": 2 });
  let number = 0;
  await code.until(async () => {
    const shown = await suggestionIn(`stock${++number}.py`);
    return whole.startsWith(shown) && shown.length < whole.length;
  });
  assert.equal(code.logs().match(/ \(setting\)/g).length, 2, "it was restarted");
}

async function followsSwitch() {
  code.setSettings({ "tabwise.enabled": false });
  await code.statusSays(/switched off/);
  await picture("switched-off");
  code.setSettings({});
  await code.statusSays(/ready/);
}

async function goesOffline() {
  await backend.start();
  code.setSettings({ "tabwise.backend.url": backend.url });
  await suggestionIn("remote.py");
  backend.kill();
  await newLine();
  await code.type("x = self.prices");
  await code.statusSays(new RegExp(`No suggestions for now: .*${backend.port}`));
  await code.page.locator(".statusbar-item.warning-kind").filter({ hasText: "Tabwise: offline" }).waitFor();
  await picture("offline");
}

async function comesBack() {
  await backend.start();
  await code.statusSays(/ready/);
  await suggestionIn("back.py");
}

async function namesMissingCheckpoint() {
  code.setSettings({ "tabwise.client.model": path.join(code.work, "no-such-model") });
  await code.statusSays(/No suggestions for now: .*no-such-model/);
}

async function goesBack() {
  code.setSettings({});
  await code.statusSays(/ready/);
}

async function showsMenu() {
  const menu = await code.openMenu();
  await menu.getByText("Stop suggesting in python").waitFor();
  await picture("menu");
  await menu.getByText("Model and backend").click();
  await code.page.locator(".quick-input-list").getByText("The model that ships").waitFor();
  await picture("choose-model");
  await code.page.keyboard.press("Escape");
}

async function showsStatistics() {
  await code.command("Tabwise: Show Statistics");
  await code.page.locator(".xterm-rows", { hasText: "press any key to close it" }).waitFor();
  assert.match(await code.page.locator(".xterm-rows").textContent(), /shown.*accepted/);
  await picture("statistics");
}

async function namesOldServer() {
  code.write("old", "#!/bin/sh\necho 0.0.1\n", code.work);
  chmodSync(path.join(code.work, "old"), 0o755);
  code.setSettings({ "tabwise.client.path": path.join(code.work, "old") });
  await code.statusSays(/Tabwise 0\.0\.1 .* is too old for this extension\. Update it/);
}

async function namesWrongProgram() {
  code.setSettings({ "tabwise.client.path": "/no/such/tabwise" });
  await code.statusSays(/\/no\/such\/tabwise, which does not answer.*Correct it/);
}

async function offersToInstall() {
  code.setSettings({ "tabwise.client.path": null });
  await code.statusSays(/server was not found\. Install it/);
  await code.page.getByRole("button", { name: "Install", exact: true }).click();
  await code.page.getByText("Tabwise needs Python 3.11 or newer, and none was found").first().waitFor();
  await picture("no-python");
}

async function findsTheTool() {
  const tool = path.join(code.work, ".local/bin/tabwise");
  code.write(tool, `#!/bin/sh\nexec ${TABWISE} "$@"\n`, "/");
  chmodSync(tool, 0o755);
  await code.command("Tabwise: Restart Language Server");
  await code.statusSays(/ready/);
}

/** What is suggested behind TYPED at the end of a fresh file with STOCK. */
async function suggestionIn(name) {
  code.write(name, STOCK);
  await code.openFile(name);
  await code.goToEndOf(STOCK.split("\n").at(-1), name);
  await code.type(TYPED);
  return code.ghostAppears();
}

/** A line of its own at the end of the file. */
async function newLine() {
  await code.page.keyboard.press("Escape");
  await code.page.keyboard.press("Control+End");
  await code.page.keyboard.press("Enter");
}

async function step(name, run) {
  const began = performance.now();
  await run();
  console.log(`ok  ${((performance.now() - began) / 1000).toFixed(1).padStart(5)} s  ${name}`);
}

async function picture(name) {
  await code.page.screenshot({ path: path.join(flags.keep, `${name}.png`) });
}

await main();
