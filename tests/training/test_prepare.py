"""`tabwise prepare`: from a corpus to token ids that say the same text."""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.tokenizer import TOKENIZER
from tabwise_model.tokenizer import GPT2_PATTERN, SPLIT_PATTERN, Tokenizer
from tabwise_server.cli import main
from tabwise_training.corpus.bpe import first_disagreement, train_bpe
from tabwise_training.data import Documents
from tabwise_training.errors import CorpusError
from tabwise_training.prepare import load_tokenizer

LIBRARY = Path(sysconfig.get_path("stdlib"))
VOCABULARY = 700


def write_split(corpus: Path, split: str, modules: str) -> None:
    """Some of the standard library's modules by their first letter."""
    corpus.mkdir(exist_ok=True)
    with (corpus / f"{split}.jsonl").open("w", encoding="utf-8") as stream:
        for file in sorted(f for c in modules for f in LIBRARY.glob(f"{c}*.py")):
            text = file.read_text(encoding="utf-8")
            row = {"package": "python", "family": "stdlib", "path": file.name}
            stream.write(json.dumps(row | {"text": text}) + "\n")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for split, modules in {"train": "ch", "val": "q", "test": "k"}.items():
        write_split(tmp_path / "corpus", split, modules)
    return tmp_path / "corpus"


def prepare(corpus: Path, out: Path, *arguments: object) -> int:
    given = arguments or ("--vocab-size", VOCABULARY)
    return main(
        ["prepare", "--corpus", str(corpus), "--out", str(out), *map(str, given)]
    )


def texts(corpus: Path, split: str) -> list[str]:
    lines = (corpus / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def decoded(out: Path, split: str) -> list[str]:
    """The documents of a split, each up to its END."""
    tokenizer = load_tokenizer(out)
    ids = np.fromfile(out / f"{split}.bin", np.uint16)
    ends = np.flatnonzero(ids == tokenizer.end)
    assert ends[-1] == len(ids) - 1
    parts = np.split(ids, ends + 1)[:-1]
    return [tokenizer.decode_bytes(part).decode("utf-8") for part in parts]


def manifest(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "manifest.json").read_text())
    return found


def inodes(out: Path) -> dict[str, int]:
    return {file.name: file.stat().st_ino for file in out.iterdir()}


