"""Our byte-level BPE, kept in tiktoken's format, and its six sentinels.

A tokenizer file is lines of `base64(bytes) rank`; its sentinels take the ids after the
last rank. Text never encodes to a sentinel.
"""

from __future__ import annotations

import base64
import binascii
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import regex
import tiktoken

Ids = npt.NDArray[np.int32]

# Qwen2's pattern: llama.cpp knows it as "qwen2", and a digit is always its own piece.
SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2_PATTERN = (
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
# Characters that are remembered with their ids, in whole texts, again in paragraphs and
# again in lines: of a document that is being typed, and of all of them. The least is
# what a few questions with other files about them hold.
DOCUMENT_CHARS, LEAST_CHARS, KEPT_CHARS = 40_000, 1_000_000, 12_000_000
HEAD_CHARS, PARAGRAPH_CHARS, LINE_CHARS = 32_000, 4_000, 1_000  # longer ones are not
ENTRY_CHARS = 250  # what keeping one costs beside its text
_BLANK_LINE = regex.compile(r"\n\n(?=[ \t]*\S)")
PIECE_CHARS = 256  # a longer piece is looked at in part
END = "<|endoftext|>"
FIM_PREFIX = "<|fim_prefix|>"
FIM_SUFFIX = "<|fim_suffix|>"
FIM_MIDDLE = "<|fim_middle|>"
FILE_SEP = "<|file_sep|>"
REPO_NAME = "<|repo_name|>"
SENTINELS = (END, FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE, FILE_SEP, REPO_NAME)


class TokenizerError(ValueError):
    """A tokenizer file that cannot be read; the message names line and remedy."""


class Tokenizer:
    """Encode text to ids and back, exactly, for any bytes."""

    def __init__(self, ranks: dict[bytes, int], pattern: str = SPLIT_PATTERN) -> None:
        """ranks: token bytes -> id, 0..len-1, every single byte among them."""
        if sorted(ranks.values()) != list(range(len(ranks))):
            raise TokenizerError("ranks must be 0..N-1, each once")
        missing = [b for b in range(256) if bytes([b]) not in ranks]
        if missing:
            raise TokenizerError(f"no token for byte {missing[0]:#04x}")
        self._ranks = ranks
        self._split = regex.compile(pattern)
        self.pattern = pattern
        specials = {name: len(ranks) + i for i, name in enumerate(SENTINELS)}
        self._encoding = tiktoken.Encoding(
            "tabwise", pat_str=pattern, mergeable_ranks=ranks, special_tokens=specials
        )
        self.vocab_size = len(ranks) + len(SENTINELS)
        self.end = specials[END]
        self.fim_prefix = specials[FIM_PREFIX]
        self.fim_suffix = specials[FIM_SUFFIX]
        self.fim_middle = specials[FIM_MIDDLE]
        self.file_sep = specials[FILE_SEP]
        self.repo_name = specials[REPO_NAME]
        self.sentinels = frozenset(specials.values())
        table = {rank: piece for piece, rank in ranks.items()}
        self._heads = _Kept(self._encode_paragraphs, HEAD_CHARS)
        self._paragraphs = _Kept(self._encode_paragraph, PARAGRAPH_CHARS)
        self._lines = _Kept(self._encode_line, LINE_CHARS)
        # A sentinel shows as nothing: it can never leak into a suggestion.
        self._bytes = [table.get(i, b"") for i in range(self.vocab_size)]
        self._characters = np.array([_characters(b) for b in self._bytes])

    def __reduce__(self) -> tuple[type[Tokenizer], tuple[dict[bytes, int], str]]:
        """Pickled without what it remembers."""
        return Tokenizer, (self._ranks, self.pattern)

    def encode(self, text: str) -> list[int]:
        """Ids of `text`; a lone surrogate becomes U+FFFD. Sentinel names are text."""
        return self._encoding.encode_ordinary(text)

    def keep_for(self, documents: int) -> None:
        """Remember the texts of about so many, from now on."""
        most = min(max(documents * DOCUMENT_CHARS, LEAST_CHARS), KEPT_CHARS)
        for kept in (self._heads, self._paragraphs, self._lines):
            kept.most = most

    def encode_by_paragraphs(self, text: str) -> Ids:
        """Ids (N,) of `text`, equal to `encode`. What stands before its last paragraph,
        that paragraph's lines but for the last one, other paragraphs and lines are
        remembered: of a file that is being typed, they were there a keystroke ago, and
        the rest will not come again."""
        last = _last_paragraph(text)
        head = self._heads.of([text[:last]]) if last else []
        *lines, line = lines_of(text[last:])
        return np.concatenate([*head, *self._lines.of(lines), self._encode_line(line)])

    def _encode_paragraphs(self, text: str) -> Ids:
        *paragraphs, last = _BLANK_LINE.split(text)
        texts = [*(part + "\n\n" for part in paragraphs), last]
        return np.concatenate(self._paragraphs.of(texts))

    def _encode_paragraph(self, text: str) -> Ids:
        return np.concatenate(self._lines.of(lines_of(text)))

    def _encode_line(self, text: str) -> Ids:
        return np.array(self.encode(text), np.int32)

    def encode_bytes(self, data: bytes) -> list[int]:
        """Ids of any bytes; where they are not UTF-8, one id a byte."""
        ids: list[int] = []
        while data:
            try:
                return ids + self.encode(data.decode("utf-8"))
            except UnicodeDecodeError as error:
                ids += self.encode(data[: error.start].decode("utf-8"))
                ids += [self._ranks[bytes([b])] for b in data[error.start : error.end]]
                data = data[error.end :]
        return ids

    def last_piece(self, text: str) -> str:
        """The end of `text` that the split pattern keeps together; "" for no text.

        Only the last characters are looked at, from the beginning of their line.
        """
        tail = text[-PIECE_CHARS:]
        start = tail.rfind("\n", 0, len(tail.rstrip("\r\n")))
        last = ""
        for match in self._split.finditer(tail, max(start, 0)):
            last = match.group()
        return last

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of `ids`; sentinels have none."""
        table = self._bytes
        return b"".join([table[i] for i in ids])

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are not UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def count_characters(self, ids: Ids) -> int:
        """How many characters begin in the bytes of `ids`."""
        return int(self._characters[ids].sum())

    def token_bytes(self) -> Sequence[bytes]:
        """Bytes by id, b"" for sentinels; do not modify."""
        return self._bytes

    def is_same(self, other: Tokenizer) -> bool:
        """Whether both give any text the same ids."""
        return self._ranks == other._ranks and self.pattern == other.pattern

    def dumps(self) -> str:
        """The tokenizer in tiktoken's file format."""
        lines = (
            f"{base64.b64encode(piece).decode()} {rank}"
            for piece, rank in sorted(self._ranks.items(), key=lambda item: item[1])
        )
        return "\n".join(lines) + "\n"

    @classmethod
    def loads(cls, text: str, pattern: str = SPLIT_PATTERN) -> Tokenizer:
        """Read `dumps`'s form. Raises TokenizerError naming the line."""
        ranks: dict[bytes, int] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            try:
                piece, rank = line.split()
                ranks[base64.b64decode(piece, validate=True)] = int(rank)
            except (ValueError, binascii.Error) as error:
                raise TokenizerError(
                    f"line {number} is not `base64 rank`: {line[:40]!r}"
                ) from error
        return cls(ranks, pattern)

    @classmethod
    def load(cls, file: Path, pattern: str = SPLIT_PATTERN) -> Tokenizer:
        return cls.loads(file.read_text(encoding="ascii"), pattern)


def _characters(data: bytes) -> int:
    """Bytes that are not the further ones of a character's UTF-8."""
    return sum(byte & 0xC0 != 0x80 for byte in data)


def _last_paragraph(text: str) -> int:
    """Where the last one begins, behind a blank line; 0 if there is none."""
    end = len(text)
    while (blank := text.rfind("\n\n", 0, end)) >= 0:
        if _BLANK_LINE.match(text, blank):
            return blank + 2
        end = blank + 1
    return 0


def lines_of(text: str) -> list[str]:
    """`text` in its lines, those of blanks with the line before: no split piece of the
    pattern spans two of them."""
    *whole, last = text.split("\n")
    lines: list[str] = []
    for line in [*(line + "\n" for line in whole), last]:
        if lines and (not line or line.isspace()):
            lines[-1] += line
        else:
            lines.append(line)
    return lines


class _Kept:
    """The ids of texts of up to `longest` characters, `most` in all; what was not
    asked for the longest goes first. Any thread may ask."""

    def __init__(self, encode: Callable[[str], Ids], longest: int) -> None:
        self.most = KEPT_CHARS
        self._encode, self._longest = encode, longest
        self._ids: OrderedDict[str, Ids] = OrderedDict()
        self._chars = 0
        self._lock = threading.Lock()

    def of(self, texts: Sequence[str]) -> list[Ids]:
        """The ids (N,) of each."""
        kept = self._ids
        with self._lock:
            found = [kept.get(text) for text in texts]
            for text, ids in zip(texts, found, strict=True):
                if ids is not None:
                    kept.move_to_end(text)
        return [
            self._keep(text) if ids is None else ids
            for text, ids in zip(texts, found, strict=True)
        ]

    def _keep(self, text: str) -> Ids:
        ids = self._encode(text)
        if len(text) > self._longest:
            return ids
        ids.setflags(write=False)  # whoever asks gets this very array
        with self._lock:
            if text not in self._ids:
                self._ids[text] = ids
                self._chars += len(text) + ENTRY_CHARS
            while self._chars > self.most:
                forgotten, _ = self._ids.popitem(last=False)
                self._chars -= len(forgotten) + ENTRY_CHARS
        return ids
