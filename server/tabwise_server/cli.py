"""The `tabwise` command: finds the subcommand's module and runs it.

A subcommand's module has `configure(parser)` and `run(arguments) -> exit status`, and
is imported only when asked for, so that `tabwise lsp` never loads torch. It may have
`ERRORS`, exceptions that print as one line, and a default for `overrides`, which then
receives the flags that the parser does not know.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from tabwise_server import __version__
from tabwise_server.errors import TabwiseError

# name: (module, one line of help)
SUBCOMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "lsp": ("tabwise_server.commands.lsp", "run the language server"),
        "serve": ("tabwise_server.commands.serve", "run the inference backend"),
        "complete": (
            "tabwise_server.commands.complete",
            "complete FILE:LINE:COLUMN",
        ),
        "status": ("tabwise_server.commands.status", "show the shared daemon"),
        "stop": ("tabwise_server.commands.stop", "stop the shared daemon"),
        "top": ("tabwise_server.commands.top", "watch a backend on the terminal"),
        "stats": (
            "tabwise_server.commands.stats",
            "what was shown and accepted, counted on this machine alone",
        ),
        "doctor": ("tabwise_server.commands.doctor", "check this installation"),
        "bench": ("tabwise_server.commands.bench", "measure: keystrokes, load"),
        "cost": ("tabwise_server.commands.cost", "say what completions cost"),
        "capacity": (
            "tabwise_server.commands.capacity",
            "simulate a fleet of backends, or measure one",
        ),
        "collect": ("tabwise_training.collect", "gather source code for training"),
        "prepare": ("tabwise_training.prepare", "tokenise a collected corpus"),
        "train": ("tabwise_training.train", "train a model"),
        "bench-train": (
            "tabwise_training.benchmark",
            "measure training beside the plain way",
        ),
        "tune": ("tabwise_training.tune", "tune the checkpoint on your own code"),
        "fit-copying": (
            "tabwise_training.fit_copying",
            "fit how much copied code weighs",
        ),
        "quantize": (
            "tabwise_training.quantize",
            "turn a checkpoint into INT8 or INT4",
        ),
        "prune": (
            "tabwise_training.prune",
            "leave out layers, heads and channels, and recover",
        ),
        "distil": (
            "tabwise_training.distil",
            "train a smaller model on a larger one's probabilities",
        ),
        "variants": (
            "tabwise_training.variants",
            "measure a model in all its forms, in one table",
        ),
        "import": (
            "tabwise_training.import_checkpoint",
            "read a Hugging Face folder",
        ),
        "export": (
            "tabwise_training.export_checkpoint",
            "write for Hugging Face, llama.cpp or onnxruntime",
        ),
        "evaluate": (
            "tabwise_training.evaluate",
            "measure a checkpoint",
        ),
    }
)
# what a command may lack: the extra that brings it
EXTRAS: Mapping[str, str] = MappingProxyType({"rich": "ops", "simpy": "ops"})


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns its exit status. Expected errors print one line."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = next((a for a in arguments if not a.startswith("-")), None)
    parser = _build_parser(name)
    parsed, rest = parser.parse_known_args(arguments)
    if rest and not hasattr(parsed, "overrides"):
        parser.error(f"unknown arguments: {' '.join(rest)}")
    parsed.overrides = rest
    module = importlib.import_module(SUBCOMMANDS[parsed.subcommand][0])
    try:
        status: int = module.run(parsed)
        return status
    except (TabwiseError, *getattr(module, "ERRORS", ())) as error:
        print(f"tabwise {parsed.subcommand}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _build_parser(chosen: str | None) -> argparse.ArgumentParser:
    """All subcommands by name, but only the chosen one's module and options."""
    parser = argparse.ArgumentParser(prog="tabwise", description="Code completion.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(
        dest="subcommand", required=True, metavar="COMMAND"
    )
    for name, (module, summary) in SUBCOMMANDS.items():
        sub = commands.add_parser(name, help=summary, description=summary)
        if name == chosen:
            try:
                importlib.import_module(module).configure(sub)
            except ModuleNotFoundError as error:
                sub.error(_missing(name, error))
    return parser


def _missing(command: str, error: ModuleNotFoundError) -> str:
    training = "tabwise_training" in SUBCOMMANDS[command][0]
    extra = EXTRAS.get(str(error.name)) or ("train" if training else "torch")
    return f"needs {error.name}; install it with: pip install 'tabwise[{extra}]'"
