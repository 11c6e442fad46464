"""What stays of a model: how much, as asked for, and which, by its importance."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import numpy as np

from tabwise_model.config import ModelConfig
from tabwise_training.errors import TrainingError
from tabwise_training.pruning.cut import Ints
from tabwise_training.pruning.importance import Doubles


class PruningError(TrainingError):
    """A size that cannot be asked for; the message names it and what can."""


@attrs.frozen(kw_only=True)
class Plan:
    """How many of each stay; in every layer, of heads and channels."""

    layers: int
    heads: int
    kv_heads: int
    channels: int


def plan_for(
    config: ModelConfig,
    *,
    layers: int | None = None,
    heads: int | None = None,
    kv_heads: int | None = None,
    channels: int | None = None,
) -> Plan:
    """What is asked for; None for all there are. Raises PruningError."""
    if kv_heads is None and heads is not None and heads < config.n_kv_head:
        kv_heads = heads
    if config.family == "gpt2" and heads not in (None, config.n_head):
        raise PruningError("family gpt2 keeps all its heads: their size is fixed")
    plan = Plan(
        layers=_within("layers", layers, config.n_layer),
        heads=_within("heads", heads, config.n_head),
        kv_heads=_within("kv-heads", kv_heads, config.n_kv_head),
        channels=_within("mlp", channels, config.mlp_hidden),
    )
    together = config.n_head // config.n_kv_head
    if plan.heads % plan.kv_heads or plan.heads // plan.kv_heads > together:
        raise PruningError(
            f"--heads {plan.heads} must be 1 to {together} times --kv-heads "
            f"{plan.kv_heads}"
        )
    if plan == _whole(config):
        raise PruningError("nothing to prune: give fewer --layers, --heads or --mlp")
    return plan


def choose_heads(
    importance: Doubles, config: ModelConfig, plan: Plan
) -> list[Mapping[int, list[int]]]:
    """For each layer, the query heads that stay by their KV head: of each KV head's the
    most important, and of KV heads those whose heads are."""
    together = config.n_head // config.n_kv_head
    each = plan.heads // plan.kv_heads
    chosen: list[Mapping[int, list[int]]] = []
    for of_layer in importance.reshape(-1, config.n_kv_head, together):
        best = np.argsort(-of_layer, axis=1, kind="stable")[:, :each]
        worth = np.take_along_axis(of_layer, best, axis=1).sum(axis=1)
        groups = np.argsort(-worth, kind="stable")[: plan.kv_heads]
        chosen.append(
            {
                int(kv): sorted(int(kv * together + head) for head in best[kv])
                for kv in sorted(groups)
            }
        )
    return chosen


def choose_channels(importance: Doubles, plan: Plan) -> list[Ints]:
    """For each layer, its most important channels in their order."""
    best = np.argsort(-importance, axis=1, kind="stable")[:, : plan.channels]
    return [np.sort(of_layer) for of_layer in best]


def _within(name: str, asked: int | None, there: int) -> int:
    if asked is None:
        return there
    if not 1 <= asked <= there:
        raise PruningError(f"--{name} must be 1..{there}, got {asked}")
    return asked


def _whole(config: ModelConfig) -> Plan:
    return Plan(
        layers=config.n_layer,
        heads=config.n_head,
        kv_heads=config.n_kv_head,
        channels=config.mlp_hidden,
    )
