/**
 * The playground in a real browser: load time, ghost text, Tab, tokens, figures, the key,
 * accessibility, a phone's width, dark mode.
 *
 *     npm install --prefix FOLDER playwright-core axe-core
 *     TABWISE_MODULES=FOLDER node tests/playground/page.mjs URL KEY PICTURES
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const [url, key, pictures] = process.argv.slice(2);
const require = createRequire(path.join(process.env.TABWISE_MODULES, "index.js"));
const { chromium } = require("playwright-core");
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"];

const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: CHROMIUM });
try {
  await look("desktop", { width: 1000, height: 800 }, "light");
  await look("dark", { width: 1000, height: 800 }, "dark");
  await look("phone", { width: 375, height: 700 }, "light");
} finally {
  await browser.close();
}

async function look(name, viewport, colorScheme) {
  const context = await browser.newContext({ viewport, colorScheme });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  const refused = [];
  page.on("console", (m) => m.text().includes("Content Security Policy") && refused.push(m.text()));
  await page.goto(url);
  const { loadEventEnd: loaded } = JSON.parse(
    await page.evaluate(() => JSON.stringify(performance.getEntriesByType("navigation")[0])));
  await page.locator("#key-form").waitFor();
  await page.locator("#key").fill(key);
  await page.getByRole("button", { name: "Use it" }).click();
  await page.locator(".cm-content").click();
  await page.keyboard.press("Control+End");
  await page.keyboard.type("return self.", { delay: 40 });
  await page.locator(".ghost").waitFor();
  await page.locator("#tokens span").first().waitFor();
  await page.locator("#figures dd").first().waitFor();
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  await page.screenshot({ path: path.join(pictures, `${name}.png`) });
  const ghost = await page.locator(".ghost").textContent();
  await page.keyboard.press("Tab");
  assert.ok((await page.locator(".cm-content").innerText()).includes(`return self.${ghost.split("\n")[0]}`));
  const wrong = await audit(context);
  console.log(`${name}: loaded in ${Math.round(loaded)} ms; ${wrong.length} accessibility faults`);
  assert.deepEqual(wrong, []);
  assert.deepEqual(refused, []);
  assert.ok(wide <= 0, `${wide} pixels wider than the window`);
  assert.ok(loaded < 1_000, `loaded in ${loaded} ms`);
  await context.close();
}

/** axe-core's findings, run where the page's policy does not hold it off. */
async function audit(context) {
  const [page] = context.pages();
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.target).join(", ")}`);
}
