"""Neovim 0.12 with our configuration: ghost text, as it is typed and taken."""

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.editors import CLIENTS, LAST_LINE, TYPED, Desk, Open, Served
from support.terminal import Terminal

STATUSLINE = "set laststatus=2 statusline=%{get(g:,'tabwise','')}"
LINE = LAST_LINE + TYPED
STAYS_S = 0.5  # longer than Neovim waits before it asks anew


@pytest.fixture
def neovim(debian: Path, desk: Desk, open_editor: Open) -> Callable[[], Terminal]:
    def start() -> Terminal:
        """Neovim in the example, at its end, in insert mode."""
        config = str(CLIENTS / "neovim" / "tabwise.lua")
        words = [str(debian / "nvim"), "-u", config, "-c", STATUSLINE, desk.file.name]
        terminal = open_editor(words)
        terminal.press("G", "A")
        terminal.until_shows("-- INSERT --")
        return terminal

    return start


def ghost(terminal: Terminal, typed: str = LINE) -> str:
    """Once there is ghost text behind `typed`, and it stays: that text. While keys
    are being typed, that of an earlier one comes and goes."""
    seen, since = "", time.monotonic()

    def stays() -> bool:
        nonlocal seen, since
        shown = terminal.line_with(typed).partition(typed)[2]
        if shown != seen:
            seen, since = shown, time.monotonic()
        return bool(seen) and time.monotonic() - since > STAYS_S

    terminal.until(stays, "suggested")
    return seen


def leave_insert_mode(terminal: Terminal) -> None:
    """Until it is left, a key after Escape would be one with Alt."""
    terminal.press("Escape")
    terminal.until(lambda: not terminal.line_with("-- INSERT --"), "left insert mode")


def saved(terminal: Terminal, desk: Desk) -> str:
    """The example's last line as it is written to the file."""
    before = desk.file.stat().st_mtime_ns
    leave_insert_mode(terminal)
    terminal.type(":w")
    terminal.press("Enter")
    terminal.until(lambda: desk.file.stat().st_mtime_ns != before, "saved")
    return desk.file.read_text().rstrip("\n").rpartition("\n")[2]


def test_tab_takes_the_ghost_text(neovim: Callable[[], Terminal], desk: Desk) -> None:
    terminal = neovim()
    terminal.until_shows("ready")
    terminal.type(TYPED)
    suggested = ghost(terminal)
    terminal.press("Tab")
    assert saved(terminal, desk) == LINE + suggested


def test_what_was_typed_meanwhile_is_not_inserted_again(
    neovim: Callable[[], Terminal], desk: Desk
) -> None:
    """Tab comes before Neovim asks anew, so in one go with what was typed: what it
    holds begins where typing began."""
    terminal = neovim()
    terminal.until_shows("ready")
    terminal.type(TYPED)
    suggested = ghost(terminal)
    terminal.type(f"{suggested[:3]}\t")
    assert saved(terminal, desk) == LINE + suggested


def test_ghost_text_that_no_longer_fits_goes_away(
    neovim: Callable[[], Terminal],
) -> None:
    terminal = neovim()
    terminal.until_shows("ready")
    terminal.type(TYPED)
    ghost(terminal)
    typed = LINE + "[nowhere]]"
    terminal.type("[nowhere]]")
    terminal.until(
        lambda: terminal.line_with(typed) == typed, "dropped what does not fit"
    )


def test_complaint_21_tab_indents_where_nothing_is_suggested(
    neovim: Callable[[], Terminal], desk: Desk
) -> None:
    desk.settings.write_text("[lsp]\nenabled = false\n")
    terminal = neovim()
    terminal.press("Tab")
    assert saved(terminal, desk).removeprefix(LAST_LINE).isspace()


def test_a_changed_setting_is_followed_without_a_restart(
    neovim: Callable[[], Terminal], desk: Desk
) -> None:
    terminal = neovim()
    terminal.until_shows("ready")
    terminal.type(TYPED)
    assert len(ghost(terminal)) > len("[name] *")
    desk.settings.write_text("[lsp]\nmax_new_tokens = 2\n")
    numbers = itertools.count()

    def suggests_less() -> bool:
        terminal.press("Enter")
        typed = f"x{next(numbers)} = self.counts"
        terminal.type(typed)
        return len(ghost(terminal, typed)) <= len("[name] *")

    terminal.until(suggests_less, "suggested less")


def test_the_command_switches_suggestions_off_and_on(
    neovim: Callable[[], Terminal],
) -> None:
    terminal = neovim()
    terminal.until_shows("ready")
    terminal.type(TYPED)
    ghost(terminal)
    leave_insert_mode(terminal)
    for state in ("off", "on"):
        terminal.type(f":Tabwise {state}")
        terminal.press("Enter")
        terminal.until_shows(f"Tabwise is {state}, its backend ready")
    terminal.press("A")
    ghost(terminal)


def test_the_statusline_tells_when_the_backend_goes_and_when_it_is_back(
    served: Served, neovim: Callable[[], Terminal]
) -> None:
    terminal = neovim()
    terminal.until_shows("ready")
    served.kill()
    terminal.type(TYPED)
    terminal.until_shows("offline")
    leave_insert_mode(terminal)
    terminal.type(":Tabwise")
    terminal.press("Enter")
    terminal.until_shows(served.url)
    served.start()
    terminal.press("Enter")
    terminal.until_shows("ready")
    terminal.press("A", "Enter")
    terminal.type("again = self.counts")
    ghost(terminal, "again = self.counts")
