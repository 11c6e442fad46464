"""A training run on disk: checkpoints that resume exactly, a log, a picture.

OUT/config.json            the resolved recipe
OUT/log.csv                a row a logged step (OUT/tensorboard/ has the same)
OUT/loss.png               the curves, at the end
OUT/step-N/                a float32 checkpoint, with optimizer.safetensors and
                           training.json (step, place in the data, and what data
                           that was) beside it
A step's folder appears by one rename, so a killed process never leaves a broken one.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tabwise_model.checkpoint import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from tabwise_model.config import ModelConfig
from tabwise_model.folders import push_to_disk, replace_folder
from tabwise_model.gpt import GPT
from tabwise_model.tokenizer import Tokenizer
from tabwise_training.data import DataOrder, Place
from tabwise_training.destination import writing
from tabwise_training.errors import TrainingError
from tabwise_training.optim import Optimizers

KEPT = 2  # newest checkpoints; older ones are deleted


@attrs.frozen(kw_only=True)
class Progress:
    """What resuming needs besides weights: steps done, place in the data, seconds, and
    the float16 loss scaler's state."""

    step: int = 0
    place: Place = Place()
    seconds: float = 0.0
    tokens: int = 0
    scaler: Mapping[str, Any] = attrs.Factory(dict)


def save_run(
    out: Path,
    progress: Progress,
    model: GPT,
    tokenizer: Tokenizer,
    optimizers: Optimizers,
    provenance: Mapping[str, Any],
    order: DataOrder,
) -> Path:
    """Write OUT/step-N and delete all but the newest; returns its folder.

    Raises TrainingError where it cannot be written; the ones before it stay.
    """
    folder = out / f"step-{progress.step:06d}"
    fresh = out / f".{folder.name}.part"
    shutil.rmtree(fresh, ignore_errors=True)
    checkpoint = Checkpoint(
        config=model.config,
        tokenizer=tokenizer,
        tensors=model.to_tensors(),
        provenance=provenance,
    )
    try:
        save_checkpoint(fresh, checkpoint)
        save_file(optimizers.state(), fresh / "optimizer.safetensors")
        said = attrs.asdict(progress) | {"data": attrs.asdict(order)}
        (fresh / "training.json").write_text(json.dumps(said))
        push_to_disk(fresh, ["optimizer.safetensors", "training.json"])
        replace_folder(fresh, folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise TrainingError(
            f"cannot write {folder}: {error}; make room and run again to go on from "
            "the checkpoint before it"
        ) from error
    for old in steps_on_disk(out)[:-KEPT]:
        # out of sight first: half deleted, it would look like a broken checkpoint
        old.rename(out / f".{old.name}.old")
    for gone in out.glob(".step-*.old"):
        shutil.rmtree(gone)
    return folder


def steps_on_disk(out: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    found = (p for p in out.glob("step-*") if (p / "training.json").is_file())
    numbered = [p for p in found if p.name.removeprefix("step-").isdecimal()]
    return sorted(numbered, key=lambda p: int(p.name.removeprefix("step-")))


def load_run(
    folder: Path,
    model: GPT,
    tokenizer: Tokenizer,
    optimizers: Optimizers,
    order: DataOrder,
) -> Progress:
    """Put a checkpoint's weights and optimiser state in place.

    Raises TrainingError if it is of another shape, vocabulary or order of data.
    """
    checkpoint = load_checkpoint(folder)
    if checkpoint.config != model.config:
        raise TrainingError(
            f"{folder} holds another model shape than the recipe; "
            f"it has {describe_difference(checkpoint.config, model.config)}"
        )
    if not checkpoint.tokenizer.is_same(tokenizer):
        raise TrainingError(
            f"{folder} has another vocabulary than data.folder; give the corpus that "
            "the run was begun with, or another run.out"
        )
    data = json.loads((folder / "training.json").read_text())
    _check_order(folder, data.pop("data", {}), order)
    model.load_tensors(checkpoint.tensors)
    optimizers.load_state(_read_tensors(folder / "optimizer.safetensors"))
    # one saved before layouts were noted is of the first
    place = Place(**{"layout": 1, **data["place"]})
    return Progress(**{**data, "place": place})


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"cannot read {file}: {error}; delete its folder to go on from the "
            "checkpoint before it"
        ) from error


def _check_order(folder: Path, found: Mapping[str, Any], wanted: DataOrder) -> None:
    """Raises TrainingError naming what differs; what was not saved is not known."""
    different = [
        f"{key} {found[key]} instead of {value}"
        for key, value in attrs.asdict(wanted).items()
        if found.get(key, value) != value
    ]
    if different:
        raise TrainingError(
            f"{folder} was trained on other data: {', '.join(different)} (data); give "
            "what the run was begun with, or another run.out"
        )


def describe_difference(found: ModelConfig, wanted: ModelConfig) -> str:
    """The fields that differ, as `name found instead of wanted`."""
    a, b = attrs.asdict(found), attrs.asdict(wanted)
    return ", ".join(f"{k} {a[k]} instead of {b[k]}" for k in a if a[k] != b[k])


class Log:
    """OUT/log.csv, appended to, and TensorBoard's events where it is installed.

    What was logged after the `step` that a run goes on from is dropped: it comes again.
    """

    COLUMNS = (
        *("step", "tokens", "seconds", "loss", "val_bpb", "lr"),
        *("tokens_per_s", "mfu", "data_wait"),
    )

    def __init__(self, out: Path, step: int = 0) -> None:
        self._file = out / "log.csv"
        kept = read_log(out) if self._file.exists() else []
        part = out / f"{self._file.name}.part"
        with writing(self._file, "run.out"):
            with part.open("w", newline="") as stream:
                rows = csv.DictWriter(stream, self.COLUMNS)
                rows.writeheader()
                rows.writerows(row for row in kept if int(row["step"]) <= step)
            part.replace(self._file)
        self._board = None
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)

    def write(self, **values: float | None) -> None:
        with writing(self._file, "run.out"), self._file.open("a", newline="") as stream:
            csv.DictWriter(stream, self.COLUMNS, restval="").writerow(
                {k: f"{v:.10g}" for k, v in values.items() if v is not None}
            )
        if self._board is not None:
            for name, value in values.items():
                if value is not None and name != "step":
                    self._board.add_scalar(name, value, values["step"])
            self._board.flush()


def read_log(out: Path) -> list[dict[str, str]]:
    """The rows of OUT/log.csv; an empty string where nothing was logged."""
    with (out / "log.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def draw_losses(out: Path) -> Path:
    """OUT/loss.png from OUT/log.csv: training loss, and validation bits per byte."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    rows = read_log(out)
    figure, left = pyplot.subplots(figsize=(7, 4), layout="constrained")
    trained = [(float(r["tokens"]) / 1e6, float(r["loss"])) for r in rows if r["loss"]]
    left.plot(*zip(*trained, strict=True), lw=0.8, color="tab:blue")
    left.set(xlabel="million tokens", ylabel="training loss, nats per token")
    valid = [
        (float(r["tokens"]) / 1e6, float(r["val_bpb"])) for r in rows if r["val_bpb"]
    ]
    if valid:
        right = left.twinx()
        right.plot(*zip(*valid, strict=True), marker="o", ms=3, color="tab:orange")
        right.set_ylabel("validation bits per byte", color="tab:orange")
    figure.savefig(out / "loss.png", dpi=120)
    pyplot.close(figure)
    return out / "loss.png"
