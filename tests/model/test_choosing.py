"""The native choice of tokens against the one in numpy."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabwise_model import choosing
from tabwise_model.choosing import MOST_CHOSEN, Chosen, Row, choose, choose_in_numpy
from tabwise_model.copying import CopySource
from tabwise_model.repository import Repository
from tabwise_model.runners.native_library import free_library, usable_paths
from tabwise_model.sampling import NotFinite

NATIVE = pytest.mark.skipif(free_library() is None, reason="the library is not built")
NONE = np.empty(0, np.intp)


def random_row(seed: int, vocab: int) -> Row:
    """Logits, texts of few tokens that agree often, and either ends or a choice."""
    rng = np.random.default_rng(seed)

    def text() -> np.ndarray:
        return rng.integers(0, min(4, vocab), rng.integers(0, 60)).astype(np.int32)

    files = {"a.py": text(), "b.py": text()}
    own = "a.py" if rng.random() < 0.5 else None
    held = Repository.of(files).without(own) if rng.random() < 0.5 else None
    copy = CopySource([text(), text()], held, text()) if rng.random() < 0.8 else None
    some = rng.permutation(vocab)[: rng.integers(1, vocab + 1)].astype(np.intp)
    limited = rng.random() < 0.3
    return Row(
        logits=rng.normal(0, rng.choice([0.5, 3, 20]), vocab).astype(np.float32),
        context=text().tolist(),
        copy=copy,
        ends=NONE if limited else some[: vocab // 2],
        allowed=some if limited else None,
        least=float(rng.choice([0.0, 0.001, 0.05, 0.3])),
    )


def assert_alike(found: Chosen | NotFinite, wanted: Chosen) -> None:
    """The same tokens but for those about as likely as each other, or as the least. Of
    a share within 1e-4 of one, float32 keeps the odds, by which copies are weighed, to
    three digits."""
    assert isinstance(found, Chosen)
    assert math.isclose(found.ends, wanted.ends, rel_tol=2e-3, abs_tol=1e-6)
    known = dict(zip(wanted.ids, wanted.shares, strict=True))
    assert found.shares == sorted(found.shares, reverse=True)
    for id_, share in zip(found.ids, found.shares, strict=True):
        if id_ in known:
            assert math.isclose(share, known[id_], rel_tol=2e-3, abs_tol=1e-7)
    np.testing.assert_allclose(
        found.shares[: len(wanted.shares)],
        wanted.shares[: len(found.shares)],
        rtol=2e-3,
        atol=1e-7,
    )


@NATIVE
@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.integers(0, 10**6), min_size=1, max_size=4),
    st.integers(1, 300),
    st.integers(1, MOST_CHOSEN),
)
def test_both_choose_the_same(seeds: list[int], vocab: int, width: int) -> None:
    rows = [random_row(seed, vocab) for seed in seeds]
    for found, row in zip(choose(rows, width), rows, strict=True):
        wanted = choose_in_numpy(row, width)
        assert_alike(found, wanted)
        assert isinstance(found, Chosen)
        assert abs(len(found.ids) - len(wanted.ids)) <= 1  # one on the very edge


@NATIVE
@given(st.integers(0, 10**6))
def test_every_path_chooses_the_same_to_the_last_bit(seed: int) -> None:
    library = free_library()
    assert library is not None
    rows = [random_row(seed + i, 150) for i in range(3)]
    answers = [choose(rows, 5, path) for path in usable_paths(library)]
    assert all(answer == answers[0] for answer in answers)


@NATIVE
def test_a_path_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="no instruction set 'abacus'"):
        choose([random_row(1, 50)], 3, "abacus")


@NATIVE
def test_a_row_is_chosen_from_as_if_it_were_alone() -> None:
    rows = [random_row(seed, 200) for seed in range(20)]
    together = choose(rows, 4)
    assert together == [choose([row], 4)[0] for row in rows]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("native", [True, False])
def test_a_row_that_is_not_finite_is_told_alone(
    bad: float, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not native:
        monkeypatch.setattr(choosing, "free_library", lambda: None)
    rows = [random_row(seed, 50) for seed in range(3)]
    rows[1].logits[7] = bad
    kinds = [type(answer) for answer in choose(rows, 3)]
    assert kinds == [Chosen, NotFinite, Chosen]


def test_a_wider_choice_than_the_library_has_room_for_is_made_in_numpy() -> None:
    row = Row(np.zeros(40, np.float32), (), None, NONE, None, 0.0)
    (found,) = choose([row], 30)
    assert isinstance(found, Chosen)
    assert len(found.ids) == 30
    assert choose([], 3) == []
