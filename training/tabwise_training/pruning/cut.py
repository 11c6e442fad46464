"""A checkpoint with fewer layers, heads or MLP channels: its tensors cut to size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from tabwise_model.checkpoint import Checkpoint, Tensors, check_tensors

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]


def keep_layers(checkpoint: Checkpoint, kept: Sequence[int]) -> Checkpoint:
    """The float32 checkpoint with these layers alone, in their order."""
    number = {old: new for new, old in enumerate(sorted(kept))}
    tensors: Tensors = {}
    for name, array in checkpoint.tensors.items():
        head, *rest = name.split(".")
        if head != "layers":
            tensors[name] = array
        elif (old := int(rest[0])) in number:
            tensors[".".join((head, str(number[old]), *rest[1:]))] = array
    return _checked(checkpoint, tensors, n_layer=len(number))


def keep_heads(
    checkpoint: Checkpoint, kept: Sequence[Mapping[int, Sequence[int]]]
) -> Checkpoint:
    """The float32 checkpoint with these heads alone.

    kept: for each layer, the query heads of each KV head that stays; as many of either
    in every layer.
    """
    config = checkpoint.config
    tensors = dict(checkpoint.tensors)
    for layer, groups in enumerate(kept):
        name = f"layers.{layer}.attention"
        queries = _rows_of(
            [h for kv in sorted(groups) for h in sorted(groups[kv])], config.head_size
        )
        keys = _rows_of(sorted(groups), config.head_size)
        for part, rows in (("q", queries), ("k", keys), ("v", keys)):
            _take_rows(tensors, f"{name}.{part}", rows)
        tensors[f"{name}.out.weight"] = tensors[f"{name}.out.weight"][:, queries].copy()
    n_kv_head = len(kept[0])
    n_head = sum(map(len, kept[0].values()))
    return _checked(
        checkpoint,
        tensors,
        n_head=n_head,
        n_kv_head=n_kv_head,
        head_dim=config.head_size,
    )


def keep_channels(checkpoint: Checkpoint, kept: Sequence[Ints]) -> Checkpoint:
    """The float32 checkpoint with these MLP channels alone; as many in every layer."""
    tensors = dict(checkpoint.tensors)
    for layer, channels in enumerate(kept):
        name = f"layers.{layer}.mlp"
        for part in ("gate", "up"):
            _take_rows(tensors, f"{name}.{part}", channels)
        tensors[f"{name}.down.weight"] = tensors[f"{name}.down.weight"][
            :, channels
        ].copy()
    return _checked(checkpoint, tensors, mlp_hidden=len(kept[0]))


def _take_rows(tensors: Tensors, name: str, rows: Ints) -> None:
    """These rows alone of a matrix and its bias, where it has them."""
    for part in ("weight", "bias"):
        if f"{name}.{part}" in tensors:
            tensors[f"{name}.{part}"] = tensors[f"{name}.{part}"][rows].copy()


def _rows_of(heads: Sequence[int], head_size: int) -> Ints:
    return (np.array(heads)[:, None] * head_size + np.arange(head_size)).ravel()


def _checked(checkpoint: Checkpoint, tensors: Tensors, **shape: Any) -> Checkpoint:
    config = attrs.evolve(checkpoint.config, **shape)
    if config.head_dim is not None and config.n_head * config.head_dim == config.n_embd:
        config = attrs.evolve(config, head_dim=None)
    check_tensors(config, tensors, 32)
    return attrs.evolve(checkpoint, config=config, tensors=tensors)
