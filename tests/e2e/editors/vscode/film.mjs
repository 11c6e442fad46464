/**
 * The moving picture of the extension's README: a real VS Code while someone types, a
 * picture after each key. What is suggested is what the checkpoint that ships suggests.
 *
 *     ./install && node film.mjs FILE.gif
 */

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

import { ROOT, VsCode } from "./vscode.mjs";

const [out] = process.argv.slice(2);
const KEY_MS = 90;
const READ_MS = 1500;
const SETTLED_MS = 250; // by then, on an idle machine, a suggestion is on the screen
const SCENE = readFileSync(path.join(ROOT, "examples/inventory.py"), "utf8")
  .replaceAll(/ {2}# <from> .*/g, "")
  .replace(/ {4}def __contains__.*\n.*\n\n/, "")
  .replace(/^"""[^"]*"""\n\n/, "");
const LOOK = {
  "workbench.activityBar.location": "hidden",
  "workbench.statusBar.visible": true,
  "window.menuBarVisibility": "hidden",
  "window.commandCenter": false,
  "workbench.layoutControl.enabled": false,
  "breadcrumbs.enabled": false,
  "editor.stickyScroll.enabled": false,
  "workbench.colorTheme": "Default Light Modern",
  "editor.fontSize": 14,
};

const frames = mkdtempSync(path.join(tmpdir(), "tabwise-film-"));
const code = new VsCode({ size: { width: 760, height: 420 } });
let count = 0;

try {
  code.look = LOOK;
  code.write("inventory.py", SCENE);
  await code.start();
  await code.open(code.project);
  await code.openFile("inventory.py");
  await code.statusSays(/ready/);
  const walkthrough = code.page.locator(".tab", { hasText: "Walkthrough" });
  if (await walkthrough.count()) await walkthrough.getByLabel(/Close/).click();
  await code.page.keyboard.press("Control+b");
  await act();
  execFileSync(path.join(ROOT, ".venv/bin/python"), [path.join(import.meta.dirname, "animate.py"), frames, out]);
} finally {
  await code.stop();
  rmSync(frames, { recursive: true });
}

async function act() {
  await code.goToEndOf("return self.items[name]", "inventory.py");
  await frame(READ_MS / 2);
  await keys("Enter", "Enter", "Shift+Tab");
  await typed("def __contains__(self, name: str) -> bool:");
  await keys("Enter");
  await typed("return name in");
  await frame(READ_MS);
  await keys("Tab");
  await frame(READ_MS);
  await keys("Enter", "Enter", "Shift+Tab");
  await typed("def price(self, name: str) -> float:");
  await keys("Enter");
  await typed("return self.items");
  await frame(READ_MS);
  await keys("Tab");
  await frame(2 * READ_MS);
}

async function typed(text) {
  for (const character of text) {
    await code.page.keyboard.type(character);
    await frame(KEY_MS);
  }
}

async function keys(...names) {
  for (const name of names) {
    await code.page.keyboard.press(name);
    await frame(3 * KEY_MS);
  }
}

/** Take a picture to be shown for so long. */
async function frame(forMs) {
  await code.page.waitForTimeout(SETTLED_MS);
  const name = `${String(++count).padStart(4, "0")}-${forMs}.png`;
  await code.page.screenshot({ path: path.join(frames, name) });
}
