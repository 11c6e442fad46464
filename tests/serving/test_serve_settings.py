from typing import Any

import pytest

from tabwise_server.errors import SettingsError
from tabwise_server.settings_sources import load_settings


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
