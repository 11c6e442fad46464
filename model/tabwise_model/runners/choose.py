"""Which runner serves a checkpoint on this machine."""

from __future__ import annotations

import importlib.util

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.runners.protocol import Runner


class NoRunner(RuntimeError):
    """Nothing here can run the model; the message says what to install."""


def available_runners() -> list[str]:
    """Names of the runners that can be used here, the preferred one first."""
    found = []
    if _native_available():
        found.append("native")
    if importlib.util.find_spec("torch") is not None:
        found.append("torch")
    return found


def load_runner(
    checkpoint: Checkpoint,
    *,
    runner: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    n_slots: int,
    slot_tokens: int,
) -> Runner:
    """The runner named `runner`, or for `auto` the best one. Raises NoRunner."""
    usable = available_runners()
    if runner == "auto" and device not in ("auto", "cpu"):
        usable = [name for name in usable if name == "torch"]
    if not usable:
        raise NoRunner(
            "nothing here can run the model: install a C++ compiler and reinstall "
            "tabwise, or pip install 'tabwise[torch]'"
        )
    chosen = usable[0] if runner == "auto" else runner
    if chosen not in usable:
        raise NoRunner(f"runner {chosen!r} is not installed; here are: {usable}")
    if chosen == "native":
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


def _native_available() -> bool:
    """Whether the native runner was built and can run on this machine's processor."""
    try:
        from tabwise_model.runners.native import native_available
    except ImportError:
        return False
    return native_available()
