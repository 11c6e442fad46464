"""A checkpoint on disk: safetensors, JSON beside it, a SHA-256 manifest. No torch.

FOLDER/model.safetensors    tensors by name (below)
FOLDER/config.json          model shape, quantisation, tokenizer pattern, provenance
FOLDER/tokenizer.tiktoken   the vocabulary
FOLDER/SHA256SUMS           digest of each of the above, `sha256sum -c` reads it

Tensor names, family llama (all matrices (out, in), float32, INT8 or INT4):
  embed.weight (V, C), tied to the output head
  layers.N.{attention_norm,mlp_norm}.weight (C)           norm.weight (C)
  layers.N.attention.{q,k,v,out}.weight   layers.N.mlp.{gate,up,down}.weight
Family gpt2 has positions.weight (T, C), mlp.{up,down} and a `.bias` beside each norm
and matrix but embed. An INT8 matrix `X.weight` has `X.scale` (out,) float32 beside it;
what an INT4 matrix has is said in `int4.py`.
RoPE rotates halves (the Hugging Face convention), not interleaved pairs.
A checkpoint that remembers a repository (`copying.Remembered`) has remembered.ids (N,)
and remembered.order (M,) int32 too.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tabwise_model.config import ConfigError, ModelConfig
from tabwise_model.copying import Remembered
from tabwise_model.folders import fresh_folder, push_to_disk
from tabwise_model.int4 import Int4Error, Int4Layout, packed_shapes
from tabwise_model.tokenizer import Tokenizer, TokenizerError

FORMAT = 1
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
TOKENIZER = "tokenizer.tiktoken"
SUMS = "SHA256SUMS"
REMEMBERED = "remembered."

Tensors = dict[str, npt.NDArray[Any]]


class CheckpointError(ValueError):
    """A checkpoint that cannot be loaded; the message names the file and remedy."""


@attrs.frozen(kw_only=True)
class Checkpoint:
    """A loaded checkpoint. bits: 32 for float32 matrices, 8 for INT8, 4 for INT4.

    int4: how INT4 matrices lie, None for other bits. digest: SHA-256 of the weights
    file, hex. provenance: how it was made (recipe, data, steps, ...), free-form JSON.
    remembered: the repository that it was tuned on.
    """

    config: ModelConfig
    tokenizer: Tokenizer
    tensors: Tensors
    bits: int = 32
    int4: Int4Layout | None = None
    name: str = "unnamed"
    digest: str = ""
    provenance: Mapping[str, Any] = attrs.Factory(dict)
    remembered: Remembered | None = None


def resolve_checkpoint(name: str) -> Path:
    """The folder of a shipped checkpoint by name, or of a path: "default" is the
    shipped one whatever lies here, "./default" is what lies here.

    Raises CheckpointError.
    """
    shipped = Path(__file__).parent / "checkpoints" / name
    named = [shipped] if os.path.basename(name) == name else []
    for folder in (*named, Path(name).expanduser()):
        if (folder / CONFIG).is_file():
            return folder
    raise CheckpointError(
        f"no checkpoint {name!r}: neither a folder with {CONFIG} nor a shipped name"
    )


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace `folder` with this checkpoint, atomically: a reader, or a crash, finds
    the old one whole or the new one whole. `name` and `digest` follow from the files.
    """
    with fresh_folder(folder) as fresh:
        _write_files(fresh, checkpoint)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read and verify a checkpoint. Raises CheckpointError naming what is wrong."""
    try:
        return _load_checkpoint(folder)
    except OSError as error:
        where = error.filename or folder
        raise CheckpointError(f"{where}: {error.strerror}") from error


def _load_checkpoint(folder: Path) -> Checkpoint:
    """Raises CheckpointError, or OSError for what cannot be read."""
    sums = _verify(folder)
    try:
        data = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        config = ModelConfig.from_json(data["model"])
        bits, pattern = int(data["bits"]), str(data["tokenizer"]["pattern"])
        int4 = Int4Layout(**data["int4"]) if bits == 4 else None
        tokenizer = Tokenizer.load(folder / TOKENIZER, pattern)
        tensors = load_file(folder / WEIGHTS)
    except (ConfigError, Int4Error, TokenizerError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / CONFIG}: {error!r}") from error
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} ids, the model only "
            f"{config.vocab_size}; they belong to different checkpoints"
        )
    remembered = _take_remembered(tensors, tokenizer)
    check_tensors(config, tensors, bits, int4)
    return Checkpoint(
        config=config,
        tokenizer=tokenizer,
        tensors=tensors,
        bits=bits,
        int4=int4,
        name=folder.resolve().name,
        digest=sums[WEIGHTS],
        provenance=data.get("provenance", {}),
        remembered=remembered,
    )


def _take_remembered(tensors: Tensors, tokenizer: Tokenizer) -> Remembered | None:
    """Out of the tensors, if it is there. Raises CheckpointError if it is unfit."""
    names = [name for name in tensors if name.startswith(REMEMBERED)]
    parts = {name.removeprefix(REMEMBERED): tensors.pop(name) for name in names}
    if not parts:
        return None
    try:
        if parts.keys() != {"ids", "order"}:
            raise ValueError(f"must be ids and order, got {', '.join(sorted(parts))}")
        remembered = Remembered(parts["ids"], parts["order"])
        remembered.check(tokenizer.vocab_size)
    except ValueError as error:
        raise CheckpointError(f"what the checkpoint remembers: {error}") from error
    return remembered


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every float tensor of this shape of model."""
    c, hidden = config.n_embd, config.mlp_hidden
    q, kv = config.query_width, config.n_kv_head * config.head_size
    llama = config.family == "llama"
    matrices = {
        "attention.q": (q, c),
        "attention.k": (kv, c),
        "attention.v": (kv, c),
        "attention.out": (c, q),
        "mlp.up": (hidden, c),
        "mlp.down": (c, hidden),
    }
    if llama:
        matrices["mlp.gate"] = (hidden, c)
    norms = ["attention_norm", "mlp_norm"]
    shapes: dict[str, tuple[int, ...]] = {"embed.weight": (config.vocab_size, c)}
    if not llama:
        shapes["positions.weight"] = (config.block_size, c)
    for i in range(config.n_layer):
        for name, shape in matrices.items():
            shapes[f"layers.{i}.{name}.weight"] = shape
            if not llama:
                shapes[f"layers.{i}.{name}.bias"] = shape[:1]
        for name in norms:
            shapes[f"layers.{i}.{name}.weight"] = (c,)
            if not llama:
                shapes[f"layers.{i}.{name}.bias"] = (c,)
    shapes["norm.weight"] = (c,)
    if not llama:
        shapes["norm.bias"] = (c,)
    return shapes


