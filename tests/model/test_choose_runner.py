from typing import Any

import pytest

from support.models import random_checkpoint
from tabwise_model.runners import choose
from tabwise_model.runners.choose import NoRunner, available_runners, load_runner

SIZES: dict[str, Any] = {"n_slots": 1, "slot_tokens": 64}


def kind(**options: Any) -> str:
    family = options.pop("family", "llama")
    return type(load_runner(random_checkpoint(family), **options, **SIZES)).__name__


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The runners that are taken to be installed; the test changes them."""
    names = {"torch"}
    monkeypatch.setattr(choose, "_installed", lambda name: name in names)
    return names


@pytest.mark.skipif("native" not in available_runners(), reason="not built here")
def test_the_native_runner_is_preferred() -> None:
    assert kind() == "NativeRunner"
    assert kind(runner="torch", device="cpu") == "TorchRunner"


@pytest.mark.skipif("native" not in available_runners(), reason="not built here")
def test_what_the_native_runner_cannot_run_goes_to_torch() -> None:
    assert kind(family="gpt2") == "TorchRunner"
    with pytest.raises(NoRunner, match=r"native: .*family llama, not gpt2"):
        kind(family="gpt2", runner="native")


def test_without_a_native_library_torch_serves(installed: set[str]) -> None:
    assert kind() == "TorchRunner"
    with pytest.raises(NoRunner, match="no runner here for runner 'native'"):
        kind(runner="native")


def test_without_any_the_remedy_is_told(installed: set[str]) -> None:
    installed.clear()
    with pytest.raises(NoRunner, match=r"pip install 'tabwise\[torch\]'"):
        kind()


def test_a_gpu_means_torch(installed: set[str]) -> None:
    installed.symmetric_difference_update({"native", "torch"})
    with pytest.raises(NoRunner, match="device 'cuda'"):
        kind(device="cuda")


def test_an_unknown_runner_is_refused() -> None:
    with pytest.raises(NoRunner, match="auto or one of native, torch, got 'jax'"):
        kind(runner="jax")


def test_an_unknown_form_of_weights_is_refused() -> None:
    with pytest.raises(NoRunner, match="weights must be one of float, int8"):
        kind(weights="int2")


@pytest.mark.parametrize("runner", available_runners())
def test_slots_fill_the_bytes_that_keys_and_values_take(runner: str) -> None:
    checkpoint = random_checkpoint("llama")

    def slots(kv_bytes: int, most: int = choose.MAX_SLOTS) -> int:
        made = load_runner(
            checkpoint,
            runner=runner,
            device="cpu",
            kv_bytes=kv_bytes,
            most_slots=most,
            slot_tokens=64,
        )
        return made.n_slots

    token = type(
        load_runner(checkpoint, runner=runner, device="cpu", **SIZES)
    ).kv_bytes_per_token(checkpoint.config)
    assert slots(64 * token) == 1
    assert slots(10 * 64 * token - 1) == 9
    with pytest.raises(NoRunner, match="one sequence of this model, got 10"):
        slots(10)
    assert slots(10 * 64 * token, most=4) == 4
    assert slots(10**12) == choose.MAX_SLOTS
