"""`tabwise prepare`: train or take a tokenizer, and turn a corpus into token ids.

OUT/tokenizer.tiktoken, OUT/{train,val,test,time}.{bin,docs.jsonl}, and
OUT/manifest.json with the SHA-256 of what was read and written. A second run does only
what an input's change makes necessary.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import tiktoken

from tabwise_model.checkpoint import CONFIG
from tabwise_model.tokenizer import (
    GPT2_PATTERN,
    SPLIT_PATTERN,
    Tokenizer,
    TokenizerError,
)
from tabwise_training.corpus.bpe import LARGEST, first_disagreement, train_bpe
from tabwise_training.corpus.documents import (
    sample_texts,
    split_files,
    write_offset_split,
)
from tabwise_training.corpus.download import sha256_of
from tabwise_training.corpus.manifest import SPLITS
from tabwise_training.corpus.tokenise import Counts, tokenise
from tabwise_training.errors import CorpusError, TrainingError

ERRORS = (TrainingError,)
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.tiktoken"
SAMPLE_BYTES = 40_000_000  # that a tokenizer is trained on
CHECK_BYTES = 4_000_000  # that both its forms must cut alike
ID_BYTES = 2
OFFSET_SHARE = 0.9  # of characters, for training


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--corpus", type=Path, default=Path("data/corpus"), help="what collect made")
    add("--out", type=Path, default=Path("data/prepared"), help="where the ids go")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--vocab-size", type=int, default=8192, help="train a tokenizer of so many ids"
    )
    which.add_argument(
        "--tokenizer",
        help="take this one: a tokenizer.tiktoken, or gpt2 (fetched by tiktoken)",
    )
    add(
        "--split",
        choices=("family", "offset"),
        default="family",
        help="family: as collected; offset: 90/10 by characters, of any folder of code",
    )
    add("--jobs", type=int, default=os.cpu_count() or 1, help="processes")


def run(arguments: argparse.Namespace) -> int:
    out: Path = arguments.out
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out, prefix=".part-") as part:
            if arguments.split == "offset":
                files = write_offset_split(arguments.corpus, Path(part), OFFSET_SHARE)
            else:
                files = split_files(arguments.corpus)
            manifest = prepare(files, out, arguments)
    except OSError as error:
        raise CorpusError(f"cannot write {out}: {error.strerror}") from error
    except BrokenProcessPool as error:
        raise CorpusError("a process was killed; try fewer --jobs") from error
    for split, row in manifest["splits"].items():
        print(_line(split, row))
    return 0


def _line(split: str, row: dict[str, Any]) -> str:
    counts = row["counts"]
    return (
        f"{split:5} {counts['files']:8,} files {counts['characters']:12,} characters "
        f"{counts['tokens']:12,} tokens {row['bytes_per_token']:5.2f} bytes/token"
    )


def prepare(
    files: dict[str, Path], out: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Bring `out` up to date with the splits' files; returns its manifest.

    New files are put in place when all are complete; see `_publish`.
    """
    before = read_manifest(out).get("splits", {})
    inputs = {split: sha256_of(file) for split, file in files.items()}
    with TemporaryDirectory(dir=out, prefix=".part-") as folder:
        part = Path(folder)
        tokenizer, record = _tokenizer(files["train"], inputs["train"], out, arguments)
        (part / TOKENIZER).write_text(tokenizer.dumps(), encoding="ascii")
        record["sha256"] = sha256_of(part / TOKENIZER)
        splits: dict[str, Any] = {}
        for split, file in files.items():
            source = {
                "sha256": inputs[split],
                "tokenizer": record["sha256"],
                "pattern": record["pattern"],
            }
            row = before.get(split, {})
            if row.get("source") != source or not _intact(out, row.get("outputs", {})):
                counts = tokenise(file, part, split, tokenizer, max(1, arguments.jobs))
                row = _split_record(part, split, source, counts)
            splits[split] = row
        manifest = {"format": 1, "tokenizer": record, "splits": splits}
        (part / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        _publish(part, out, keep=set(splits))
    return manifest


def _publish(part: Path, out: Path, keep: set[str]) -> None:
    """Move what is new to `out`, and remove splits that are gone.

    Meanwhile `out` has a manifest of no splits, so that nobody takes what an
    interruption leaves for a corpus; the new one comes last.
    """
    files = [file for file in sorted(part.iterdir()) if file.name != MANIFEST]
    new = [file for file in files if not _same(file, out / file.name)]
    gone = [out / name for split in set(SPLITS) - keep for name in _names(split)]
    gone = [file for file in gone if file.exists()]
    if new or gone:
        unfinished = part / f"{MANIFEST}.unfinished"
        unfinished.write_text(json.dumps({"format": 1, "splits": {}}))
        unfinished.replace(out / MANIFEST)
    for file in gone:
        file.unlink()
    for file in [*new, part / MANIFEST]:
        file.replace(out / file.name)


def _same(file: Path, other: Path) -> bool:
    return other.is_file() and sha256_of(file) == sha256_of(other)


def _names(split: str) -> tuple[str, str]:
    return f"{split}.bin", f"{split}.docs.jsonl"


def _split_record(
    out: Path, split: str, source: dict[str, str], counts: Counts
) -> dict[str, Any]:
    return {
        "source": source,
        "outputs": {name: sha256_of(out / name) for name in _names(split)},
        "counts": attrs.asdict(counts),
        "bytes_per_token": round(counts.bytes / counts.tokens, 4),
    }


def read_manifest(folder: Path) -> dict[str, Any]:
    """A prepared corpus's manifest; empty if there is none that can be read."""
    data = _read_object(folder / MANIFEST)
    return data if data.get("format") == 1 else {}


def _read_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is none that can be read."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def check_split(folder: Path, split: str) -> None:
    """Raise CorpusError if a folder's manifest does not name its split, or one of
    another size. A folder without a manifest is in the plain layout, and is taken."""
    if not (folder / MANIFEST).is_file():
        return
    counts = read_manifest(folder).get("splits", {}).get(split, {}).get("counts", {})
    ids = (folder / f"{split}.bin").stat().st_size / ID_BYTES
    if counts.get("tokens") != ids:
        raise CorpusError(
            f"{folder}/{split}.bin is not what {MANIFEST} names: an interrupted "
            "`tabwise prepare` may have left it; run that again"
        )


def load_tokenizer(folder: Path) -> Tokenizer:
    """A prepared corpus's tokenizer. Raises CorpusError if it is missing or damaged."""
    return _load(folder / TOKENIZER)


def _load(file: Path) -> Tokenizer:
    """Raises CorpusError if a tokenizer's file is missing or damaged."""
    try:
        return Tokenizer.load(file, _pattern_beside(file))
    except FileNotFoundError as error:
        raise CorpusError(f"{file} is missing; run `tabwise prepare` first") from error
    except (TokenizerError, UnicodeDecodeError) as error:
        raise CorpusError(f"{file}: {error}") from error


def _pattern_beside(file: Path) -> str:
    """How a tokenizer's file splits text: as its prepared corpus's manifest says, or
    its checkpoint's config; our own way where neither lies beside it."""
    record = read_manifest(file.parent).get("tokenizer")
    if not isinstance(record, dict):
        record = _read_object(file.parent / CONFIG).get("tokenizer")
    pattern = record.get("pattern") if isinstance(record, dict) else None
    return pattern if isinstance(pattern, str) else SPLIT_PATTERN


def _tokenizer(
    train: Path, train_sha256: str, out: Path, arguments: argparse.Namespace
) -> tuple[Tokenizer, dict[str, Any]]:
    """The tokenizer asked for, and its record; `out`'s where it is the same one."""
    wanted = _origin(train_sha256, arguments)
    before = read_manifest(out).get("tokenizer", {})
    known = {TOKENIZER: before.get("sha256")}
    if before.get("origin") == wanted and _intact(out, known):
        return load_tokenizer(out), dict(before)
    if arguments.tokenizer is None:
        tokenizer = _train(train, arguments.vocab_size)
    else:
        tokenizer = _take(arguments.tokenizer)
    return tokenizer, {
        "origin": wanted,
        "pattern": tokenizer.pattern,
        "vocab_size": tokenizer.vocab_size,
    }


def _origin(train_sha256: str, arguments: argparse.Namespace) -> dict[str, Any]:
    given: str | None = arguments.tokenizer
    if given is None:
        return {"trained_on": train_sha256, "vocab_size": arguments.vocab_size}
    if given == "gpt2":
        return {"named": given, "pattern": GPT2_PATTERN}
    if not Path(given).is_file():
        raise CorpusError(f"--tokenizer {given}: no such file, and not gpt2")
    return {"file": sha256_of(Path(given)), "pattern": _pattern_beside(Path(given))}


def _train(train: Path, vocab_size: int) -> Tokenizer:
    texts = sample_texts(train, SAMPLE_BYTES)
    tokenizer, trained = train_bpe(texts, vocab_size)
    checked = sample_texts(train, CHECK_BYTES, seed=2)
    wrong = first_disagreement(tokenizer, trained, checked)
    if wrong is not None:
        raise CorpusError(
            f"the trained tokenizer and its tiktoken form differ on {wrong[:60]!r}"
        )
    return tokenizer


def _take(name: str) -> Tokenizer:
    """Raises CorpusError if it cannot be read, fetched, or kept in 16 bits."""
    tokenizer = _gpt2() if name == "gpt2" else _load(Path(name))
    if tokenizer.vocab_size > LARGEST:
        raise CorpusError(
            f"{name} has {tokenizer.vocab_size} ids; ids are kept in 16 bits, so at "
            f"most {LARGEST}"
        )
    return tokenizer


def _gpt2() -> Tokenizer:
    try:
        encoding = tiktoken.get_encoding("gpt2")
    except OSError as error:  # requests' errors are OSErrors
        raise CorpusError(
            "tiktoken cannot fetch gpt2's vocabulary; go online once, or set "
            f"TIKTOKEN_CACHE_DIR to a folder that has it ({type(error).__name__})"
        ) from error
    # tiktoken writes the pattern in another way, which cuts alike
    return Tokenizer(encoding._mergeable_ranks, GPT2_PATTERN)


def _intact(out: Path, outputs: dict[str, str]) -> bool:
    """Whether files are those that a manifest names; false for no files."""
    return bool(outputs) and all(
        (out / name).is_file() and sha256_of(out / name) == sha256
        for name, sha256 in outputs.items()
    )
