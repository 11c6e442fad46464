"""Which runner serves a checkpoint on this machine."""

from __future__ import annotations

import importlib.util
import logging
from typing import TYPE_CHECKING, Any

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.runners.protocol import Runner

if TYPE_CHECKING:
    from tabwise_model.runners.native import NativeRunner
    from tabwise_model.runners.torch import TorchRunner

logger = logging.getLogger(__name__)

RUNNERS = ("native", "torch")  # the preferred one first
WEIGHTS = ("float", "int8")
MAX_SLOTS = 512


class NoRunner(RuntimeError):
    """Nothing here can run the model; the message says what to do."""


def available_runners() -> list[str]:
    """Names of the runners that can be used here, the preferred one first."""
    return [name for name in RUNNERS if _installed(name)]


def prefers_native(checkpoint: Checkpoint, runner: str, device: str) -> bool:
    """Whether `load_runner` would begin with the native runner, which can run it.
    Raises NoRunner."""
    native = _candidates(runner, device)[0] == "native"
    return native and checkpoint.config.family == "llama"


def load_runner(
    checkpoint: Checkpoint,
    *,
    runner: str = "auto",
    device: str = "auto",
    weights: str = "float",
    threads: int | None = None,
    n_slots: int | None = None,
    kv_bytes: int = 0,
    most_slots: int = MAX_SLOTS,
    slot_tokens: int,
) -> Runner:
    """The runner named `runner`, or for `auto` the first that can run `checkpoint`.

    device: the torch runner's; one that is neither auto nor cpu means torch. weights:
    how it holds an INT8 checkpoint's matrices, one of WEIGHTS. n_slots: None for as
    many as `kv_bytes` hold of this runner's keys and values, up to `most_slots`. Raises
    NoRunner.
    """
    if weights not in WEIGHTS:
        raise NoRunner(f"weights must be one of {', '.join(WEIGHTS)}, got {weights!r}")
    failures = []
    for name in _candidates(runner, device):
        try:
            kind = _kind(name)
            slot_bytes = kind.kv_bytes_per_token(checkpoint.config) * slot_tokens
            slots = n_slots or min(slots_within(kv_bytes, slot_bytes), most_slots)
            options: dict[str, Any] = {"n_slots": slots, "slot_tokens": slot_tokens}
            options["threads"] = threads
            if name == "torch":
                options |= {"device": device, "weights": weights}
            return kind(checkpoint, **options)
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


def slots_within(kv_bytes: int, slot_bytes: int) -> int:
    """How many sequences of the model's full length to keep in memory: more than are
    ever computed at once, since each open document needs one to be answered quickly.
    Raises NoRunner if there is room for none."""
    if kv_bytes < slot_bytes:
        raise NoRunner(
            f"kv_bytes must be at least {slot_bytes}, one sequence of this model, "
            f"got {kv_bytes}"
        )
    return kv_bytes // slot_bytes


def _kind(name: str) -> type[NativeRunner] | type[TorchRunner]:
    if name == "native":
        from tabwise_model.runners.native import NativeRunner

        return NativeRunner
    from tabwise_model.runners.torch import TorchRunner

    return TorchRunner


def _installed(name: str) -> bool:
    """Whether a runner could be used here, whatever the checkpoint."""
    if name == "torch":
        return importlib.util.find_spec("torch") is not None
    try:
        from tabwise_model.runners.native import native_available
    except ImportError:  # an installation without it
        return False
    return native_available()
