/** Ghost text in CodeMirror: shown, typed through, taken whole or by words, dropped. */

import { StateEffect, StateField, type Extension } from "@codemirror/state";
import {
  Decoration,
  EditorView,
  keymap,
  ViewPlugin,
  WidgetType,
} from "@codemirror/view";

export type Ask = (
  before: string,
  after: string,
  signal: AbortSignal,
) => Promise<string>;

const PAUSE_MS = 60;

interface Ghost {
  readonly at: number;
  readonly text: string;
}

const setGhost = StateEffect.define<Ghost | null>();

class GhostWidget extends WidgetType {
  constructor(private readonly text: string) {
    super();
  }

  override eq(other: GhostWidget): boolean {
    return other.text === this.text;
  }

  toDOM(): HTMLElement {
    const element = document.createElement("span");
    element.className = "ghost";
    element.textContent = this.text;
    return element;
  }
}

const ghostField = StateField.define<Ghost | null>({
  create: () => null,
  update(ghost, transaction) {
    for (const effect of transaction.effects) {
      if (effect.is(setGhost)) return effect.value;
    }
    if (ghost === null || (!transaction.docChanged && !transaction.selection))
      return ghost;
    const at = transaction.state.selection.main.head;
    const typed = transaction.state.doc.sliceString(ghost.at, at);
    const fits = at > ghost.at && ghost.text.startsWith(typed) && typed !== ghost.text;
    return fits ? { at, text: ghost.text.slice(typed.length) } : null;
  },
  provide: (field) =>
    EditorView.decorations.from(field, (ghost) => {
      if (ghost === null) return Decoration.none;
      const widget = new GhostWidget(ghost.text);
      return Decoration.set([Decoration.widget({ widget, side: 1 }).range(ghost.at)]);
    }),
});

/** Asks after each edit, and keeps only the newest answer. shown: told whether there is
 * ghost text now. */
export function ghostText(ask: Ask, shown: (is: boolean) => void): Extension {
  const asking = ViewPlugin.define((view) => {
    let timer: number | undefined;
    let request = new AbortController();
    const look = async (): Promise<void> => {
      request = new AbortController();
      const { signal } = request;
      const { doc, selection } = view.state;
      const at = selection.main.head;
      const text = await ask(doc.sliceString(0, at), doc.sliceString(at), signal);
      if (signal.aborted || text === "") return;
      view.dispatch({ effects: setGhost.of({ at, text }) });
    };
    return {
      update(update): void {
        const [before, now] = [update.startState, update.state].map(
          (state) => state.field(ghostField) !== null,
        );
        if (now !== undefined && before !== now) shown(now);
        if (!update.docChanged && !update.selectionSet) return;
        request.abort();
        window.clearTimeout(timer);
        if (!update.docChanged || update.state.field(ghostField) !== null) return;
        timer = window.setTimeout(() => void look(), PAUSE_MS);
      },
      destroy(): void {
        request.abort();
        window.clearTimeout(timer);
      },
    };
  });
  return [
    ghostField,
    asking,
    keymap.of([
      { key: "Tab", run: take },
      { key: "Mod-ArrowRight", run: takeWord },
      { key: "Escape", run: drop },
    ]),
  ];
}

/** Insert the ghost text; false where there is none. */
export function take(view: EditorView): boolean {
  const ghost = view.state.field(ghostField);
  return ghost !== null && insert(view, ghost, ghost.text, null);
}

function takeWord(view: EditorView): boolean {
  const ghost = view.state.field(ghostField);
  if (ghost === null) return false;
  const word = /^\s*(\w+|[^\w\s]+)/.exec(ghost.text)?.[0] ?? ghost.text;
  const rest = ghost.text.slice(word.length);
  const after = { at: ghost.at + word.length, text: rest };
  return insert(view, ghost, word, rest === "" ? null : after);
}

function insert(
  view: EditorView,
  ghost: Ghost,
  text: string,
  after: Ghost | null,
): boolean {
  view.dispatch({
    changes: { from: ghost.at, insert: text },
    selection: { anchor: ghost.at + text.length },
    effects: setGhost.of(after),
    userEvent: "input.complete",
    scrollIntoView: true,
  });
  return true;
}

function drop(view: EditorView): boolean {
  if (view.state.field(ghostField) === null) return false;
  view.dispatch({ effects: setGhost.of(null) });
  return true;
}
