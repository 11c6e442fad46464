"""`tabwise fit-copying`: how much a copy weighs beside the model.

On packages that nothing was trained on. Of each, lines of some files are looked at, by
the checkpoint as it is and by one that was tuned on the package's other files, which
also brings them along; the latter looks at other code as well, where what it brings
along has little to say. Says what is won on packages that were left out of the fit, and
writes the two networks that `tabwise_model.copy_gates` reads.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from tabwise_model.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from tabwise_model.copy_gates import FILE
from tabwise_training.corpus.documents import read_documents
from tabwise_training.errors import TrainingError
from tabwise_training.evaluate import make_runner
from tabwise_training.evaluation.positions import draw_positions
from tabwise_training.gate_fitting import Network, Observed, fit, networks_of, observe
from tabwise_training.quantize import find_checkpoint
from tabwise_training.tune import tune
from tabwise_training.tuning.general import general_code
from tabwise_training.tuning.repository import Parts, Text, split_repository
from tabwise_training.tuning.tuner import TuneOptions

ERRORS = (TrainingError, CheckpointError)
LEAST_PACKAGES = 2


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--checkpoint", default="default")
    add("--documents", type=Path, default=Path("data/corpus/val.jsonl"))
    add("--positions", type=int, default=600, help="cursors in each package")
    add("--minutes", type=float, default=5.0, help="of tuning on each package")
    add("--steps", type=int, help="of tuning, if sooner")
    add("--seed", type=int, default=1)
    add("--out", type=Path, default=FILE)


def run(arguments: argparse.Namespace) -> int:
    checkpoint = load_checkpoint(find_checkpoint(arguments.checkpoint))
    packages = read_packages(arguments.documents)
    observed = {
        name: _observe_package(checkpoint, files, arguments)
        for name, files in tqdm(packages.items(), desc="packages", disable=None)
    }
    print(to_markdown(observed))
    networks = fit([one for sets in observed.values() for one in sets.values()])
    found = {kind: network.to_json() for kind, network in networks.items()}
    arguments.out.write_text(json.dumps(found) + "\n")
    print(f"written to {arguments.out}")
    return 0


def read_packages(file: Path) -> dict[str, list[Text]]:
    """The files of each package. Raises TrainingError for fewer than two packages."""
    if not file.is_file():
        raise TrainingError(f"{file} is not there; run `tabwise collect` first")
    packages: dict[str, list[Text]] = defaultdict(list)
    for document in read_documents(file):
        packages[document["package"]].append((document["path"], document["text"]))
    if len(packages) < LEAST_PACKAGES:
        raise TrainingError(
            f"{file} holds {len(packages)} packages; at least {LEAST_PACKAGES} are "
            "needed, so that each can be left out once"
        )
    return packages


def _observe_package(
    checkpoint: Checkpoint, files: Sequence[Text], arguments: argparse.Namespace
) -> dict[str, Observed]:
    """What was seen, by what looked at what."""
    own = split_repository(files, {})
    options = TuneOptions(
        max_seconds=60 * arguments.minutes,
        max_steps=arguments.steps,
        seed=arguments.seed,
    )
    general = general_code(files)
    tuned, _ = tune(checkpoint, own, general, options)

    def look(by: Checkpoint, at: Parts) -> Observed:
        positions = draw_positions(at.held_out, arguments.positions, arguments.seed)
        return observe(make_runner(by, "auto", 1), by, positions)

    return {
        "as it is": look(checkpoint, own),
        "tuned": look(tuned, own),
        "tuned, on other code": look(tuned, general),
    }


def to_markdown(observed: Mapping[str, Mapping[str, Observed]]) -> str:
    """Nats a token of each package, the last column fitted to all others."""
    today = networks_of()
    lines = [
        "| nats a token | checkpoint | model alone | today | fitted to the others |",
        "|---|---|---|---|---|",
    ]
    for name, sets in observed.items():
        others = [observed[other] for other in observed if other != name]
        fitted = fit([one for other in others for one in other.values()])
        for label, one in sets.items():
            figures = (_nats(one, gates) for gates in (None, today, fitted))
            lines.append(f"| {name} | {label} | {' | '.join(figures)} |")
    return "\n".join(lines)


def _nats(observed: Observed, gates: Mapping[str, Network] | None) -> str:
    nats = float(observed.nats(gates).detach())
    return f"{nats:.3f}" if math.isfinite(nats) else "–"
