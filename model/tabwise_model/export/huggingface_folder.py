"""The files of a Hugging Face folder: JSON and tensors, read and checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

from tabwise_model.checkpoint import CheckpointError, Tensors

# Tensors beside the weights that older versions of `transformers` kept: nothing learnt.
BUFFERS = (".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias")
TIED_HEAD = "lm_head.weight"  # the embedding once more


class SourceTensors:
    """A folder's tensors, each taken once by the name and shape that it must have."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._left = {
            name.removeprefix("transformer."): array
            for name, array in _read_tensors(folder).items()
            if not name.endswith(BUFFERS) and name != TIED_HEAD
        }

    def take(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """The tensor. Raises CheckpointError."""
        if name not in self._left:
            raise CheckpointError(f"{self._folder} lacks the tensor {name}")
        found = self._left.pop(name)
        if found.shape != shape:
            raise CheckpointError(
                f"{self._folder}: {name} must be {shape}, got {found.shape}"
            )
        return found

    def check_all_taken(self) -> None:
        """Raise CheckpointError naming a tensor that our model has no place for."""
        for name in sorted(self._left):
            raise CheckpointError(f"{self._folder} has an unknown tensor {name}")


def _read_tensors(folder: Path) -> Tensors:
    """All tensors as float32, from model.safetensors or its shards."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = sorted(set(read_json(index).get("weight_map", {}).values()))
    else:
        files = ["model.safetensors"]
    found: Tensors = {}
    for name in files:
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder / name} is missing; pickled weights are not read"
            )
        try:
            loaded = load_file(folder / name)
        except Exception as error:
            raise CheckpointError(f"{folder / name}: {error}") from error
        found.update({k: v.to(torch.float32).numpy() for k, v in loaded.items()})
    return found


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises CheckpointError."""
    try:
        data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{file} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{file} must hold an object, got {type(data).__name__}")
    return data
