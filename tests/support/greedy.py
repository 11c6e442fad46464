"""The reference that every export must equal: our GPT in torch, float32, greedy."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.gpt import GPT
from tabwise_model.quantize import dequantize_checkpoint

LIBRARY = Path(json.__file__).parents[1]


def library_sources(limit_bytes: int) -> Iterator[str]:
    """The standard library's modules, in order, until `limit_bytes` of UTF-8."""
    seen = 0
    for file in sorted(LIBRARY.glob("**/*.py")):
        if "site-packages" in file.parts or b"coding" in file.read_bytes()[:200]:
            continue
        text = file.read_text(encoding="utf-8")
        seen += len(text.encode())
        yield text
        if seen > limit_bytes:
            return


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: on a busy machine, several only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def greedy_tokens(
    checkpoint: Checkpoint, prompts: list[list[int]], count: int
) -> list[list[int]]:
    """The likeliest `count` tokens after each prompt, up to END.

    All prompts have one length.
    """
    model = GPT(checkpoint.config).eval()
    model.load_tensors(dequantize_checkpoint(checkpoint).tensors)
    tokens = torch.tensor(prompts)
    with torch.no_grad():
        for _ in range(count):
            last = model.logits(model.hidden(tokens)[:, -1])
            tokens = torch.cat((tokens, last.argmax(-1, keepdim=True)), dim=1)
    start = len(prompts[0])
    return [
        until_end(row, checkpoint.tokenizer.end) for row in tokens[:, start:].tolist()
    ]


def until_end(tokens: list[int], end: int) -> list[int]:
    return tokens[: tokens.index(end)] if end in tokens else tokens
