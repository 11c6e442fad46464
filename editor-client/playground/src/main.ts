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

import { complete, keepKey, KeyWanted, metrics, tokenize } from "./backend";
import { figures, parse, type Samples } from "./figures";
import { ghostText } from "./ghost";

const EXAMPLE = `class Stock:
    def __init__(self, items: dict[str, int]) -> None:
        self.items = items

    def count(self, name: str) -> int:
        `;
const LOOK_MS = 1_000;
const SHOWN_CHARS = 400;
const session = `playground-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;

function find(id: string): HTMLElement {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`no #${id} in the page`);
  return element;
}

function say(text: string): void {
  find("said").textContent = text;
}

function tell(error: unknown): void {
  if (error instanceof KeyWanted) find("key-form").hidden = false;
  say(`No answer: ${error instanceof Error ? error.message : String(error)}`);
}

async function ask(
  before: string,
  after: string,
  signal: AbortSignal,
): Promise<string> {
  try {
    const answer = await complete(before, after, session, signal);
    const sure = (100 * answer.confidence).toFixed(0);
    say(
      `${answer.timings.latency_ms.toFixed(1)} ms, ${sure} % sure, ${answer.tokens} tokens; ` +
        `${answer.cached_tokens} of ${answer.prompt_tokens} prompt tokens were in the cache`,
    );
    await showTokens((before + answer.text).slice(-SHOWN_CHARS));
    return answer.text;
  } catch (error) {
    if (!signal.aborted) tell(error);
    return "";
  }
}

async function showTokens(text: string): Promise<void> {
  const pieces = (await tokenize(text)).map((piece) => {
    const element = document.createElement("span");
    element.textContent = piece.text.replaceAll("\n", "⏎\n");
    element.title = `token ${piece.id}`;
    return element;
  });
  find("tokens").replaceChildren(...pieces);
}

let before: Samples | undefined;
let lookedAt = 0;

async function look(): Promise<void> {
  try {
    const [now, at] = [parse(await metrics()), performance.now()];
    if (before !== undefined) {
      const rows = figures(now, before, (at - lookedAt) / 1000).map(([name, value]) => {
        const row = document.createElement("div");
        const [term, detail] = ["dt", "dd"].map((tag) => document.createElement(tag));
        term?.append(name);
        detail?.append(value);
        row.append(...[term, detail].filter((e) => e !== undefined));
        return row;
      });
      find("figures").replaceChildren(...rows);
    }
    [before, lookedAt] = [now, at];
  } catch (error) {
    tell(error);
  }
  window.setTimeout(() => void look(), LOOK_MS);
}

const colours = HighlightStyle.define([
  { tag: tags.keyword, color: "var(--keyword)" },
  { tag: [tags.string, tags.number], color: "var(--string)" },
  { tag: tags.comment, color: "var(--quiet)" },
]);

const view = new EditorView({
  parent: find("editor"),
  state: EditorState.create({
    doc: EXAMPLE,
    selection: { anchor: EXAMPLE.length },
    extensions: [
      ghostText(ask),
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

find("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepKey((find("key") as HTMLInputElement).value);
  find("key-form").hidden = true;
  say("Type to see a suggestion.");
});

view.focus();
void look();
