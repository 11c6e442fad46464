import numpy as np
import pytest
import torch

from support.models import LLAMA, random_checkpoint
from tabwise_model.config import Family
from tabwise_model.gpt import GPT
from tabwise_model.quantize import dequantize_checkpoint, quantize_checkpoint
from tabwise_model.runners.protocol import Chunk
from tabwise_model.runners.torch import TorchRunner


def make_runner(family: Family = "llama", slots: int = 4) -> TorchRunner:
    return TorchRunner(
        random_checkpoint(family), n_slots=slots, slot_tokens=64, device="cpu"
    )


def ids(count: int, seed: int = 1) -> tuple[int, ...]:
    rng = np.random.default_rng(seed)
    return tuple(int(i) for i in rng.integers(0, LLAMA.vocab_size, count))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_cached_logits_are_the_uncached_ones(family: Family) -> None:
    runner, tokens = make_runner(family), ids(20)
    whole = runner.extend_all(Chunk(0, 0, tokens))
    first = runner.extend_all(Chunk(1, 0, tokens[:7]))
    second = runner.extend_all(Chunk(1, 7, tokens[7:19]))
    third = runner.extend([Chunk(1, 19, tokens[19:])])
    pieces = np.concatenate([first, second, third])
    np.testing.assert_allclose(pieces, whole, rtol=0, atol=2e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_batched_logits_are_those_of_each_alone(family: Family) -> None:
    runner = make_runner(family)
    for slot, length in enumerate((3, 9, 5)):
        runner.extend([Chunk(slot, 0, ids(length, seed=slot))])
    alone = []
    for slot, length in enumerate((3, 9, 5)):
        alone.append(runner.extend([Chunk(slot, length, (7,))])[0].copy())
    batched = runner.extend(
        [Chunk(slot, length, (7,)) for slot, length in enumerate((3, 9, 5))]
    )
    np.testing.assert_allclose(batched, np.stack(alone), rtol=0, atol=2e-5)


def test_chunks_of_unequal_length_go_in_one_call() -> None:
    runner, other = make_runner(), make_runner()
    mixed = runner.extend([Chunk(0, 0, ids(9)), Chunk(2, 0, (5,)), Chunk(1, 0, ids(4))])
    for row, chunk in enumerate([Chunk(0, 0, ids(9)), Chunk(1, 0, (5,))]):
        np.testing.assert_allclose(
            mixed[row], other.extend([chunk])[0], rtol=0, atol=2e-5
        )


def test_a_copied_slot_goes_on_as_its_source() -> None:
    runner = make_runner()
    runner.extend([Chunk(0, 0, ids(12))])
    runner.copy_slot(0, 3, 8)
    runner.extend([Chunk(3, 8, ids(12)[8:])])
    a = runner.extend([Chunk(0, 12, (3,))])[0].copy()
    b = runner.extend([Chunk(3, 12, (3,))])[0]
    np.testing.assert_allclose(a, b, rtol=0, atol=2e-5)


def test_a_token_does_not_see_the_future() -> None:
    model = GPT(LLAMA)
    tokens = torch.tensor([ids(10)])
    changed = tokens.clone()
    changed[0, 6:] = 1
    with torch.no_grad():
        a, b = model.hidden(tokens), model.hidden(changed)
    torch.testing.assert_close(a[:, :6], b[:, :6])
    assert not torch.allclose(a[:, 6:], b[:, 6:])


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_int8_logits_stay_within_three_percent_of_fp32(family: Family) -> None:
    """The error's norm over the logits' norm; weights alone are quantised here."""
    plain = random_checkpoint(family)
    small = quantize_checkpoint(plain)
    logits = []
    for checkpoint in (plain, small):
        runner = TorchRunner(checkpoint, n_slots=1, slot_tokens=64, device="cpu")
        logits.append(runner.extend_all(Chunk(0, 0, ids(30))))
    error = np.linalg.norm(logits[1] - logits[0]) / np.linalg.norm(logits[0])
    assert 0 < error < 0.03


def test_dequantised_weights_are_within_half_a_step() -> None:
    plain = random_checkpoint("llama")
    small = quantize_checkpoint(plain)
    back = dequantize_checkpoint(small)
    for name in ("embed", "layers.1.mlp.down"):
        scale = small.tensors[f"{name}.scale"][:, None]
        error = np.abs(back.tensors[f"{name}.weight"] - plain.tensors[f"{name}.weight"])
        assert (error <= scale / 2 * 1.001).all()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_layers_that_share_an_input_give_the_same_in_one_product(
    family: Family,
) -> None:
    model = GPT(random_checkpoint(family).config)
    tokens = torch.tensor([ids(20), ids(20, seed=2)])
    apart = model.eval().hidden(tokens)
    together = model.train().hidden(tokens)
    torch.testing.assert_close(together, apart, rtol=0, atol=2e-5)
    torch.autograd.backward(together.square().sum())
    found = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    torch.autograd.backward(model.eval().hidden(tokens).square().sum())
    for one, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("autocast", "stream"),
    [(torch.bfloat16, torch.bfloat16), (torch.float16, torch.float32)],
)
def test_the_residual_stream_is_bfloat16_where_products_are(
    autocast: torch.dtype, stream: torch.dtype
) -> None:
    model = GPT(LLAMA)
    tokens = torch.tensor([ids(20)])
    exact = model.hidden(tokens)
    kinds = []
    handle = model.layers[1].register_forward_pre_hook(
        lambda _, given: kinds.append(given[0].dtype)
    )
    with torch.autocast("cpu", autocast):
        found = model.hidden(tokens)
    handle.remove()
    assert kinds == [stream]
    torch.testing.assert_close(found.float(), exact, rtol=0, atol=0.06)
