"""`tabwise doctor`: what is installed, what is wrong, and how to mend it."""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import attrs

from tabwise_server import __version__
from tabwise_server.backends.choose import open_clients
from tabwise_server.backends.daemon import client_of, process_exists
from tabwise_server.backends.protocol import Backend
from tabwise_server.backends.spawning import last_words
from tabwise_server.commands import doctor_privacy
from tabwise_server.daemon_state import read_state
from tabwise_server.errors import SettingsError, TabwiseError, Unauthorized
from tabwise_server.settings import Settings, state_folder
from tabwise_server.settings_sources import load_settings, user_file
from tabwise_server.wire import CompletionRequest

NEEDED = (
    "pygls",
    "lsprotocol",
    "aiohttp",
    "numpy",
    "tiktoken",
    "safetensors",
    "tree-sitter",
    "tree-sitter-python",
    "pathspec",
)


@attrs.frozen
class Finding:
    """One line of the report. remedy: what to do, None where nothing is wrong."""

    name: str
    detail: str
    remedy: str | None = None


_SMALL = CompletionRequest(prefix="x = ", max_new_tokens=1, deadline_ms=10_000)

Check = Callable[[Settings], Iterator[Finding]]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.add_argument(
        "--privacy", action="store_true", help="say what leaves this machine"
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.privacy:
        say(doctor_privacy.lines(load_settings()))
        return 0
    findings = examine()
    if arguments.json:
        say([json.dumps([attrs.asdict(finding) for finding in findings])])
    else:
        say(line for finding in findings for line in _lines(finding))
    return 1 if any(finding.remedy for finding in findings) else 0


def say(lines: Iterable[str]) -> None:
    """Print them; a reader that leaves early, as `head` does, has had enough."""
    text = "\n".join(lines)
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # what is flushed at the interpreter's end must not fail as well
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _lines(finding: Finding) -> Iterator[str]:
    mark = "wrong" if finding.remedy else "ok"
    yield f"{mark:<6}{finding.name:<20}{finding.detail}"
    if finding.remedy:
        yield f"{'':<20}-> {finding.remedy}"


def examine() -> list[Finding]:
    """All findings; a configuration that cannot be read ends the list early."""
    findings = [*_installation()]
    try:
        settings = load_settings()
    except SettingsError as error:
        return [*findings, Finding("settings", str(error), "correct that option")]
    for check in CHECKS:
        findings += check(settings)
    return findings


def _installation() -> Iterator[Finding]:
    yield Finding("tabwise", f"{__version__} in {Path(__file__).parents[1]}")
    yield Finding(
        "python", f"{platform.python_version()} at {sys.executable}, "
        f"{platform.platform()}, {os.cpu_count()} CPUs",
    )  # fmt: skip
    for name in NEEDED:
        try:
            yield Finding(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "not installed", f"pip install {name}")


def _configuration(settings: Settings) -> Iterator[Finding]:
    file = user_file()
    found = "read" if file.exists() else "not there; defaults are used"
    yield Finding("settings", f"{file} ({found})")
    names = sorted(
        name
        for name in os.environ
        if name.startswith(("TABWISE_SERVE", "TABWISE_LSP", "TABWISE_BACKEND"))
    )
    if names:
        yield Finding("environment", ", ".join(names))


def _state(settings: Settings) -> Iterator[Finding]:
    try:
        folder = state_folder()
    except SettingsError as error:
        what, _, remedy = str(error).partition("; ")
        yield Finding("state", what, remedy)
        return
    if not os.access(folder, os.W_OK):
        yield Finding("state", f"{folder} cannot be written", f"chmod u+rwx {folder}")
    elif os.name != "nt" and folder.stat().st_mode & 0o077:
        yield Finding("state", f"{folder} is open to others", f"chmod 700 {folder}")
    else:
        yield Finding("state", str(folder))


def _model(settings: Settings) -> Iterator[Finding]:
    """The checkpoint's config and the runner, by looking, not by loading."""
    if settings.backend.url is not None:
        return
    from tabwise_model.checkpoint import CONFIG, CheckpointError, resolve_checkpoint
    from tabwise_model.runners.choose import available_runners

    try:
        folder = resolve_checkpoint(settings.serve.checkpoint)
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        model, bits = config["model"], config["bits"]
        shape = (
            f"{model['family']}, {model['n_layer']} layers, width {model['n_embd']}, "
            f"{bits} bits"
        )
        bare = os.path.basename(folder) == str(folder)  # the daemon runs elsewhere
        yield Finding(
            "checkpoint",
            f"{folder.resolve().name} ({shape}) in {folder}",
            f"set serve.checkpoint to {folder.absolute()}" if bare else None,
        )
    except (CheckpointError, OSError, ValueError, KeyError) as error:
        yield Finding(
            "checkpoint", str(error), "set serve.checkpoint to a checkpoint's folder"
        )
    runners = available_runners()
    if runners:
        yield Finding("runner", f"{', '.join(runners)}; device {settings.serve.device}")
    else:
        yield Finding(
            "runner", "nothing here can run a model", "pip install 'tabwise[torch]'"
        )


def _daemon(settings: Settings) -> Iterator[Finding]:
    if settings.backend.url is not None:
        return
    try:
        state = read_state()
    except SettingsError:
        return  # the finding of `_state`
    if state is None:
        said = last_words()
        why = f"; the last one said: {said}" if said else ""
        yield Finding("daemon", f"not running; an editor starts it{why}")
    elif not process_exists(state.pid):
        yield Finding("daemon", "ended unasked; the next start replaces it")
    else:
        daemon = client_of(state, settings.backend)
        yield _health("daemon", state.url, daemon, "tabwise stop")


def _remote(settings: Settings) -> Iterator[Finding]:
    if settings.backend.url is None:
        return
    remedy = "check backend.url and the machine behind it"
    try:
        clients = open_clients(settings.backend)
    except SettingsError as error:
        yield Finding("backend", str(error), "correct that option")
        return
    for url, client in clients.items():
        yield _health("backend", url, client, remedy, completes=True)


CHECKS: tuple[Check, ...] = (_configuration, _state, _model, _daemon, _remote)


def _health(
    name: str, url: str, client: Backend, remedy: str, *, completes: bool = False
) -> Finding:
    """completes: ask for a completion too, which needs the key and the model."""

    async def ask() -> Finding:
        try:
            health = await client.health()
            if completes:
                await client.complete(_SMALL)
        except Unauthorized as error:
            return Finding(name, str(error), "set backend.api_key to a key of its own")
        except TabwiseError as error:
            return Finding(name, str(error), remedy)
        finally:
            await client.close()
        detail = f"{url}: {health.model} on {health.device}, {health.status}"
        return Finding(name, detail, None if health.ready else "wait until it is ready")

    return asyncio.run(ask())
