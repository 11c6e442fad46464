"""Small random models as `transformers` saves them."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as HFTokenizer

from tabwise_model.tokenizer import SPLIT_PATTERN

SOURCE = Path(json.__file__).parent

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
    )


def train_tokenizer(folder: Path, *, ours: bool) -> None:
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not ours)
    steps = [pre_tokenizers.Split(Regex(SPLIT_PATTERN), "isolated")] if ours else []
    tokenizer = HFTokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps, byte_level])
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train([str(f) for f in SOURCE.glob("*.py")], trainer)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(folder / "tokenizer.json"))


def make_folder(folder: Path, kind: str, **changes: Any) -> Any:
    """A small random model as `transformers` saves it."""
    torch.manual_seed(0)
    folder.mkdir(exist_ok=True)
    if kind == "gpt2":
        model: Any = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=501,
                n_positions=32,
                n_embd=24,
                n_layer=2,
                n_head=3,
                **changes,
            )
        )
    else:
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=501,
                max_position_embeddings=32,
                hidden_size=24,
                intermediate_size=40,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                tie_word_embeddings=True,
                **changes,
            )
        )
    model.eval()
    model.save_pretrained(folder)
    train_tokenizer(folder, ours=kind == "llama")
    return model


def load_model(folder: Path) -> Any:
    """What `transformers` makes of a folder of weights."""
    return AutoModelForCausalLM.from_pretrained(folder)


def load_tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)
