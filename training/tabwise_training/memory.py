"""Whether a recipe's step fits in the memory of this machine, before it is tried: what
does not fit gets the process killed without a word."""

from __future__ import annotations

import os
from pathlib import Path

import attrs
import torch

from tabwise_model.checkpoint import count_parameters
from tabwise_model.config import ModelConfig
from tabwise_training.config import TrainConfig
from tabwise_training.errors import TrainingError

FLOAT = 4  # bytes
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@attrs.frozen
class StepMemory:
    """Bytes of one process: what lasts, and what a micro-batch leaves for its gradient.

    A lower bound: temporary tensors and the libraries' own are not counted.
    """

    state: int
    activations: int

    @property
    def total(self) -> int:
        return self.state + self.activations


def step_memory(
    config: TrainConfig, shape: ModelConfig, device: torch.device
) -> StepMemory:
    """Weights, gradients and the optimisers' moments (one of Muon's, two of AdamW's);
    the inputs of every product and of every function with a gradient."""
    embedded = shape.vocab_size * shape.n_embd
    parameters = count_parameters(shape)
    moments = 2 * parameters
    if config.optim.muon_lr > 0:
        moments = parameters + embedded
    wide = FLOAT if config.run.dtype == "float32" else 2
    kv = shape.n_kv_head * shape.head_size
    a_layer = 5 * shape.n_embd + shape.query_width + 2 * kv + 4 * shape.mlp_hidden
    if device.type == "cpu":  # attention keeps its probabilities there
        a_layer += shape.n_head * shape.block_size // 2
    tokens = config.run.micro_rows * shape.block_size
    return StepMemory(
        state=FLOAT * (2 * parameters + moments),
        activations=wide * tokens * (shape.n_layer * a_layer + 2 * shape.n_embd),
    )


def check_memory(config: TrainConfig, shape: ModelConfig, device: torch.device) -> None:
    """Raise TrainingError if a step cannot fit on this device."""
    needed, there = step_memory(config, shape, device), memory_of(device)
    processes = 1
    if device.type == "cpu":  # those of one machine share it
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if processes * needed.total <= there:
        return
    shared = f" in each of {processes} processes" if processes > 1 else ""
    raise TrainingError(
        f"a step needs at least {needed.total / 1e9:.1f} GB{shared} "
        f"({needed.state / 1e9:.1f} for weights, gradients and optimisers, "
        f"{needed.activations / 1e9:.1f} for {config.run.micro_rows} rows), "
        f"{device} has {there / 1e9:.1f}; lower run.micro_rows or the model"
    )


def memory_of(device: torch.device) -> int:
    """Bytes that a device has in all; of a CPU, what this process may have of it."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = CGROUP_LIMIT.read_text(encoding="ascii").strip()
    except OSError:
        return whole
    return min(whole, int(limit)) if limit.isdigit() else whole
