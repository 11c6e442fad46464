"""Real language servers and real daemons over a tiny random model."""

from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest
import torch

from support.checkpoints import save_tiny
from support.language_server import end_daemon, isolated
from support.models import LLAMA
from support.tokenizer import TOKENIZER
from tabwise_model.checkpoint import Checkpoint, save_checkpoint
from tabwise_model.gpt import GPT
from tabwise_model.quantize import quantize_checkpoint

Env = dict[str, str]


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="session")
def slow_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model large enough that a long completion takes a while."""
    config = attrs.evolve(
        LLAMA,
        block_size=2_048,
        n_layer=8,
        n_embd=512,
        n_head=8,
        n_kv_head=8,
        mlp_hidden=2_048,
    )
    torch.manual_seed(0)
    tensors = GPT(config).to_tensors()
    checkpoint = Checkpoint(config=config, tokenizer=TOKENIZER, tensors=tensors)
    folder = tmp_path_factory.mktemp("checkpoint") / "slow"
    save_checkpoint(folder, quantize_checkpoint(checkpoint))
    return folder


@pytest.fixture
async def environment(tmp_path: Path, tiny_checkpoint: Path) -> AsyncIterator[Env]:
    """A user of the test's own; the daemon that comes up there ends with the test."""
    yield isolated(tmp_path, TABWISE_SERVE_CHECKPOINT=str(tiny_checkpoint))
    await end_daemon(tmp_path / "state")
