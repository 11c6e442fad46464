/** The playground: an editor, and what the backend does for it. */

import {
  defaultKeymap,
  history,
  historyKeymap,
  indentWithTab,
} from "@codemirror/commands";
import { python } from "@codemirror/lang-python";
import { HighlightStyle, indentUnit, syntaxHighlighting } from "@codemirror/language";
import { EditorState } from "@codemirror/state";
import { EditorView, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";

import { health, keepKey, KeyWanted, metrics, suggest } from "./backend";
import { History, parse } from "./figures";
import { ghostText, take } from "./ghost";
import { drawFigures, drawTokens, drawVerdict, find } from "./page";

const EXAMPLE = `class Stock:
    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.prices: dict[str, float] = {}

    def value(self, name: str) -> float:
        return self.counts[name] * self.prices[name]

    def worth_less_than(self, name: str, limit: float) -> bool:
        return self`;
const LOOK_MS = 1_000;
const session = `playground-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
const looks = new History();

function say(text: string): void {
  if (find("said").textContent !== text) find("said").textContent = text;
}

function tell(error: unknown): void {
  if (error instanceof KeyWanted) find("key-form").hidden = false;
  say(error instanceof Error ? error.message : String(error));
}

async function ask(
  before: string,
  after: string,
  signal: AbortSignal,
): Promise<string> {
  try {
    const level = find<HTMLSelectElement>("level").value;
    const answer = await suggest(before, after, level, session, signal);
    if (signal.aborted) return "";
    drawVerdict(answer);
    drawTokens(answer);
    say("");
    return answer.text;
  } catch (error) {
    if (!signal.aborted) tell(error);
    return "";
  }
}

/** Look at the figures again and again, while the page is seen. */
async function look(): Promise<void> {
  if (!document.hidden) {
    try {
      looks.add(parse(await metrics()), performance.now());
      drawFigures(looks.figures());
      if (find("model").textContent === "") await introduce();
    } catch (error) {
      tell(error);
    }
  }
  window.setTimeout(() => void look(), LOOK_MS);
}

async function introduce(): Promise<void> {
  const { model, device, version } = await health();
  find("model").textContent = `Tabwise ${version}: ${model}, on ${device}`;
}

const colours = HighlightStyle.define([
  { tag: tags.keyword, color: "var(--keyword)" },
  { tag: [tags.string, tags.number], color: "var(--string)" },
  { tag: tags.comment, color: "var(--quiet)" },
]);

const button = find<HTMLButtonElement>("take");
const view = new EditorView({
  parent: find("editor"),
  state: EditorState.create({
    doc: EXAMPLE,
    selection: { anchor: EXAMPLE.length },
    extensions: [
      ghostText(ask, (shown) => (button.disabled = !shown)),
      lineNumbers(),
      EditorView.lineWrapping,
      history(),
      python(),
      indentUnit.of("    "),
      syntaxHighlighting(colours),
      EditorView.contentAttributes.of({ "aria-label": "Python code" }),
      EditorView.cspNonce.of(document.querySelector("style")?.nonce ?? ""),
      keymap.of([...defaultKeymap, ...historyKeymap, indentWithTab]),
    ],
  }),
});

button.addEventListener("click", () => {
  take(view);
  view.focus();
});

find("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepKey(find<HTMLInputElement>("key").value);
  find("key-form").hidden = true;
  say("");
  view.focus();
});

view.focus();
void look();
