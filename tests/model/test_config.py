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
        ({"colour": 1}, "unknown model config key 'colour'"),
    ],
)
def test_an_impossible_shape_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_json(GOOD | change)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match="lacks 'n_embd'"):
        ModelConfig.from_json({k: v for k, v in GOOD.items() if k != "n_embd"})


def test_json_comes_back() -> None:
    config = ModelConfig.from_json(GOOD)
    assert ModelConfig.from_json(config.to_json()) == config
