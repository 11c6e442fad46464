from typing import Any

import pytest

from tabwise_model.config import ConfigError, ModelConfig

GOOD: dict[str, Any] = {
    "vocab_size": 300,
    "block_size": 64,
    "n_layer": 2,
    "n_head": 4,
    "n_kv_head": 2,
    "n_embd": 32,
    "mlp_hidden": 48,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_layer": 0}, "n_layer must be at least 1"),
        ({"n_head": 5}, "n_embd 32 must divide by n_head 5"),
        ({"n_kv_head": 3}, "n_head 4 must divide by n_kv_head 3"),
        ({"family": "bert"}, "'bert'"),
        ({"family": "gpt2"}, "gpt2 needs n_kv_head = n_head"),
        ({"vocab_size": 70_000}, "uint16"),
        ({"head_dim": 0}, "head_dim must be at least 1, got 0"),
        ({"head_dim": 7}, "must be even for RoPE, got 7"),
        ({"family": "gpt2", "n_kv_head": 4, "head_dim": 8}, "gpt2 cannot have a head_"),
        ({"colour": 1}, "unknown model config key 'colour'"),
    ],
)
def test_an_impossible_shape_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_json(GOOD | change)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match="lacks 'n_embd'"):
        ModelConfig.from_json({k: v for k, v in GOOD.items() if k != "n_embd"})


@pytest.mark.parametrize("change", [{}, {"n_head": 6, "head_dim": 8}])
def test_json_comes_back(change: dict[str, Any]) -> None:
    config = ModelConfig.from_json(GOOD | change)
    assert ModelConfig.from_json(config.to_json()) == config
    assert ("head_dim" in config.to_json()) is bool(change)


def test_a_head_is_its_share_of_the_width_unless_told() -> None:
    usual = ModelConfig.from_json(GOOD)
    assert (usual.head_size, usual.query_width) == (8, 32)
    fewer = ModelConfig.from_json(GOOD | {"n_head": 6, "head_dim": 8})
    assert (fewer.head_size, fewer.query_width) == (8, 48)
