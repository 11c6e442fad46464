"""From settings to a keeper with the checkpoint in a runner."""

from __future__ import annotations

from tabwise_model.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    resolve_checkpoint,
)
from tabwise_model.runners import choose
from tabwise_server.errors import CheckpointMissing, SettingsError
from tabwise_server.serving.engine.keeper import Keeper
from tabwise_server.serving.engine.model import ServedModel
from tabwise_server.settings import ServeSettings


def make_keeper(settings: ServeSettings) -> Keeper:
    """Not yet started. Raises CheckpointMissing or SettingsError."""

    def read() -> Checkpoint:
        try:
            return load_checkpoint(resolve_checkpoint(settings.checkpoint))
        except CheckpointError as error:
            raise CheckpointMissing(str(error)) from error

    def build(checkpoint: Checkpoint) -> ServedModel:
        return build_model(checkpoint, settings)

    return Keeper(build(read()), read, build, settings.stall_s)


def build_model(checkpoint: Checkpoint, settings: ServeSettings) -> ServedModel:
    """Raises SettingsError if nothing here can run it."""
    try:
        runner = choose.load_runner(
            checkpoint,
            runner=settings.runner,
            device=settings.device,
            weights=settings.weights,
            threads=settings.threads,
            n_slots=settings.slots,
            kv_bytes=settings.kv_bytes,
            slot_tokens=checkpoint.config.block_size,
        )
    except choose.NoRunner as error:
        raise SettingsError(str(error)) from error
    return ServedModel(checkpoint, runner, settings.prefill_chunk)
