"""`tabwise prune`: a checkpoint without its least important layers, heads and channels.

Each is measured on code from the prepared corpus, on the model as it is by then: layers
first, then heads, then MLP channels. What is left is trained on for a while, as any
run: in a folder of its own, to be gone on with after an interruption.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from tabwise_model.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from tabwise_model.quantize import check_finite, dequantize_checkpoint
from tabwise_training.calibration import calibration_rows
from tabwise_training.config import TrainConfig, apply_flags, structure_config
from tabwise_training.data import Rows
from tabwise_training.destination import add_force, check_folder, writing
from tabwise_training.errors import TrainingError
from tabwise_training.pruning.cut import keep_channels, keep_heads, keep_layers
from tabwise_training.pruning.importance import (
    channel_importance,
    head_importance,
    least_important_layers,
)
from tabwise_training.pruning.plan import (
    Plan,
    choose_channels,
    choose_heads,
    plan_for,
)
from tabwise_training.quantize import find_checkpoint
from tabwise_training.run_state import steps_on_disk
from tabwise_training.train import train
from tabwise_training.validation import model_of, say_bits, validation_rows

ERRORS = (TrainingError, CheckpointError)
ROWS = 32  # to weigh on, each as long as the context


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("checkpoint", help="a checkpoint's folder or name, or a run's")
    add("--out", type=Path, required=True, help="folder to write")
    add("--layers", type=int, help="layers that stay")
    add("--heads", type=int, help="query heads that stay in each layer")
    add("--kv-heads", type=int, help="KV heads that stay in each layer")
    add("--mlp", type=int, help="MLP channels that stay in each layer")
    add("--rows", type=int, default=ROWS, help=f"of code to weigh on ({ROWS})")
    add("--no-recovery", action="store_true", help="only cut, train no further")
    add_force(parser)
    parser.set_defaults(overrides=[])
    parser.epilog = (
        "Any --section.key VALUE overrides the recipe of the recovery, such as "
        "--data.folder PREPARED or --run.steps 1000."
    )


def run(arguments: argparse.Namespace) -> int:
    source = find_checkpoint(arguments.checkpoint)
    check_folder(arguments.out, force=arguments.force, source=source)
    if arguments.rows < 1:
        raise TrainingError(f"--rows must be at least 1, got {arguments.rows}")
    whole = dequantize_checkpoint(load_checkpoint(source))
    check_finite(whole)
    plan = plan_for(
        whole.config,
        layers=arguments.layers,
        heads=arguments.heads,
        kv_heads=arguments.kv_heads,
        channels=arguments.mlp,
    )
    recipe = recovery_recipe(whole, arguments.out, arguments.overrides)
    folder = Path(recipe.data.folder)
    rows = calibration_rows(whole, folder, arguments.rows)
    judged = validation_rows(whole, folder)
    say_bits("whole", whole, judged)
    cut, record = prune(whole, plan, rows)
    say_bits("cut", cut, judged)
    record |= {"from": whole.digest, "before": dict(whole.provenance)}
    if arguments.no_recovery:
        cut = attrs.evolve(cut, provenance={"pruned": record})
    else:
        recovered = recover(cut, recipe, {"pruned": record})
        if recovered is None:
            return 130
        cut = recovered
        say_bits("recovered", cut, judged)
    with writing(arguments.out):
        save_checkpoint(arguments.out, cut)
    print(f"written to {arguments.out}")
    return 0


def prune(
    checkpoint: Checkpoint, plan: Plan, rows: Rows
) -> tuple[Checkpoint, dict[str, Any]]:
    """(what the plan leaves of the float32 checkpoint, a record of what went)."""
    end = checkpoint.tokenizer.end
    record: dict[str, Any] = {"rows": len(rows)}
    config = checkpoint.config
    if plan.layers < config.n_layer:
        gone = least_important_layers(
            model_of(checkpoint), rows, end, config.n_layer - plan.layers
        )
        record["layers"] = gone
        kept = sorted(set(range(config.n_layer)) - set(gone))
        checkpoint = keep_layers(checkpoint, kept)
    if (plan.heads, plan.kv_heads) != (config.n_head, config.n_kv_head):
        importance = head_importance(model_of(checkpoint), rows, end)
        heads = choose_heads(importance, config, plan)
        record["heads_kept"] = [
            [h for group in g.values() for h in group] for g in heads
        ]
        checkpoint = keep_heads(checkpoint, heads)
    if plan.channels < config.mlp_hidden:
        importance = channel_importance(model_of(checkpoint), rows, end)
        record["mlp_hidden"] = [config.mlp_hidden, plan.channels]
        checkpoint = keep_channels(checkpoint, choose_channels(importance, plan))
    return checkpoint, record


def recover(
    cut: Checkpoint, recipe: TrainConfig, story: dict[str, Any]
) -> Checkpoint | None:
    """The checkpoint trained on by the recipe; None if that was interrupted."""
    _begin_with(cut, Path(recipe.run.init_from), Path(recipe.run.out))
    shape = attrs.asdict(cut.config)
    del shape["vocab_size"]
    recipe = attrs.evolve(recipe, model=attrs.evolve(recipe.model, **shape))
    if not train(recipe, story=story):
        return None
    return load_checkpoint(steps_on_disk(Path(recipe.run.out))[-1])


def _begin_with(cut: Checkpoint, folder: Path, run: Path) -> None:
    """Save what the run starts from. Raises TrainingError if it has already started
    from something else."""
    if steps_on_disk(run):
        before = load_checkpoint(folder).tensors if folder.is_dir() else {}
        if before.keys() != cut.tensors.keys() or not all(
            np.array_equal(before[name], array) for name, array in cut.tensors.items()
        ):
            raise TrainingError(
                f"{run} is the recovery of another model; delete it, or name another "
                "folder with --run.out"
            )
    save_checkpoint(folder, cut)


def recovery_recipe(checkpoint: Checkpoint, out: Path, flags: list[str]) -> TrainConfig:
    """Low rates and a long fall, in a folder beside `out`; flags override it.

    The model is the checkpoint's own, to be replaced by what is left of it.
    """
    run = out.with_name(f"{out.name}-recovery")
    model = attrs.asdict(checkpoint.config)
    del model["vocab_size"]
    data: dict[str, Any] = {
        "model": model,
        "data": {},
        "optim": {"muon_lr": 0.006, "adam_lr": 1e-3},
        "run": {
            "out": str(run),
            "init_from": str(run / "cut"),
            "steps": 500,
            "batch_tokens": 16 * checkpoint.config.block_size,
            "warmup_steps": 20,
            "decay_share": 0.9,
            "final_lr": 0.02,
            "eval_every": 100,
            "save_every": 100,
        },
    }
    apply_flags(data, flags)
    return structure_config(data, "the recipe of the recovery")