def count_parameters(config: ModelConfig) -> int:
    """How many weights this shape of model has, whatever their bits."""
    return sum(math.prod(shape) for shape in expected_shapes(config).values())


def quantized_names(config: ModelConfig) -> list[str]:
    """The matrices that INT8 and INT4 cover, without `.weight`: all but positions."""
    return [
        name.removesuffix(".weight")
        for name, shape in expected_shapes(config).items()
        if len(shape) == 2 and name != "positions.weight"
    ]


def check_tensors(
    config: ModelConfig, tensors: Tensors, bits: int, int4: Int4Layout | None = None
) -> None:
    """Raise CheckpointError naming the first missing, extra or misshapen tensor."""
    expected = expected_tensors(config, bits, int4)
    for name in sorted(expected.keys() ^ tensors.keys()):
        what = "lacks" if name in expected else "has an unknown tensor"
        raise CheckpointError(f"the checkpoint {what} {name}")
    for name, (shape, kind) in expected.items():
        found = tensors[name]
        if found.shape != shape or found.dtype != kind:
            raise CheckpointError(
                f"{name} must be {np.dtype(kind)} {shape}, "
                f"got {found.dtype} {found.shape}"
            )


def expected_tensors(
    config: ModelConfig, bits: int, int4: Int4Layout | None
) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
    """Shape and type of every tensor by name. Raises CheckpointError if there can be no
    such checkpoint."""
    if bits not in (32, 8, 4):
        raise CheckpointError(f"bits must be 32, 8 or 4, got {bits}")
    if (bits == 4) is (int4 is None):
        raise CheckpointError(f"{bits}-bit matrices cannot have the layout {int4}")
    shapes = expected_shapes(config)
    found: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
        name: (shape, np.float32) for name, shape in shapes.items()
    }
    for name in quantized_names(config) if bits != 32 else ():
        rows, inputs = shapes[f"{name}.weight"]
        if int4 is not None and int4.packs(name):
            try:
                found |= packed_shapes(name, (rows, inputs), int4.group)
            except Int4Error as error:
                raise CheckpointError(str(error)) from error
        else:
            found[f"{name}.weight"] = (rows, inputs), np.int8
            found[f"{name}.scale"] = (rows,), np.float32
    return found


def _write_files(folder: Path, checkpoint: Checkpoint) -> None:
    int4 = checkpoint.int4
    check_tensors(checkpoint.config, checkpoint.tensors, checkpoint.bits, int4)
    tensors = {k: np.ascontiguousarray(v) for k, v in checkpoint.tensors.items()}
    if checkpoint.remembered is not None:
        held = checkpoint.remembered
        tensors |= {REMEMBERED + "ids": held.ids, REMEMBERED + "order": held.order}
    save_file(tensors, folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)  # it comes readable by its owner alone
    text = checkpoint.tokenizer.dumps()
    (folder / TOKENIZER).write_text(text, encoding="ascii")
    config = {
        "format": FORMAT,
        "model": checkpoint.config.to_json(),
        "bits": checkpoint.bits,
        "tokenizer": {"pattern": checkpoint.tokenizer.pattern},
        "provenance": dict(checkpoint.provenance),
    }
    if int4 is not None:
        config["int4"] = attrs.asdict(int4)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    write_sums(folder, [CONFIG, WEIGHTS, TOKENIZER])


def write_sums(folder: Path, names: list[str]) -> None:
    """Write SHA256SUMS for `names`, and push every file to the disk."""
    lines = [f"{_sha256(folder / name)}  {name}\n" for name in names]
    (folder / SUMS).write_text("".join(lines), encoding="ascii")
    push_to_disk(folder, [*names, SUMS])


def _verify(folder: Path) -> dict[str, str]:
    """Digest by file name. Raises CheckpointError for a missing or changed file, or
    OSError."""
    try:
        lines = (folder / SUMS).read_text(encoding="ascii").splitlines()
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{folder / SUMS} is damaged: {error.reason}") from error
    sums = {
        name: digest for digest, _, name in (line.partition("  ") for line in lines)
    }
    for name in (WEIGHTS, CONFIG, TOKENIZER):
        if name not in sums:
            raise CheckpointError(f"{folder / SUMS} does not list {name}")
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name} is missing; copy the whole folder")
        if _sha256(folder / name) != sums[name]:
            raise CheckpointError(
                f"{folder / name} is damaged: its SHA-256 is not the one in {SUMS}"
            )
    return sums


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
