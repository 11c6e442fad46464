"""Time the torch runner on a device: `python -m tabwise_model.runners.torch_bench`.

A checkpoint's decoding and prefill in every form that the runner has, beside
`transformers` on the same weights; how far each form's tokens are those of float32 on a
CPU; and what a thousand tokens cost at a stated price.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch

from tabwise_model.checkpoint import Checkpoint, load_checkpoint, resolve_checkpoint
from tabwise_model.runners.native_bench import measure, processor
from tabwise_model.runners.protocol import Chunk, Runner
from tabwise_model.runners.torch import TorchRunner

BATCHES = (1, 4, 16, 64, 256)
CONTEXT = 384  # tokens before the one that is decoded
NEW_TOKENS = 16  # of each prompt that is compared with float32
FORMS: dict[str, dict[str, Any]] = {
    "graphs": {"fixed": True},
    "graphs, INT8 weights": {"fixed": True, "weights": "int8"},
    "plain": {"fixed": False},
}
RIVAL = "transformers generate"


@attrs.frozen(kw_only=True)
class Figures:
    """decode_ms: of a step, by its number of rows. same: share of greedy tokens that
    are those of float32 on a CPU; None where it was not looked at."""

    form: str
    decode_ms: dict[int, float]
    prefill_ms: float
    same: float | None = None

    def tokens_per_s(self, batch: int) -> float:
        return batch / self.decode_ms[batch] * 1e3


def measure_forms(
    checkpoint: Checkpoint,
    device: str,
    batches: Sequence[int],
    seconds: float,
    prompts: int,
) -> list[Figures]:
    """Every form of the runner on `device`, at up to CONTEXT tokens of context."""
    context = min(CONTEXT, checkpoint.config.block_size - NEW_TOKENS - 1)
    room: dict[str, Any] = {
        "n_slots": max(batches),
        "slot_tokens": context + NEW_TOKENS + 1,
    }
    exact = TorchRunner(checkpoint, device="cpu", n_slots=1, slot_tokens=context + 32)
    texts = _prompts(checkpoint, prompts, context)
    wanted = [greedy(exact, text) for text in texts]
    found = []
    for form, options in FORMS.items():
        runner = TorchRunner(checkpoint, device=device, **room, **options)
        tokens = [greedy(runner, text) for text in texts]
        same = float(np.mean(np.array(tokens) == np.array(wanted)))
        long = _prompts(checkpoint, 1, context)[0]
        prefill = measure(_call(runner, [Chunk(0, 0, long)]), seconds).median
        for slot in range(max(batches)):
            runner.extend([Chunk(slot, 0, long)])
        steps = {
            batch: measure(
                _call(runner, [Chunk(s, context, (7,)) for s in range(batch)]), seconds
            ).median
            for batch in batches
        }
        decode = {batch: took * 1e3 for batch, took in steps.items()}
        found.append(
            Figures(form=form, decode_ms=decode, prefill_ms=prefill * 1e3, same=same)
        )
    return found


def measure_transformers(
    folder: Path, device: str, context: int, batches: Sequence[int], seconds: float
) -> Figures:
    """`generate` over the exported folder: a step is what each further token takes."""
    from transformers import AutoModelForCausalLM

    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    model.to(device)
    decode = {}
    for batch in batches:
        ids = torch.randint(10, 250, (batch, context), device=device)
        one = measure(partial(_generate, model, ids, 1), seconds).median
        more = measure(partial(_generate, model, ids, 9), seconds).median
        decode[batch] = (more - one) / 8 * 1e3
        if batch == min(batches):
            prefill = one
    return Figures(form=RIVAL, decode_ms=decode, prefill_ms=prefill * 1e3)


def _generate(model: Any, ids: torch.Tensor, count: int) -> object:
    """`count` tokens behind each row of ids (B, T)."""
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=count,
        min_new_tokens=count,
        do_sample=False,
        pad_token_id=0,
    )
    return out.cpu()  # waits for the device


def greedy(runner: Runner, prompt: tuple[int, ...]) -> list[int]:
    """NEW_TOKENS greedy tokens behind a prompt, in slot 0."""
    row = runner.extend([Chunk(0, 0, prompt)])[0]
    tokens = [int(row.argmax())]
    while len(tokens) < NEW_TOKENS:
        start = len(prompt) + len(tokens) - 1
        row = runner.extend([Chunk(0, start, tuple(tokens[-1:]))])[0]
        tokens.append(int(row.argmax()))
    return tokens


def _call(runner: Runner, chunks: list[Chunk]) -> Callable[[], object]:
    return lambda: runner.extend(chunks)


def _prompts(checkpoint: Checkpoint, count: int, length: int) -> list[tuple[int, ...]]:
    """Real code: this package's own files, from `count` places on."""
    files = sorted(Path(__file__).parent.parent.glob("*.py"))
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    ids = checkpoint.tokenizer.encode(text)
    starts = np.linspace(0, len(ids) - length - 1, count).astype(int)
    return [tuple(ids[start : start + length]) for start in starts]


def table(found: Sequence[Figures], price: float) -> str:
    """price: dollars an hour."""
    batches = sorted(found[0].decode_ms)
    heads = [f"{batch} rows, tokens/s" for batch in batches[1:]]
    lines = [
        f"| | ms/token | prefill, ms | {' | '.join(heads)} | $ per 1K tokens "
        "| tokens as float32's |",
        "|---" * (len(batches) + 4) + "|",
    ]
    for one in found:
        speeds = [f"{one.tokens_per_s(batch):,.0f}" for batch in batches[1:]]
        dollars = price / 3600 / one.tokens_per_s(batches[-1]) * 1000
        same = "" if one.same is None else f"{one.same:.1%}"
        lines.append(
            f"| {one.form} | {one.decode_ms[batches[0]]:.2f} | {one.prefill_ms:.2f} "
            f"| {' | '.join(speeds)} | {dollars:.7f} | {same} |"
        )
    return "\n".join(lines)


def describe(device: str) -> str:
    if device == "cpu":
        return processor()
    return torch.cuda.get_device_name(torch.device(device))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="default")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--seconds", type=float, default=1.0, help="per figure")
    parser.add_argument("--prompts", type=int, default=50, help="to compare")
    parser.add_argument("--price", type=float, default=4.0, help="dollars an hour")
    parser.add_argument("--transformers", action="store_true", help="beside it")
    parser.add_argument("--out", type=Path, help="write JSON here")
    arguments = parser.parse_args(argv)
    checkpoint = load_checkpoint(resolve_checkpoint(arguments.checkpoint))
    device, batches = arguments.device, arguments.batches
    found = measure_forms(
        checkpoint, device, batches, arguments.seconds, arguments.prompts
    )
    if arguments.transformers:
        from tabwise_model.export.to_huggingface import write_huggingface

        context = min(CONTEXT, checkpoint.config.block_size - NEW_TOKENS - 1)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "hf"
            write_huggingface(folder, checkpoint, "fp32")
            found.append(
                measure_transformers(
                    folder, device, context, batches, arguments.seconds
                )
            )
    print(f"{describe(device)}, {checkpoint.name}, ${arguments.price:g} an hour\n")
    print(table(found, arguments.price))
    if arguments.out:
        text = json.dumps([attrs.asdict(one) for one in found], indent=1)
        arguments.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
