"""Which runner serves a checkpoint on this machine."""

from __future__ import annotations

import importlib.util
import logging

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.runners.protocol import Runner

logger = logging.getLogger(__name__)

RUNNERS = ("native", "torch")  # the preferred one first


class NoRunner(RuntimeError):
    """Nothing here can run the model; the message says what to do."""


def available_runners() -> list[str]:
    """Names of the runners that can be used here, the preferred one first."""
    return [name for name in RUNNERS if _installed(name)]


def load_runner(
    checkpoint: Checkpoint,
    *,
    runner: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    n_slots: int,
    slot_tokens: int,
) -> Runner:
    """The runner named `runner`, or for `auto` the first that can run `checkpoint`.

    device: the torch runner's; one that is neither auto nor cpu means torch. Raises
    NoRunner.
    """
    failures = []
    for name in _candidates(runner, device):
        try:
            return _make(name, checkpoint, device, threads, n_slots, slot_tokens)
        except RuntimeError as error:
            failures.append(f"{name}: {error}")
            logger.info("the %s runner cannot serve this: %s", name, error)
    raise NoRunner("; ".join(failures))


def _candidates(runner: str, device: str) -> list[str]:
    """The runners to try, in turn. Raises NoRunner if there is none."""
    if runner not in ("auto", *RUNNERS):
        names = ", ".join(RUNNERS)
        raise NoRunner(f"runner must be auto or one of {names}, got {runner!r}")
    usable = available_runners()
    if runner == "auto" and device not in ("auto", "cpu"):
        usable = [name for name in usable if name == "torch"]
    elif runner != "auto":
        usable = [name for name in usable if name == runner]
    if not usable:
        raise NoRunner(
            f"no runner here for runner {runner!r}, device {device!r}: install a C++ "
            "compiler and reinstall tabwise, or pip install 'tabwise[torch]'"
        )
    return usable


def _make(
    name: str,
    checkpoint: Checkpoint,
    device: str,
    threads: int | None,
    n_slots: int,
    slot_tokens: int,
) -> Runner:
    if name == "native":
        from tabwise_model.runners.native import NativeRunner

        return NativeRunner(
            checkpoint, n_slots=n_slots, slot_tokens=slot_tokens, threads=threads
        )
    from tabwise_model.runners.torch import TorchRunner

    return TorchRunner(
        checkpoint,
        n_slots=n_slots,
        slot_tokens=slot_tokens,
        device=device,
        threads=threads,
    )


def _installed(name: str) -> bool:
    """Whether a runner could be used here, whatever the checkpoint."""
    if name == "torch":
        return importlib.util.find_spec("torch") is not None
    try:
        from tabwise_model.runners.native import native_available
    except ImportError:  # an installation without it
        return False
    return native_available()
