"""What a model being trained says, so that a person can see it learn."""

from __future__ import annotations

import torch

from tabwise_model.gpt import GPT
from tabwise_model.tokenizer import Tokenizer
from tabwise_training.data import Rows

COUNT = 2
PROMPT_TOKENS = 48
NEW_TOKENS = 24


@torch.no_grad()
def print_samples(model: GPT, tokenizer: Tokenizer, rows: Rows) -> None:
    """Print greedy continuations of the beginnings of some rows, ⟦marked⟧."""
    model.eval()
    block = model.config.block_size
    for row in rows[:: max(1, len(rows) // COUNT)][:COUNT]:
        ids = [int(i) for i in row[:PROMPT_TOKENS]]
        device = model.embed.weight.device
        for _ in range(NEW_TOKENS):
            hidden = model.hidden(torch.tensor([ids[-block:]], device=device))
            ids.append(int(model.logits(hidden[0, -1]).argmax()))
        prompt, said = ids[:PROMPT_TOKENS], ids[PROMPT_TOKENS:]
        text = f"{tokenizer.decode(prompt[-16:])}⟦{tokenizer.decode(said)}⟧"
        print("  | " + text.replace("\n", "\n  | "), flush=True)
    model.train()
