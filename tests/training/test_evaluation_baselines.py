import inspect
import json
from pathlib import Path

import numpy as np
import pytest

from support.tokenizer import TOKENIZER
from tabwise_training.errors import TrainingError
from tabwise_training.evaluation.ngram import (
    NGram,
    complete_all_by_counts,
    load_ngram,
)
from tabwise_training.evaluation.positions import Position
from tabwise_training.evaluation.trained_lines import lines_in, whole_line

# a vocabulary without its last piece
SHORTER = "".join(TOKENIZER.dumps().splitlines(keepends=True)[:-1])
CORPUS = inspect.getsource(json.decoder)


def at(prefix: str, truth: str = "x") -> Position:
    return Position(
        kind="mid-line", path="a.py", prefix=prefix, suffix="", truth=truth, novel=True
    )


def sample(text: str) -> NGram:
    return NGram(np.array(TOKENIZER.encode(text), np.uint16), TOKENIZER.vocab_size)


def complete(model: NGram, prefix: str) -> str:
    (found,) = complete_all_by_counts(model, TOKENIZER, [at(prefix)])
    return found


def test_counts_finish_a_line_of_the_sample() -> None:
    model = sample("import os\n" * 3 + "total = first + second\n" + "x = 1\n")
    assert complete(model, "y = 2\ntotal = fir") == "st + second"


def test_the_file_itself_outweighs_the_sample() -> None:
    model = sample("value = alpha\n" * 2)
    assert complete(model, "value = alpha\n") != ""
    assert complete(model, "value = beta\nvalue = ") == "beta"


def test_a_context_that_nothing_has_backs_off_to_shorter_ones() -> None:
    model = sample("return self\n" * 4)
    assert complete(model, "@@ret") == "urn self"


def test_every_context_is_found_where_a_plain_scan_finds_it() -> None:
    ids = np.array(TOKENIZER.encode(CORPUS[:3_000]), np.uint16)
    model = NGram(ids, TOKENIZER.vocab_size)
    for place in range(20, len(ids), 97):
        context = ids[place - 3 : place]
        spans = model._spans(context.astype(np.int64))
        same = [i for i in range(5, len(ids)) if (ids[i - 3 : i] == context).all()]
        low, high = spans[2]
        assert sorted(model._order[low:high].tolist()) == same


def test_a_large_corpus_is_sampled(prepared: Path) -> None:
    model = load_ngram(prepared, TOKENIZER, sample_tokens=5_000)
    assert 4_000 < len(model._order) < 5_000


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "tokenizer.tiktoken is missing; run `tabwise prepare` first"),
        ({"tokenizer.tiktoken": SHORTER}, "another vocabulary than the checkpoint"),
        ({"tokenizer.tiktoken": TOKENIZER.dumps()}, "train.bin: .*prepare` again"),
        (
            {"tokenizer.tiktoken": TOKENIZER.dumps(), "train.bin": ""},
            "train.bin: cannot .* empty file; run `tabwise prepare` again",
        ),
    ],
)
def test_what_cannot_be_counted_is_named(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(TrainingError, match=message):
        load_ngram(tmp_path, TOKENIZER)


def test_lines_of_the_training_split_are_recognised(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    document = {"package": "a", "path": "a.py", "text": "x = 1\n    y = call(x)\n"}
    file.write_text(json.dumps(document) + "\n")
    positions = [at("\n  y = ca", "ll(x)"), at("z = ", "3")]
    found = lines_in(file, map(whole_line, positions))
    assert found == {"y = call(x)"}
