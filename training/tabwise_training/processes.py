"""Which process of a training run this is, under torchrun or alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import attrs
import torch
import torch.distributed as dist

from tabwise_training.config import RunConfig
from tabwise_training.errors import TrainingError


@attrs.frozen(kw_only=True)
class Processes:
    """Which process this is, of how many, and its device."""

    rank: int = 0
    count: int = 1
    device: torch.device = attrs.field(factory=lambda: torch.device("cpu"))

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def any(self, here: bool) -> bool:
        """Whether it is so in any process; all must ask."""
        if self.count == 1:
            return here
        flag = torch.tensor(int(here), device=self.device)
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """`value` summed over all processes, in place."""
        if self.count > 1:
            dist.all_reduce(value)
        return value

    def wait(self) -> None:
        """Until every process is here."""
        if self.count > 1:
            dist.barrier()


@contextlib.contextmanager
def join_processes(run: RunConfig) -> Iterator[Processes]:
    """Join torchrun's group if there is one; leave it at the end."""
    device = _open_device(run.device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes(device=device)
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(
            rank=dist.get_rank(), count=dist.get_world_size(), device=device
        )
    finally:
        dist.destroy_process_group()


def _open_device(name: str) -> torch.device:
    """The device of this process. Raises TrainingError if there is none such here."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # of "meta" there is no number
        if device.type == "cuda":
            torch.cuda.set_device(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        said = str(error).partition("\n")[0].rstrip(".")
        raise TrainingError(
            f"run.device must be auto, cpu or a device of this machine, got {name}: "
            f"{said}"
        ) from error
    return device
