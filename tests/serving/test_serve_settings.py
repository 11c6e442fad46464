from typing import Any

import attrs
import pytest

from support.models import LLAMA
from tabwise_server.errors import SettingsError
from tabwise_server.serving.run import slot_count
from tabwise_server.settings import ServeSettings, load_settings


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("slots", 0, "slots must be at least 1, got 0"),
        ("threads", 0, "threads must be at least 1, got 0"),
        ("prefill_chunk", 0, "prefill_chunk must be at least 1, got 0"),
        ("max_queue", -1, "max_queue must be at least 1, got -1"),
        ("drain_s", -1.0, "drain_s must be at least 0, got -1"),
        ("body_timeout_s", float("nan"), "body_timeout_s must be at least 0.001"),
    ],
)
def test_an_option_out_of_range_is_named(option: str, value: Any, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load_settings({"serve": {option: value}}, environ={"TABWISE_CONFIG": ""})


def test_slots_fill_the_bytes_that_keys_and_values_may_take() -> None:
    slot_bytes = LLAMA.kv_bytes_per_token * LLAMA.block_size
    for bytes_, slots in ((slot_bytes, 1), (10 * slot_bytes - 1, 9), (10**12, 128)):
        assert slot_count(ServeSettings(kv_bytes=bytes_), LLAMA) == slots
    assert slot_count(ServeSettings(slots=3), LLAMA) == 3


def test_a_model_too_large_for_the_bytes_is_refused() -> None:
    large = attrs.evolve(LLAMA, block_size=100_000)
    with pytest.raises(SettingsError, match="one sequence of this model, got 1000"):
        slot_count(ServeSettings(kv_bytes=1000), large)
