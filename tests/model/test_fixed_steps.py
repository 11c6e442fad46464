"""Steps of fixed shapes are the plain ones; capture needs a GPU and is not tested here
unless there is one."""

from typing import Any

import numpy as np
import pytest
import torch

from support.models import checkpoint_of, random_checkpoint
from tabwise_model.config import Family
from tabwise_model.quantize import quantize_checkpoint
from tabwise_model.runners import fixed_steps
from tabwise_model.runners import torch as torch_runner
from tabwise_model.runners.fixed_steps import SIZES
from tabwise_model.runners.protocol import Chunk
from tabwise_model.runners.torch import TorchRunner

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def runner_of(slots: int, device: str = "cpu", **options: Any) -> TorchRunner:
    return TorchRunner(
        random_checkpoint("llama"),
        n_slots=slots,
        slot_tokens=60,
        device=device,
        **options,
    )


def prompt(slot: int) -> tuple[int, ...]:
    return tuple(7 + (slot * 5 + i) % 40 for i in range(1 + slot % 9))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [1, 3, 8, SIZES[-1] + 5])
def test_fixed_steps_equal_plain_ones(count: int, device: str) -> None:
    plain = runner_of(count, device, fixed=False)
    fixed = runner_of(count, device, fixed=True)
    for runner in (plain, fixed):
        runner.extend([Chunk(slot, 0, prompt(slot)) for slot in range(count)])
    for step in range(3):
        chunks = [Chunk(s, len(prompt(s)) + step, (9 + s % 30,)) for s in range(count)]
        chunks = chunks[::-1]
        atol = 2e-5 if device == "cpu" else 0.2
        np.testing.assert_allclose(
            fixed.extend(chunks), plain.extend(chunks), rtol=0, atol=atol
        )


@pytest.mark.parametrize("device", DEVICES)
def test_prompts_of_any_length_go_in_one_step_with_what_is_decoded(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_runner, "LONGEST", 40)
    monkeypatch.setattr(fixed_steps, "SIZES", (1, 2, 4, 8, 16, 32))
    plain = runner_of(6, device, fixed=False)
    fixed = runner_of(6, device, fixed=True)
    lengths = (1, 30, 7, 41, 1, 22)  # the fourth is long; the second is cut
    for round in range(2):
        chunks = [
            Chunk(slot, 0, tuple(3 + (slot + i + round) % 40 for i in range(length)))
            for slot, length in enumerate(lengths)
        ]
        chunks += [
            Chunk(slot, length, (5, 9 + slot, 8)) for slot, length in enumerate(lengths)
        ]
        for few in (chunks[:6], chunks[6:]):
            np.testing.assert_allclose(
                fixed.extend(few),
                plain.extend(few),
                rtol=0,
                atol=2e-5 if device == "cpu" else 0.2,
            )


def test_padding_rows_touch_no_slot() -> None:
    fixed = runner_of(5, fixed=True)
    for slot in range(5):
        fixed.extend([Chunk(slot, 0, prompt(slot))])
    before = fixed._cache.keys[:, :5].clone()
    fixed.extend([Chunk(s, len(prompt(s)), (3,)) for s in range(3)])  # padded to four
    after = fixed._cache.keys[:, :5]
    changed = (before != after).flatten(2).any(2).any(0)
    assert changed.tolist() == [True, True, True, False, False]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_weights_left_in_int8_give_the_stored_weights_logits(family: Family) -> None:
    checkpoint = quantize_checkpoint(random_checkpoint(family))
    room: dict[str, Any] = {"n_slots": 2, "slot_tokens": 60}
    floats = TorchRunner(checkpoint, device="cpu", **room)
    int8 = TorchRunner(checkpoint, device="cpu", weights="int8", **room)
    many, few = tuple(range(1, 30)), (4, 5, 6)
    for chunk in (Chunk(0, 0, many), Chunk(1, 0, few), Chunk(0, 29, few)):
        np.testing.assert_allclose(
            int8.extend_all(chunk), floats.extend_all(chunk), rtol=0, atol=2e-4
        )


def test_a_float_checkpoint_has_no_int8_weights_to_leave() -> None:
    checkpoint = checkpoint_of(random_checkpoint("llama").config)
    room: dict[str, Any] = {"n_slots": 1, "slot_tokens": 60}
    asked = TorchRunner(checkpoint, device="cpu", weights="int8", **room)
    plain = TorchRunner(checkpoint, device="cpu", **room)
    chunk = Chunk(0, 0, (1, 2, 3))
    np.testing.assert_array_equal(asked.extend_all(chunk), plain.extend_all(chunk))