def test_ids_are_the_documents_in_order_each_with_its_end(
    tmp_path: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert prepare(corpus, out) == 0
    for split in ("train", "val", "test"):
        assert decoded(out, split) == texts(corpus, split)
    said = manifest(out)["splits"]["train"]["counts"]
    whole = "".join(texts(corpus, "train"))
    ids = np.fromfile(out / "train.bin", np.uint16)
    assert said == {
        "files": len(texts(corpus, "train")),
        "characters": len(whole),
        "bytes": len(whole.encode()),
        "tokens": len(ids),
    }
    assert f"{len(whole):,} characters" in capsys.readouterr().out
    assert load_tokenizer(out).vocab_size == VOCABULARY
    assert ids.max() < VOCABULARY


def test_names_lie_beside_the_ids_in_the_same_order(
    tmp_path: Path, corpus: Path
) -> None:
    out = tmp_path / "out"
    prepare(corpus, out)
    lines = (out / "train.docs.jsonl").read_text().splitlines()
    names = [json.loads(line) for line in lines]
    rows = (corpus / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert [n["path"] for n in names] == [json.loads(row)["path"] for row in rows]
    ids = np.fromfile(out / "train.bin", np.uint16)
    ends = np.cumsum([n["tokens"] for n in names])
    assert (ids[ends - 1] == load_tokenizer(out).end).all()


def test_a_second_run_changes_nothing(tmp_path: Path, corpus: Path) -> None:
    out = tmp_path / "out"
    prepare(corpus, out)
    before = {f.name: f.read_bytes() for f in out.iterdir()}, inodes(out)
    prepare(corpus, out)
    after = {f.name: f.read_bytes() for f in out.iterdir()}, inodes(out)
    assert after[0] == before[0]
    before[1].pop("manifest.json")
    assert before[1].items() <= after[1].items()


def test_only_a_changed_split_is_tokenised_again(tmp_path: Path, corpus: Path) -> None:
    out = tmp_path / "out"
    prepare(corpus, out)
    before = inodes(out)
    write_split(corpus, "val", "i")
    prepare(corpus, out)
    after = inodes(out)
    assert decoded(out, "val") == texts(corpus, "val")
    same = {name for name in before if before[name] == after[name]}
    assert {"train.bin", "test.bin", "tokenizer.tiktoken"} <= same
    assert "val.bin" not in same


def test_changed_training_text_makes_another_vocabulary_and_all_ids_anew(
    tmp_path: Path, corpus: Path
) -> None:
    out = tmp_path / "out"
    prepare(corpus, out)
    first = (out / "tokenizer.tiktoken").read_bytes()
    write_split(corpus, "train", "de")
    prepare(corpus, out)
    assert (out / "tokenizer.tiktoken").read_bytes() != first
    for split in ("train", "val", "test"):
        assert decoded(out, split) == texts(corpus, split)


def test_damaged_ids_are_noticed_and_made_again(tmp_path: Path, corpus: Path) -> None:
    out = tmp_path / "out"
    prepare(corpus, out)
    whole = (out / "train.bin").read_bytes()
    (out / "train.bin").write_bytes(whole[:-100])
    prepare(corpus, out)
    assert (out / "train.bin").read_bytes() == whole


def test_the_number_of_processes_does_not_change_the_ids(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tabwise_training.corpus.tokenise.TASK_BYTES", 50_000)
    size = ("--vocab-size", VOCABULARY)
    prepare(corpus, tmp_path / "one", *size, "--jobs", 1)
    prepare(corpus, tmp_path / "two", *size, "--jobs", 2)
    for name in ("train.bin", "train.docs.jsonl", "manifest.json"):
        assert (tmp_path / "one" / name).read_bytes() == (
            tmp_path / "two" / name
        ).read_bytes()
    assert decoded(tmp_path / "one", "train") == texts(corpus, "train")


def test_a_given_tokenizer_is_taken_with_its_pattern(
    tmp_path: Path, corpus: Path
) -> None:
    prepare(corpus, tmp_path / "first")
    file = tmp_path / "first" / "tokenizer.tiktoken"
    prepare(corpus, tmp_path / "second", "--tokenizer", file)
    for name in ("tokenizer.tiktoken", "train.bin", "val.bin"):
        assert (tmp_path / "second" / name).read_bytes() == (
            tmp_path / "first" / name
        ).read_bytes()


def test_a_checkpoints_tokenizer_is_taken_with_its_pattern(
    tmp_path: Path, corpus: Path
) -> None:
    file, out = tmp_path / "imported" / "tokenizer.tiktoken", tmp_path / "out"
    file.parent.mkdir()
    file.write_text(TOKENIZER.dumps())
    prepare(corpus, out, "--tokenizer", file)
    for pattern in (GPT2_PATTERN, SPLIT_PATTERN):
        config = {"tokenizer": {"pattern": pattern}}
        (file.parent / "config.json").write_text(json.dumps(config))
        prepare(corpus, out, "--tokenizer", file)
        assert load_tokenizer(out).pattern == pattern
        source = texts(corpus, "train")[0]
        wanted = Tokenizer.load(file, pattern).encode(source)
        ids = np.fromfile(out / "train.bin", np.uint16)[: len(wanted)]
        np.testing.assert_array_equal(ids, wanted)


def test_the_seeds_split_cuts_a_folder_at_nine_tenths_of_its_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tokenizer.tiktoken"
    file.write_text(TOKENIZER.dumps())
    folder, out = LIBRARY / "json", tmp_path / "out"
    assert prepare(folder, out, "--split", "offset", "--tokenizer", file) == 0
    train, val = ("".join(decoded(out, split)) for split in ("train", "val"))
    sources = sorted(folder.glob("*.py"))
    assert train + val == "".join(f.read_text(encoding="utf-8") for f in sources)
    assert len(train) == int(0.9 * len(train + val))
    assert not (out / "test.bin").exists()
    assert "4 files" in capsys.readouterr().out


def test_splits_that_are_gone_leave_no_ids_behind(tmp_path: Path, corpus: Path) -> None:
    out = tmp_path / "out"
    prepare(corpus, out)
    (corpus / "test.jsonl").unlink()
    prepare(corpus, out)
    assert not (out / "test.bin").exists()
    assert set(manifest(out)["splits"]) == {"train", "val"}


def test_running_out_of_room_leaves_the_prepared_corpus_whole(
    tmp_path: Path, corpus: Path
) -> None:
    out = tmp_path / "out"
    prepare(corpus, out)
    before = {f.name: f.read_bytes() for f in out.iterdir()}
    write_split(corpus, "val", "abcdefg")
    command = f"ulimit -f 100; {sys.executable} -m tabwise_server prepare"
    arguments = f"--corpus {corpus} --out {out} --vocab-size {VOCABULARY}"
    done = subprocess.run(
        ["bash", "-c", f"{command} {arguments}"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == f"tabwise prepare: cannot write {out}: File too large\n"
    assert {f.name: f.read_bytes() for f in out.iterdir()} == before


@pytest.mark.parametrize("renames", range(1, 6))
def test_what_an_interrupted_prepare_leaves_is_not_trained_on(
    tmp_path: Path, corpus: Path, renames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, left = tmp_path / "out", iter(range(renames))
    replace = Path.replace

    def interrupted(file: Path, target: Path) -> Path:
        if target.parent == out and next(left, None) is None:
            raise KeyboardInterrupt
        return replace(file, target)

    ranks = {b: i for i, b in enumerate(TOKENIZER.token_bytes()[: TOKENIZER.end])}
    swapped = ranks | {b"a": ranks[b"e"], b"e": ranks[b"a"]}
    (tmp_path / "one").write_text(TOKENIZER.dumps())
    (tmp_path / "two").write_text(Tokenizer(swapped).dumps())
    assert prepare(corpus, out, "--tokenizer", tmp_path / "one", "--jobs", 1) == 0
    monkeypatch.setattr(Path, "replace", interrupted)
    assert prepare(corpus, out, "--tokenizer", tmp_path / "two", "--jobs", 1) == 130
    monkeypatch.undo()
    with pytest.raises(
        CorpusError, match=r"train\.bin is not what manifest.json names"
    ):
        Documents(out, "train", load_tokenizer(out))
    assert prepare(corpus, out, "--tokenizer", tmp_path / "two", "--jobs", 1) == 0
    assert decoded(out, "train") == texts(corpus, "train")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vocab-size", "100"], "the vocabulary must be 262..65536 ids, got 100"),
        (["--vocab-size", "60000"], "the corpus is too small for 60000 ids"),
        (["--tokenizer", "nowhere"], "--tokenizer nowhere: no such file, and not gpt2"),
    ],
)
def test_a_tokenizer_that_cannot_be_had_is_one_line(
    tmp_path: Path,
    corpus: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert prepare(corpus, tmp_path / "out", *arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"tabwise prepare: {message}")
    assert error.count("\n") == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_that_is_no_corpus_is_told_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(tmp_path, tmp_path / "out") == 1
    assert "is not a corpus: train.jsonl is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        b'{"package": "x", "path": "y.py"}',
        b'{"package": "x", "path": "y.py", "text": "caf\xe9"}',
        b'{"package": "x", "path": "y.py", "text": "\\ud800"}',
        b'{"package": "x", "path": "y.py", "text": 3}',
    ],
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_damaged_line_of_the_corpus_is_named(
    line: bytes,
    split: str,
    tmp_path: Path,
    corpus: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with (corpus / f"{split}.jsonl").open("ab") as stream:
        stream.write(line + b"\n")
    assert prepare(corpus, tmp_path / "out", "--jobs", 1) == 1
    lines = (corpus / f"{split}.jsonl").read_bytes().count(b"\n")
    where = f"train.jsonl, line {lines}" if split == "train" else "val.jsonl"
    said = capsys.readouterr().err
    assert f"{where} is not a document" in said
    assert said.count("\n") == 1


ODD = (
    "naïve café 日本語 🙂\r\n\tif x:\n\n\n        return 12345  \n"
    "<|endoftext|> isn't a sentinel\x0b\u2028 here \ufeff\n" + "\u0301e\u0301 " * 9
)


def test_the_trained_vocabulary_cuts_any_text_as_its_origin_does() -> None:
    sample = [f.read_text(encoding="utf-8") for f in sorted(LIBRARY.glob("c*.py"))]
    tokenizer, trained = train_bpe(sample, VOCABULARY)
    others = [f.read_text(encoding="utf-8") for f in sorted(LIBRARY.glob("d*.py"))]
    assert first_disagreement(tokenizer, trained, [ODD, *others]) is None
    assert len(tokenizer.encode("return self")) < len("return self")
    other = Tokenizer({bytes([b]): b for b in range(256)})
    assert first_disagreement(other, trained, ["def f():\n"]) == "def f():\n"


def test_too_little_text_for_a_vocabulary_is_refused() -> None:
    with pytest.raises(CorpusError, match="too small for 5000 ids: it gives"):
        train_bpe(["x = 1\n"], 5000)
