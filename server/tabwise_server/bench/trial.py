"""What `scripts/try` runs: an editor's first minute, in a terminal.

Starts the language server as an editor does, opens an example, asks for a suggestion at
each marked place, and shows the code with what came.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from tabwise_server.bench.client import LspClient, Suggestion
from tabwise_server.bench.machine import describe_machine, resident_mb
from tabwise_server.daemon_state import read_state
from tabwise_server.errors import BadRequest, TabwiseError

MARK = "  # <from> "  # behind it, what the part of the line begins with that is cut
READY_S = 170.0
CONTEXT_LINES = 4
# the first cells of two tables of a card: what is told, and where it ends
HEADLINE, NEXT_TABLE = "rest of line", "shown"
EXAMPLE = Path("examples/inventory.py")


@attrs.frozen
class Spot:
    """A place to complete, line and column from 0. text: the example as it is opened
    for it, with nothing after the place on its line, and the other lines whole."""

    line: int
    column: int
    text: str


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("example", nargs="?", type=Path, default=EXAMPLE)
    arguments = parser.parse_args(argv)
    try:
        return asyncio.run(try_out(arguments.example))
    except TabwiseError as error:
        print(f"\n{error}\nFor more: .venv/bin/tabwise doctor", file=sys.stderr)
        return 1


async def try_out(example: Path) -> int:
    """Show a suggestion at each mark; returns 0 if there was at least one."""
    spots = read_example(example)
    root, uri = Path.cwd().as_uri(), example.absolute().as_uri()  # noqa: ASYNC240
    say("Starting the language server, as an editor does ...")
    began = time.perf_counter()
    client = await LspClient.start(stderr=asyncio.subprocess.DEVNULL)
    try:
        await client.initialize(rootUri=root)
        say("Waiting for the backend that all editors share ...")
        await client.wait_until_ready(READY_S)
        say(f"Ready after {time.perf_counter() - began:.1f} s.\n")
        shown = [await suggest(client, uri, spot) for spot in spots]
        memory = resident_mb(client.process.pid)
    finally:
        await client.stop()
    for line in closing_words(shown, memory):
        say(line)
    return 0 if any(suggestion.text for suggestion in shown) else 1


async def suggest(client: LspClient, uri: str, spot: Spot) -> Suggestion:
    """Ask at one place, and print it with what came."""
    client.open(uri, spot.text)
    answer = await client.inline_completion(uri, (spot.line, spot.column), True)
    client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
    say(f"{uri.rpartition('/')[2]}:{spot.line + 1}:{spot.column + 1}")
    for line in show(spot, answer.text):
        say("  " + line)
    what = "" if answer.text else "   (nothing fit to show)"
    say(f"  in {answer.latency_ms:.0f} ms{what}\n")
    return answer


def read_example(file: Path) -> list[Spot]:
    """The places of the marked cuts. Raises BadRequest."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise BadRequest(f"cannot read {file}: {error.strerror}") from error
    whole = [line.partition(MARK)[0] for line in lines]
    spots = []
    for number, line in enumerate(lines):
        if MARK in line:
            before = whole[number].partition(line.partition(MARK)[2])[0]
            text = [*whole[:number], before, *whole[number + 1 :]]
            spots.append(Spot(number, len(before), "\n".join(text)))
    if not spots:
        raise BadRequest(f"{file} has no mark {MARK.strip()!r}")
    return spots


def show(spot: Spot, suggestion: str | None) -> Iterator[str]:
    """The lines before the place, its line, and the suggestion highlighted."""
    lines = spot.text.split("\n")
    yield from lines[max(0, spot.line - CONTEXT_LINES) : spot.line]
    first, *rest = (suggestion or "").split("\n")
    yield lines[spot.line] + highlight(first)
    yield from map(highlight, rest)


def highlight(text: str) -> str:
    """Green on a terminal, between brackets elsewhere."""
    if not text:
        return ""
    return f"\x1b[1;32m{text}\x1b[0m" if sys.stdout.isatty() else f"⟦{text}⟧"


def closing_words(shown: Sequence[Suggestion], memory: float | None) -> Iterator[str]:
    """The model, the machine, and how to go on."""
    times = ", ".join(f"{suggestion.latency_ms:.0f}" for suggestion in shown)
    yield f"Latencies: {times} ms, on {describe_machine()}."
    if memory is not None:
        yield f"Language server: {memory:g} MB."
    yield from model_words()
    command = Path(sys.executable).with_name("tabwise")
    yield ""
    yield f"In your editor: have it start `{command} lsp` for Python files."
    yield "Neovim, Helix, Emacs, Vim: see editor-client/. What it does: README.md."
    state = read_state()
    if state is not None:
        yield f"The backend (pid {state.pid}) stays for editors; end it: {command} stop"


def model_words() -> Iterator[str]:
    """The model card's headline figures, or the model's shape without a card."""
    from tabwise_model.checkpoint import CheckpointError, resolve_checkpoint
    from tabwise_server.settings_sources import load_settings

    try:
        folder = resolve_checkpoint(load_settings().serve.checkpoint)
        data = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (CheckpointError, OSError, ValueError):
        return
    model = data.get("model", {})
    yield (
        f"Model: {folder.name}, {model.get('n_layer')} layers, "
        f"width {model.get('n_embd')}, {data.get('bits')} bits a weight."
    )
    yield from headline(folder / "CARD.md")


def headline(card: Path) -> Iterator[str]:
    """What a card says of whole lines, by kind of cursor: its table's first columns."""
    try:
        lines = card.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    rows = [line.split("|")[1:3] for line in lines if line.startswith("| ")]
    wanted = itertools.dropwhile(lambda row: row[0].strip() != HEADLINE, rows)
    for name, exact in wanted:
        if name.strip() == NEXT_TABLE:
            return
        yield f"  {name.strip():26} {exact.strip()}"


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
