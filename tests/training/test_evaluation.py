import inspect
import json

import pytest

from tabwise_training.evaluation.baselines import copy_similar_line
from tabwise_training.evaluation.metrics import (
    Prediction,
    Share,
    exact_share,
    operating_points,
)
from tabwise_training.evaluation.positions import (
    KINDS,
    NoPosition,
    Position,
    draw_positions,
)

SOURCE = inspect.getsource(json.decoder)
DOCUMENTS = [("decoder.py", SOURCE), ("encoder.py", inspect.getsource(json.encoder))]


def test_a_position_and_its_truth_are_the_file() -> None:
    for position in draw_positions(DOCUMENTS, 200, seed=1):
        text = dict(DOCUMENTS)[position.path]
        whole = position.prefix + position.truth
        assert text.startswith(whole)
        assert text[len(whole) :].lstrip(" \t") == position.suffix
        assert position.truth == position.truth.rstrip() != ""


def test_kinds_come_in_equal_shares_and_the_seed_decides() -> None:
    positions = draw_positions(DOCUMENTS, 40, seed=1)
    assert [p.kind for p in positions] == list(KINDS) * 10
    assert positions == draw_positions(DOCUMENTS, 40, seed=1)
    assert positions != draw_positions(DOCUMENTS, 40, seed=2)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["import os\nimport sys\n"], r'kind "after . \( =" \(documents: 1\); give'),
        (["# a\n", "x\n"], r'kind "next line" \(documents: 2\)'),
        ([], "the documents are empty"),
        (["", ""], "the documents are empty"),
    ],
)
def test_documents_without_a_place_for_a_cursor_are_refused(
    texts: list[str], message: str
) -> None:
    with pytest.raises(NoPosition, match=message):
        draw_positions([("a.py", text) for text in texts], 8, seed=1)


def test_kinds_are_what_they_say() -> None:
    for position in draw_positions(DOCUMENTS, 200, seed=3):
        typed = position.prefix.split("\n")[-1]
        if position.kind == "next line":
            assert typed.strip() == ""
        if position.kind == "mid-identifier":
            assert (typed[-1] + position.truth[0]).isidentifier() or typed[-1].isdigit()
        if position.kind == "after . ( =":
            assert typed.rstrip(" ")[-1] in ".(="


def at(prefix: str) -> Position:
    return Position(
        kind="mid-line", path="a.py", prefix=prefix, suffix="", truth="x", novel=True
    )


@pytest.mark.parametrize(
    ("prefix", "wanted"),
    [
        ("total = a + b\nx = 1\ntotal = ", "a + b"),
        ("def f():\n    pass\ndef f():\n    ", "pass"),
        ("x = 1\n", ""),
        ("a = self.value\nb = self.other\nc(self.v", "alue"),
    ],
)
def test_the_copy_baseline(prefix: str, wanted: str) -> None:
    assert copy_similar_line(at(prefix)) == wanted


def test_the_wilson_interval_is_the_textbook_one() -> None:
    low, high = Share(10, 100).interval
    assert (low, high) == pytest.approx((0.0552, 0.1744), abs=1e-3)
    assert Share(0, 10).interval[0] == pytest.approx(0)


def test_confident_predictions_are_shown_first() -> None:
    predictions = [
        Prediction(text="a", truth="a", confidence=0.9),
        Prediction(text="a", truth="b", confidence=0.2),
        Prediction(text="a", truth="a", confidence=0.5),
        Prediction(text="a", truth="b", confidence=0.4),
    ]
    half, full = operating_points(predictions, [0.5, 1.0])
    assert (half.precise.value, half.shown.value, half.threshold) == (1.0, 0.5, 0.5)
    assert full.precise == exact_share(predictions) == Share(2, 4)


def test_partial_credit() -> None:
    prediction = Prediction(text="self.name", truth="self.node")
    assert not prediction.exact
    assert prediction.correct_prefix == pytest.approx(6 / 9)
    assert prediction.similarity == pytest.approx(7 / 9)
