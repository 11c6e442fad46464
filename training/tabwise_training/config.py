"""A training recipe: typed TOML, unknown keys refused, flags on top."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import cattrs
from cattrs.errors import BaseValidationError
from cattrs.v import format_exception, transform_error

from tabwise_training.data import DataConfig
from tabwise_training.errors import TrainingError


@attrs.frozen(kw_only=True)
class ModelShape:
    """[model]: ModelConfig without the vocabulary, which the data decides."""

    family: Literal["llama", "gpt2"] = "llama"
    block_size: int
    n_layer: int
    n_head: int
    n_kv_head: int
    n_embd: int
    mlp_hidden: int
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    dropout: float = 0.0
    head_dim: int | None = None


@attrs.frozen(kw_only=True)
class OptimConfig:
    """[optim]. Learning rates are peaks; muon_lr 0 gives every matrix to AdamW."""

    muon_lr: float = 0.02
    adam_lr: float = 3e-3
    momentum: float = 0.95
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.05
    grad_clip: float = 1.0


def _count(default: Any = attrs.NOTHING, least: int = 1) -> Any:
    """A field that is a number of `least` or more."""
    return attrs.field(default=default, validator=attrs.validators.ge(least))


@attrs.frozen(kw_only=True)
class RunConfig:
    """[run]. Batches in tokens a step over all processes; micro-batches in rows.

    init_from: `scratch`, a checkpoint's folder, a Hugging Face folder (Llama or GPT-2),
    or one of OpenAI's `gpt2`, `gpt2-medium`, `gpt2-large`, `gpt2-xl`. A run that has
    checkpoints of its own resumes from them whatever this says.
    schedule: `linear` holds the peak, then falls in a line over the last
    `decay_share` of the steps to `final_lr` times the peak; `cosine` falls from the
    warm-up on.
    """

    out: str
    init_from: str = "scratch"
    steps: int = _count(least=0)
    batch_tokens: int = _count()
    micro_rows: int = _count(8)
    warmup_steps: int = _count(100, least=0)
    schedule: Literal["linear", "cosine"] = "linear"
    decay_share: float = 0.6
    final_lr: float = 0.05
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "auto"
    compile: bool = False
    seed: int = _count(1, least=0)
    eval_every: int = _count(250)
    eval_rows: int = _count(128)
    save_every: int = _count(250)
    log_every: int = _count(10)
    threads: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.ge(1))
    )


@attrs.frozen(kw_only=True)
class TrainConfig:
    model: ModelShape
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    run: RunConfig

    def to_json(self) -> dict[str, Any]:
        return attrs.asdict(self)


def load_config(file: Path, flags: Sequence[str] = ()) -> TrainConfig:
    """Read a recipe; flags are `--section.key value` pairs over it.

    Raises TrainingError naming the key that is unknown, missing or ill-typed.
    """
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"cannot read {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainingError(f"{file} is not TOML: {error}") from error
    apply_flags(data, flags)
    return structure_config(data, str(file))


def structure_config(data: dict[str, Any], source: str) -> TrainConfig:
    try:
        return _converter().structure(data, TrainConfig)
    except BaseValidationError as error:
        raise TrainingError(
            f"{source}: " + "; ".join(transform_error(error, format_exception=_said))
        ) from error


def _said(error: BaseException, kind: type | None) -> str:
    """As cattrs says it; what a field's validator said, in its words."""
    if type(error) is ValueError and error.args:
        return str(error.args[0])
    return format_exception(error, kind)


def apply_flags(data: dict[str, Any], flags: Sequence[str]) -> None:
    """Put `--section.key value` pairs into a recipe. Raises TrainingError."""
    pairs = list(flags)
    while pairs:
        name = pairs.pop(0)
        section, dot, key = name.removeprefix("--").partition(".")
        if not name.startswith("--") or not dot or not pairs:
            raise TrainingError(
                f"flags are `--section.key value`, e.g. --run.steps 100; got {name!r}"
            )
        keys = data.setdefault(section, {})
        if not isinstance(keys, dict):
            raise TrainingError(f"{section} must be a table of keys, got {keys!r}")
        keys[key] = _parse(pairs.pop(0))


def _parse(text: str) -> Any:
    """A flag's value as TOML would read it; anything else is a string."""
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    for kind in (int, float, str, bool):
        converter.register_structure_hook(kind, _exactly(kind))
    return converter


def _exactly(kind: type) -> Any:
    allowed = (int, float) if kind is float else (kind,)

    def read(value: Any, _: Any) -> Any:
        if isinstance(value, bool) is not (kind is bool) or not isinstance(
            value, allowed
        ):
            raise TypeError(f"must be {kind.__name__}, got {value!r}")
        return kind(value)

    return read
