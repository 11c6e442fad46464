/**
 * The playground in a real browser, as a person uses it.
 *
 *     npm install && node page.mjs URL KEY [FOLDER]
 *
 * URL is a running `tabwise serve` that asks for KEY. Prints a line for each step; leaves
 * pictures in FOLDER.
 */

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

import { chromium } from "playwright-core";

const [url, key, pictures = path.join(import.meta.dirname, "build")] = process.argv.slice(2);
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const LOADED_MS = 1_000;
const LOADS = 5; // the quickest counts: a machine may be busy
const DESKTOP = { width: 1000, height: 900 };
const PHONE = { width: 375, height: 700 };
const TYPED = ".counts";

mkdirSync(pictures, { recursive: true });
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: CHROMIUM });
try {
  await step("loads in under a second", loads);
  await step("asks for the key, and refuses a wrong one", asksForTheKey);
  await step("on a desktop", () => look("desktop", { viewport: DESKTOP, colorScheme: "light" }));
  await step("in dark mode", () => look("dark", { viewport: DESKTOP, colorScheme: "dark" }));
  await step("on a phone", () => look("phone", { viewport: PHONE, hasTouch: true, isMobile: true }));
  await step("shows its figures", showsFigures);
  await step("says that the backend is gone, and goes on when it is back", survives);
} finally {
  await browser.close();
}

async function loads() {
  const times = [];
  for (let n = 0; n < LOADS; n++) {
    const { page, close } = await open({ viewport: DESKTOP });
    times.push(await page.evaluate(() => performance.getEntriesByType("navigation")[0].loadEventEnd));
    await close();
  }
  console.log(`    ${times.map(Math.round).join(", ")} ms`);
  assert.ok(Math.min(...times) < LOADED_MS, "the page loads slowly");
}

async function asksForTheKey() {
  const { page, close } = await open({ viewport: DESKTOP });
  await page.getByText("This server asks for its API key.").waitFor();
  await useKey(page, "not-the-key-of-this-server");
  await page.getByText("That key is refused.").waitFor();
  await page.screenshot({ path: path.join(pictures, "key.png") });
  await useKey(page, key);
  await suggested(page);
  assert.equal(await page.locator("#key-form").isVisible(), false);
  await close();
}

/** What everyone sees, whatever the window. */
async function look(name, options) {
  const { page, faults, close } = await open(options);
  await useKey(page, key);
  const ghost = await suggested(page);
  assert.match(await page.locator("#latency").innerText(), /^[\d.]+ ms$/);
  assert.match(await page.locator("#confidence").innerText(), /^\d+ % sure$/);
  assert.equal(await page.locator("#verdict").innerText(), "shown");
  await tellsTokens(page, ghost);
  await page.locator("#figures dd").first().waitFor();
  await page.screenshot({ path: path.join(pictures, `${name}.png`), fullPage: true });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, `${wide} pixels wider than the window`);
  const dark = await page.evaluate(() => /^rgb\((\d+)/.exec(getComputedStyle(document.body).backgroundColor)[1] < 128);
  assert.equal(dark, options.colorScheme === "dark");
  assert.deepEqual(await audit(page), []);
  await takes(page, ghost, options.hasTouch);
  assert.deepEqual(faults, []);
  await close();
}

/** The prompt in the model's own order and the answer, piece by piece. */
async function tellsTokens(page, ghost) {
  const texts = (selector) => page.locator(`#tokens ${selector}`).allTextContents();
  const signs = await texts(".sentinel");
  assert.ok(signs.includes("<|fim_suffix|>") && signs.includes("<|fim_middle|>"), `${signs}`);
  const written = (await texts(".written")).join("");
  assert.ok(written.includes(ghost.trim()), `${written} is not ${ghost}`);
  assert.match(await page.locator("#tokens-note").innerText(), /^\d+ tokens read, \d+ of them from the cache; \d+ written/);
}

/** A word, then the rest: by keys, or by the button where there are none. */
async function takes(page, ghost, byTouch) {
  if (byTouch) {
    await page.getByRole("button", { name: "Take it" }).tap();
  } else {
    await page.keyboard.press("Control+ArrowRight");
    const rest = page.locator(".ghost").filter({ hasNotText: ghost });
    assert.ok(ghost.endsWith(await rest.textContent()));
    await page.keyboard.press("Tab");
  }
  const line = page.locator(".cm-line").filter({ hasText: `self${TYPED}${ghost}` });
  await line.last().and(page.locator(".cm-activeLine, .cm-line:last-child")).waitFor();
}

async function showsFigures() {
  const { page, close } = await open({ viewport: DESKTOP });
  await useKey(page, key);
  await suggested(page);
  await page.keyboard.press("Enter");
  await page.keyboard.type(`x${Date.now()} = self`, { delay: 40 }); // asked for the first time
  const value = (name) => page.locator("#figures div", { hasText: name }).locator("dd");
  const NAMES = ["requests", "latency, median", "latency, 95th percentile", "tokens", "batch, requests a step",
    "prompt found in the cache", "answers found in the cache", "memory"];
  for (const name of NAMES) await value(name).first().filter({ hasText: /\d/ }).waitFor();
  const memory = Number.parseFloat(await value("memory").innerText());
  assert.ok(memory > 10, `${memory} MB`);
  await close();
}

/** The test that started this ends the backend at "kill", and starts it at "start". */
async function survives() {
  const { page, close } = await open({ viewport: DESKTOP });
  await useKey(page, key);
  await suggested(page);
  await tell("kill");
  await page.getByText("The backend does not answer.").waitFor();
  await tell("start");
  await page.keyboard.press("Enter");
  await page.keyboard.type("x = self.counts", { delay: 40 });
  await page.locator(".ghost").waitFor();
  assert.equal(await page.locator("#said").innerText(), "");
  await close();
}

/** Have whoever runs this do something; they answer with a line. */
async function tell(word) {
  console.log(word);
  await new Promise((settle) => process.stdin.resume().once("data", settle));
  process.stdin.pause(); // it would keep this from ending
}

async function open(options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  const faults = [];
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("console", (said) => said.text().includes("Content Security Policy") && faults.push(said.text()));
  await page.goto(url);
  return { page, faults, close: () => context.close() };
}

async function useKey(page, value) {
  await page.locator("#key").fill(value);
  await page.getByRole("button", { name: "Use it" }).click();
}

/** Type at the example's end; the ghost text that comes. */
async function suggested(page) {
  await page.getByLabel("Show").selectOption("eager");
  await page.locator(".cm-content").click();
  await page.keyboard.press("Control+End");
  await page.keyboard.type(TYPED, { delay: 40 });
  await page.locator(".ghost").waitFor();
  return page.locator(".ghost").textContent();
}

/** axe-core's findings, in words. */
async function audit(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.target).join(", ")}`);
}

async function step(name, run) {
  const began = performance.now();
  await run();
  console.log(`ok  ${((performance.now() - began) / 1000).toFixed(1).padStart(5)} s  ${name}`);
}
