"""Which process of a training run this is, under torchrun or alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import attrs
import torch
import torch.distributed as dist

from tabwise_training.config import RunConfig


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
    kind = run.device
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    else:
        device = torch.device(kind)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes(device=device)
        return
    dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    try:
        yield Processes(
            rank=dist.get_rank(), count=dist.get_world_size(), device=device
        )
    finally:
        dist.destroy_process_group()
