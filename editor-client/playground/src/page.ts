/** The page's elements, found once, and what is drawn into them. */

import type { Suggested, Piece } from "./backend";
import type { Figure } from "./figures";

const SVG = "http://www.w3.org/2000/svg";
const SHOWN_PIECES = 300;

export function find<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`no #${id} in the page`);
  return element as T;
}

/** Latency and confidence of a suggestion, and why nothing shows where nothing does. */
export function drawVerdict(answer: Suggested): void {
  const [sure, least] = [answer.confidence, answer.threshold].map(asPercent);
  find("latency").textContent = `${answer.latency_ms.toFixed(1)} ms`;
  find("confidence").textContent = `${sure} sure`;
  find<HTMLMeterElement>("meter").value = answer.confidence;
  find("verdict").textContent = verdict(answer, least ?? "");
}

function verdict(answer: Suggested, least: string): string {
  if (answer.text !== "") return "shown";
  if (answer.raw === "") return "nothing to add";
  if (answer.confidence < answer.threshold) return `held back: under ${least}`;
  return "held back: it would not fit here";
}

/** What the model read, in its order, and what it wrote. */
export function drawTokens(answer: Suggested): void {
  const left = Math.max(0, answer.prompt.length - SHOWN_PIECES);
  const more = left > 0 ? [note(`${left} tokens before `)] : [];
  const read = answer.prompt.slice(left).map((piece) => token(piece, "read"));
  const written = answer.pieces.map((piece) => token(piece, "written"));
  const box = find("tokens");
  box.replaceChildren(...more, ...read, ...written);
  box.scrollTop = box.scrollHeight;
  const cached = answer.prompt.filter((piece) => piece.cached).length;
  const again = answer.healed === "" ? "" : `; “${answer.healed}” is written again`;
  find("tokens-note").textContent =
    `${answer.prompt.length} tokens read, ${cached} of them from the cache; ` +
    `${answer.pieces.length} written${again}.`;
}

function token(piece: Piece, kind: "read" | "written"): HTMLElement {
  const element = note(piece.text.replaceAll("\n", "⏎\n"));
  element.className = `token ${piece.sentinel ? "sentinel" : kind}`;
  if (piece.cached) element.classList.add("cached");
  element.title = `token ${piece.id}`;
  return element;
}

function note(text: string): HTMLElement {
  const element = document.createElement("span");
  element.textContent = text;
  return element;
}

export function drawFigures(figures: readonly Figure[]): void {
  find("figures").replaceChildren(...figures.map(card));
}

function card({ name, unit, value, course }: Figure): HTMLElement {
  const row = document.createElement("div");
  const [term, detail] = [document.createElement("dt"), document.createElement("dd")];
  term.textContent = name;
  detail.textContent = value === undefined ? "–" : `${rounded(value)} ${unit}`.trim();
  detail.append(line(course));
  row.append(term, detail);
  return row;
}

/** How a figure went, for the eye alone. */
function line(course: readonly number[]): SVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 60 14");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const most = Math.max(...course, 1e-9);
  const points = course.map(
    (value, n) =>
      `${60 - course.length + n + 1},${(13 - (12 * value) / most).toFixed(1)}`,
  );
  const path = document.createElementNS(SVG, "polyline");
  path.setAttribute("points", points.join(" "));
  svg.append(path);
  return svg;
}

function rounded(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(1);
}

function asPercent(share: number): string {
  return `${(100 * share).toFixed(0)} %`;
}
