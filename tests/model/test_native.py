"""The native runner's numbers: exactly its reference's, however it is called."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.models import LLAMA, random_checkpoint
from support.native import ODD, ids, make_runner, need_library, odd_checkpoint, paths
from support.native_reference import NativeReference, exponential
from tabwise_model.checkpoint import Checkpoint, CheckpointError
from tabwise_model.quantize import quantize_checkpoint
from tabwise_model.runners.native import BadChunk, NativeRunner, NativeUnsupported
from tabwise_model.runners.native_library import NativeLibraryError
from tabwise_model.runners.protocol import Chunk, Logits
from tabwise_model.runners.torch import TorchRunner

CHECKPOINT = odd_checkpoint()
TOKENS = ids(300, vocab=ODD.vocab_size)


@pytest.fixture(autouse=True)
def library() -> None:
    need_library()


@pytest.fixture(scope="module")
def whole() -> Logits:
    """All logits of TOKENS in one call of one thread on the plain path."""
    need_library()
    runner = make_runner(CHECKPOINT, threads=1, path="plain")
    return runner.extend_all(Chunk(0, 0, TOKENS))


def loud_checkpoint() -> Checkpoint:
    """Every weight at an end of its range: no two sums fit 16 bits."""
    return _with_weights(lambda w: np.where(w < 0, np.int8(-127), np.int8(127)))


def quiet_checkpoint() -> Checkpoint:
    """Weights so small that all of them do."""
    return _with_weights(lambda w: w // 8)


def _with_weights(change: Callable[[Any], Any]) -> Checkpoint:
    plain = odd_checkpoint()
    tensors = {
        name: change(tensor) if tensor.dtype == np.int8 else tensor
        for name, tensor in plain.tensors.items()
    }
    return attrs.evolve(plain, tensors=tensors)


MAKERS = [
    lambda: random_checkpoint("llama"),
    odd_checkpoint,
    loud_checkpoint,
    quiet_checkpoint,
]


@pytest.mark.parametrize("make", MAKERS)
def test_logits_are_the_references_to_the_last_bit_on_every_path(make: Any) -> None:
    checkpoint = make()
    tokens = ids(40, vocab=checkpoint.config.vocab_size)
    reference = NativeReference(checkpoint).logits(tokens)
    for path in paths():
        found = make_runner(checkpoint, path=path).extend_all(Chunk(0, 0, tokens))
        np.testing.assert_array_equal(found, reference, err_msg=path)


def test_every_path_gives_the_same_bits_before_and_after_a_thousand_keys() -> None:
    """Up to 1,024 keys some paths mix values in another way than beyond, where sums of
    equal ones, equally attended to, pass 32 bits."""
    tokens = (7,) * 1100
    room: dict[str, Any] = {"n_slots": 1, "slot_tokens": len(tokens)}
    checkpoint = odd_checkpoint()
    for layer in range(ODD.n_layer):
        checkpoint.tensors[f"layers.{layer}.attention.q.weight"][:] = 0
    plain = make_runner(checkpoint, path="plain", **room)
    expected = plain.extend_all(Chunk(0, 0, tokens))
    for path in paths():
        runner = make_runner(checkpoint, path=path, **room)
        found = runner.extend_all(Chunk(0, 0, tokens))
        np.testing.assert_array_equal(found, expected, err_msg=path)


def test_adopted_slots_are_what_the_other_runner_computed() -> None:
    old = make_runner(CHECKPOINT, n_slots=3)
    for slot in range(3):
        old.extend([Chunk(slot, 0, TOKENS[slot : slot + 40])])
    fresh = make_runner(CHECKPOINT, n_slots=3)
    fresh.adopt(old, [40, 0, 17])
    for slot, held in ((0, 40), (2, 17)):
        more = Chunk(slot, held, TOKENS[slot + held : slot + held + 5])
        np.testing.assert_array_equal(fresh.extend_all(more), old.extend_all(more))
    with pytest.raises(ValueError, match="like this one"):
        fresh.adopt(make_runner(CHECKPOINT, n_slots=4), [0, 0, 0])


def test_logits_stay_within_four_percent_of_torch_in_fp32() -> None:
    """The error's norm over the logits' norm, weights and activations being INT8."""
    checkpoint = random_checkpoint("llama")
    torch_runner = TorchRunner(checkpoint, n_slots=1, slot_tokens=64, device="cpu")
    tokens = ids(50)
    exact = torch_runner.extend_all(Chunk(0, 0, tokens))
    found = make_runner(checkpoint).extend_all(Chunk(0, 0, tokens))
    error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert 0 < error < 0.04


def test_the_references_exponential_is_one() -> None:
    a = np.linspace(-87, 87, 100_001, dtype=np.float32)
    error = np.abs(exponential(a) / np.exp(a.astype(np.float64)) - 1)
    assert (error < 2e-7 * np.maximum(np.abs(a), 1)).all()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_path_and_thread_count_gives_the_same_bits(
    threads: int, whole: Logits
) -> None:
    for path in paths():
        runner = make_runner(CHECKPOINT, threads=threads, path=path)
        found = runner.extend_all(Chunk(0, 0, TOKENS))
        np.testing.assert_array_equal(found, whole, err_msg=path)


@settings(max_examples=25, deadline=None)
@given(cuts=st.sets(st.integers(1, 299), max_size=12), threads=st.integers(1, 2))
def test_any_chunking_gives_the_same_bits(
    cuts: set[int], threads: int, whole: Logits
) -> None:
    runner = make_runner(CHECKPOINT, threads=threads)
    edges = [0, *sorted(cuts), 300]
    for start, end in pairwise(edges):
        logits = runner.extend([Chunk(2, start, TOKENS[start:end])])[0]
        np.testing.assert_array_equal(logits, whole[end - 1])


@settings(max_examples=15, deadline=None)
@given(starts=st.lists(st.integers(0, 250), min_size=1, max_size=4), data=st.data())
def test_a_mixed_batch_gives_each_chunk_what_it_gets_alone(
    starts: list[int], data: st.DataObject, whole: Logits
) -> None:
    runner = make_runner(CHECKPOINT)
    chunks = []
    for slot, start in enumerate(starts):
        if start:
            runner.extend([Chunk(slot, 0, TOKENS[:start])])
        end = start + data.draw(st.sampled_from([1, 1, 2, 17, 50]))
        chunks.append(Chunk(slot, start, TOKENS[start:end]))
    order = data.draw(st.permutations(chunks))
    logits = runner.extend(order)
    ends = [chunk.start + len(chunk.tokens) - 1 for chunk in order]
    np.testing.assert_array_equal(logits, whole[ends])


@pytest.mark.parametrize("shared", [1, 15, 16, 37, 200])
def test_a_copied_slot_goes_on_as_its_source_and_leaves_it_be(
    shared: int, whole: Logits
) -> None:
    runner = make_runner(CHECKPOINT)
    runner.extend([Chunk(3, 0, ids(320, seed=9))])  # what the target held before
    runner.extend([Chunk(0, 0, TOKENS[:210])])
    runner.copy_slot(0, 3, shared)
    rest = runner.extend_all(Chunk(3, shared, TOKENS[shared:]))
    np.testing.assert_array_equal(rest, whole[shared:])
    more = runner.extend_all(Chunk(0, 210, TOKENS[210:]))
    np.testing.assert_array_equal(more, whole[210:])


def test_a_slot_forgets_what_is_overwritten(whole: Logits) -> None:
    runner = make_runner(CHECKPOINT)
    runner.extend([Chunk(0, 0, ids(320, seed=5))])
    again = runner.extend_all(Chunk(0, 0, TOKENS))
    np.testing.assert_array_equal(again, whole)


def test_float32_checkpoints_are_quantised_as_tabwise_quantize_does() -> None:
    plain = random_checkpoint("llama")
    first, second = (
        make_runner(checkpoint).extend_all(Chunk(0, 0, ids(20)))
        for checkpoint in (plain, quantize_checkpoint(plain))
    )
    np.testing.assert_array_equal(first, second)


def test_no_chunks_give_no_logits() -> None:
    assert make_runner(CHECKPOINT).extend([]).shape == (0, ODD.vocab_size)


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([Chunk(4, 0, (1,))], "slot must be 0..3, got 4"),
        ([Chunk(-1, 0, (1,))], "slot must be"),
        ([Chunk(0, 320, (1,))], "1 from 320 in a slot of 320"),
        ([Chunk(0, -1, (1, 2))], "from -1"),
        ([Chunk(0, 0, ())], "needs tokens"),
        ([Chunk(0, 0, (1001,))], "token ids must be 0..1000"),
        ([Chunk(0, 0, (1, -1))], "token ids"),
        ([Chunk(0, 0, (2**40,))], "token ids"),
        ([Chunk(1, 0, (1,)), Chunk(1, 1, (1,))], "the same slot"),
    ],
)
def test_a_chunk_out_of_bounds_is_an_error(chunks: list[Chunk], message: str) -> None:
    with pytest.raises(BadChunk, match=message):
        make_runner(CHECKPOINT).extend(chunks)


@pytest.mark.parametrize("copy", [(0, 4, 1), (-1, 0, 1), (0, 1, 321), (0, 1, -1)])
def test_a_copy_out_of_bounds_is_an_error(copy: tuple[int, int, int]) -> None:
    with pytest.raises(BadChunk):
        make_runner(CHECKPOINT).copy_slot(*copy)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "avx1024"}, "path must be one of"),
        ({"threads": 0}, "threads must be 1..64, got 0"),
        ({"n_slots": 0}, "n_slots must be at least 1"),
        ({"slot_tokens": 0}, "slot_tokens must be at least 1"),
        ({"n_slots": 2**20, "slot_tokens": 2**24}, "no memory for"),
    ],
)
def test_an_impossible_option_is_an_error(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(NativeLibraryError, match=message):
        make_runner(CHECKPOINT, **options)


def test_family_gpt2_is_sent_to_the_torch_runner() -> None:
    with pytest.raises(NativeUnsupported, match="use the torch runner"):
        NativeRunner(random_checkpoint("gpt2"), n_slots=1, slot_tokens=8)


def test_a_weight_of_minus_128_is_an_error() -> None:
    """Its products would not fit where AVX2 adds them."""
    tensors = dict(CHECKPOINT.tensors)
    tensors["layers.1.mlp.down.weight"] = tensors["layers.1.mlp.down.weight"].copy()
    tensors["layers.1.mlp.down.weight"][3, 3] = -128
    broken: Checkpoint = attrs.evolve(CHECKPOINT, tensors=tensors)
    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.down\.weight"):
        make_runner(broken)


def test_a_closed_runner_says_so() -> None:
    runner = make_runner(CHECKPOINT)
    runner.close()
    runner.close()
    with pytest.raises(NativeLibraryError, match="closed"):
        runner.extend([Chunk(0, 0, (1,))])


def test_it_is_the_shape_of_the_protocol() -> None:
    runner = make_runner(random_checkpoint("llama"), n_slots=2, slot_tokens=50)
    assert (runner.config, runner.device) == (LLAMA, "cpu")
    assert (runner.n_slots, runner.slot_tokens) == (2, 50)
    logits = runner.extend([Chunk(1, 0, ids(50))])
    assert logits.shape == (1, LLAMA.vocab_size)
    assert logits.dtype == np.float32
