"""The configurations in editor-client/, each in the editor it is for: it is typed, the
suggestion comes, it is taken, and what is saved holds it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from support.editors import (
    CLIENTS,
    EXAMPLE,
    LAST_LINE,
    TYPED,
    Desk,
    Open,
    Served,
    command,
)
from support.terminal import Terminal

ABOVE = EXAMPLE.split("\n")[-2]
LINE = LAST_LINE + TYPED
ATTACHED = (
    "set laststatus=2 statusline=attached:\\ "
    "%{luaeval('next(vim.lsp.buf_get_clients(0))~=nil')}"
)
WITHOUT_COMPILER = """(setq native-comp-jit-compilation nil
                            native-comp-enable-subr-trampolines nil)"""


def suggested(terminal: Terminal) -> str:
    """What the screen shows behind what was typed, once that is there: under the line
    above it, since methods further up hold the same words."""
    last = "\n".join(terminal.lines).rpartition(ABOVE.strip())[2]
    return "".join(last.split("\n")[1:2]).partition(LINE.strip())[2]


def assert_saved(terminal: Terminal, desk: Desk) -> None:
    """The file comes to hold the line that the screen shows: a suggestion, taken."""
    terminal.until(lambda: suggested(terminal), "took the suggestion")
    wanted = LINE + suggested(terminal)
    terminal.until(lambda: last_line_of(desk.file) == wanted, f"saved {wanted!r}")


def last_line_of(file: Path) -> str:
    return file.read_text().rstrip("\n").rpartition("\n")[2]


def save_in_vim(terminal: Terminal) -> None:
    """Until insert mode is left, a key after Escape would be one with Alt."""
    terminal.press("Escape")
    terminal.until(lambda: not terminal.line_with("-- INSERT --"), "left insert mode")
    terminal.type(":w")
    terminal.press("Enter")


def begin_in_vim(terminal: Terminal) -> None:
    terminal.until_shows(LAST_LINE)
    terminal.press("G", "A")
    terminal.until_shows("-- INSERT --")
    terminal.type(TYPED)


def test_neovim_before_inline_completion(desk: Desk, open_editor: Open) -> None:
    config = str(CLIENTS / "neovim" / "tabwise-popup.lua")
    nvim = [command("nvim", "neovim"), "-u", config, "-c", ATTACHED]
    terminal = open_editor([*nvim, desk.file.name])
    terminal.until_shows("attached: true")
    begin_in_vim(terminal)
    terminal.insist(
        lambda: terminal.press("C-x", "C-o"),
        lambda: suggested(terminal),
        "completed from the language server",
    )
    save_in_vim(terminal)
    assert_saved(terminal, desk)


@pytest.fixture
def vim(debian: Path, desk: Desk, open_editor: Open) -> Callable[..., Terminal]:
    def start(*lines: str) -> Terminal:
        """Vim with these lines for a vimrc."""
        (desk.home / ".vimrc").write_text("\n".join(("filetype plugin on", *lines)))
        return open_editor([str(debian / "vim"), desk.file.name])

    return start


def test_vim_with_ale(vim: Callable[..., Terminal], desk: Desk) -> None:
    config = CLIENTS / "vim" / "tabwise-ale.vim"
    only = "let g:ale_linters = {'python': ['tabwise']}"
    terminal = vim(f"source {config}", only)
    begin_in_vim(terminal)

    def ask() -> None:
        terminal.press("BSpace")
        terminal.type(TYPED[-1])

    terminal.insist(ask, lambda: terminal.line_with("Tabwise: "), "opened the popup")
    terminal.press("C-n", "C-y")
    save_in_vim(terminal)
    assert_saved(terminal, desk)


def test_vim_with_llama_vim(
    served: Served, vim: Callable[..., Terminal], desk: Desk
) -> None:
    config = CLIENTS / "vim" / "tabwise-llama.vim"
    here = f"let g:llama_config.endpoint_fim = '{served.url}/infill'"
    terminal = vim(
        "let g:ale_enabled = 0", f"source {config}", here, "packadd llama.cpp"
    )
    begin_in_vim(terminal)
    terminal.until(lambda: suggested(terminal), "showed ghost text")
    terminal.press("Tab")
    save_in_vim(terminal)
    assert_saved(terminal, desk)


def test_helix(debian: Path, desk: Desk, open_editor: Open) -> None:
    config = desk.home / ".config" / "helix" / "languages.toml"
    config.parent.mkdir(parents=True)
    config.write_text((CLIENTS / "helix" / "languages.toml").read_text())
    terminal = open_editor([str(debian / "hx"), desk.file.name])
    terminal.until_shows(LAST_LINE)
    terminal.type("geA")
    terminal.until_shows("INS")
    terminal.type(TYPED)

    def ask() -> None:
        terminal.press("BSpace")
        terminal.type(TYPED[-1])

    def items() -> int:
        """How often the screen shows it, more than the file does."""
        shown = "\n".join(terminal.lines)
        return shown.count("counts[name]") - EXAMPLE.count("counts[name]")

    terminal.insist(ask, items, "opened the popup")
    terminal.press("Tab", "Enter", "Escape")
    terminal.until(lambda: not terminal.line_with("INS"), "left insert mode")
    terminal.type(":w")
    terminal.press("Enter")
    assert_saved(terminal, desk)


@pytest.fixture
def emacs(debian: Path, desk: Desk, open_editor: Open) -> Callable[..., Terminal]:
    def start(*lines: str) -> Terminal:
        """Emacs in the example, with our configuration, then these lines."""
        folder = desk.home / ".emacs.d"
        folder.mkdir()
        compiling = (
            "native-comp-jit-compilation nil native-comp-enable-subr-trampolines"
        )
        (folder / "early-init.el").write_text(f"(setq {compiling} nil)")
        config = CLIENTS / "emacs" / "tabwise.el"
        text = [f'(load "{config}")', "(setq inhibit-startup-screen t)", *lines]
        (folder / "init.el").write_text("\n".join(text))
        terminal = open_editor([str(debian / "emacs"), "-nw", desk.file.name])
        terminal.until_shows(LAST_LINE)
        return terminal

    return start


def type_in_emacs(terminal: Terminal) -> None:
    """The last line, whatever stood there."""
    terminal.press("M->", "C-a", "C-k")
    terminal.type(LINE)


def test_emacs_with_lsp_mode(emacs: Callable[..., Terminal], desk: Desk) -> None:
    terminal = emacs(
        "(require 'lsp-mode-autoloads)",
        "(setq lsp-enabled-clients '(tabwise) lsp-auto-guess-root t)",
        "(add-hook 'python-mode-hook #'lsp)",
    )
    terminal.until_shows("LSP[tabwise")
    terminal.insist(
        lambda: type_in_emacs(terminal),
        lambda: terminal.line_with("Accept: [TAB"),
        "showed ghost text",
    )
    terminal.press("Tab")
    terminal.until(lambda: not terminal.line_with("Accept: [TAB"), "took it")
    terminal.press("C-x", "C-s")
    assert_saved(terminal, desk)


def test_emacs_with_eglot(emacs: Callable[..., Terminal], desk: Desk) -> None:
    terminal = emacs("(require 'eglot)", "(add-hook 'python-mode-hook #'eglot-ensure)")
    terminal.until_shows("[eglot")
    type_in_emacs(terminal)
    terminal.insist(
        lambda: terminal.press("C-M-i"), lambda: suggested(terminal), "completed"
    )
    terminal.press("C-x", "C-s")
    assert_saved(terminal, desk)
