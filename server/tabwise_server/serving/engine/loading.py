"""From settings to what answers."""

from __future__ import annotations

import sys
from collections.abc import Callable

import attrs

from tabwise_model.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    resolve_checkpoint,
)
from tabwise_model.runners import choose
from tabwise_model.runners.processors import usable_processors
from tabwise_server.errors import CheckpointMissing, SettingsError
from tabwise_server.serving.engine.crew import Crew
from tabwise_server.serving.engine.engines import Engines
from tabwise_server.serving.engine.keeper import Keeper
from tabwise_server.serving.engine.model import ServedModel
from tabwise_server.serving.engine.process import EngineProcess
from tabwise_server.settings import ServeSettings

# How long an event loop, which needs Python's lock after each call of the system, may
# have to wait for the engine's thread: a tenth of the default. With a busy engine, a
# full house then refuses about a fifth more for the same processor time.
SWITCH_S = 0.0005
# Engines' processes, where nobody says how many: what one event loop can feed. A large
# model reads its weights for all of a step's rows at once, so it is not divided.
MOST_ENGINES, MOST_WEIGHTS = 4, 64_000_000
DAEMON_SLOTS = 64  # one person's documents, and the lines that are being searched
SHARED_THREADS = 2  # of each, where there are several


def make_engines(settings: ServeSettings) -> Engines:
    """Not yet started; in the event loop. Raises CheckpointMissing or SettingsError."""

    def read() -> Checkpoint:
        try:
            return load_checkpoint(resolve_checkpoint(settings.checkpoint))
        except CheckpointError as error:
            raise CheckpointMissing(str(error)) from error

    checkpoint = read()
    count = count_engines(settings, checkpoint)
    if count == 0:
        return keeper_of(checkpoint, settings, read)
    share = shared(settings, count)

    def make(checkpoint: Checkpoint) -> EngineProcess:
        return EngineProcess(checkpoint, share)

    return Crew(checkpoint, count, read, make, settings.stall_s)


def count_engines(settings: ServeSettings, checkpoint: Checkpoint) -> int:
    """How many processes compute; 0 where the server's own does. Raises SettingsError
    where this system cannot."""
    possible = sys.platform != "win32"
    if settings.engines is not None:
        if settings.engines and not possible:
            raise SettingsError("engines must be 0 on Windows")
        return settings.engines
    small = sum(one.nbytes for one in checkpoint.tensors.values()) <= MOST_WEIGHTS
    try:
        native = choose.prefers_native(checkpoint, settings.runner, settings.device)
    except choose.NoRunner as error:
        raise SettingsError(str(error)) from error
    usable = usable_processors()
    if settings.daemon or usable == 1 or not (possible and small and native):
        return 0
    return min(usable, MOST_ENGINES)


def shared(settings: ServeSettings, count: int) -> ServeSettings:
    """What each of so many engines gets of slots, memory and threads."""
    slots = settings.slots and -(-settings.slots // count)
    threads = settings.threads or (SHARED_THREADS if count > 1 else None)
    return attrs.evolve(
        settings, slots=slots, kv_bytes=settings.kv_bytes // count, threads=threads
    )


def keeper_of(
    checkpoint: Checkpoint,
    settings: ServeSettings,
    read: Callable[[], Checkpoint] | None = None,
) -> Keeper:
    """Not yet started. read: the checkpoint as it lies now; None where nobody will
    reload it. Raises SettingsError if nothing here can run it."""

    def build(checkpoint: Checkpoint) -> ServedModel:
        return build_model(checkpoint, settings)

    read = read or (lambda: checkpoint)
    return Keeper(build(checkpoint), read, build, settings.stall_s)


def build_model(checkpoint: Checkpoint, settings: ServeSettings) -> ServedModel:
    """Raises SettingsError if nothing here can run it, CheckpointMissing if nothing
    can."""
    try:
        runner = choose.load_runner(
            checkpoint,
            runner=settings.runner,
            device=settings.device,
            weights=settings.weights,
            threads=settings.threads,
            n_slots=settings.slots,
            kv_bytes=settings.kv_bytes,
            most_slots=DAEMON_SLOTS if settings.daemon else choose.MAX_SLOTS,
            slot_tokens=checkpoint.config.block_size,
        )
    except choose.NoRunner as error:
        raise SettingsError(str(error)) from error
    except CheckpointError as error:
        raise CheckpointMissing(str(error)) from error
    return ServedModel(checkpoint, runner, settings.prefill_chunk)
