import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.tokenizer import TOKENIZER
from tabwise_model.tokenizer import (
    FIM_PREFIX,
    LINE_CHARS,
    PARAGRAPH_CHARS,
    SENTINELS,
    Tokenizer,
    TokenizerError,
    lines_of,
)


@given(st.binary())
def test_any_bytes_come_back(data: bytes) -> None:
    assert TOKENIZER.decode_bytes(TOKENIZER.encode_bytes(data)) == data


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


# What the split pattern treats in its own way, blank lines and odd blanks above all.
PIECES = (
    *("\n", "\n", "\n\n", " ", "    ", "\t", "\r", "\r\n", "\f", "\v", "\x1c", "\x85"),
    *("\u2028", "\u00a0", "\u200b", "a", "def", "(", "):", "'s", "9", '"""', "é", "#"),
)


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_a_text_in_remembered_parts_encodes_as_the_whole(text: str) -> None:
    assert "".join(lines_of(text)) == text
    assert TOKENIZER.encode_by_paragraphs(text).tolist() == TOKENIZER.encode(text)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_characters_are_counted_without_decoding(text: str) -> None:
    assert TOKENIZER.count_characters(TOKENIZER.encode_by_paragraphs(text)) == len(text)


@pytest.mark.parametrize("length", [LINE_CHARS + 1, PARAGRAPH_CHARS + 1])
def test_too_long_a_part_is_not_remembered(length: int) -> None:
    text = "x = 1\n" + "y" * length + "\n\nz = 2\n"  # not in the last paragraph
    for _ in range(2):
        assert TOKENIZER.encode_by_paragraphs(text).tolist() == TOKENIZER.encode(text)


def test_what_is_remembered_is_bounded_by_the_documents_there_are() -> None:
    tokenizer = Tokenizer.loads(TOKENIZER.dumps())
    tokenizer.keep_for(2)

    def type_in(documents: range) -> None:
        for n in documents:
            lines = "".join(f"value_{n}_{line} = {line}\n" for line in range(40))
            text = f"{lines}\n\n# {n}"
            found = tokenizer.encode_by_paragraphs(text)
            assert found.tolist() == TOKENIZER.encode(text)

    tracemalloc.start()
    try:
        type_in(range(1, 1_500))
        before, _ = tracemalloc.get_traced_memory()
        type_in(range(1_500, 3_500))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after < 1.2 * before < 15_000_000


def test_a_paragraph_that_is_being_typed_is_not_remembered_anew() -> None:
    tokenizer = Tokenizer.loads(TOKENIZER.dumps())
    typed = "import os\n\n" + "".join(f"value_{n} = {n}\n" for n in range(80))
    tracemalloc.start()
    try:
        for end in range(1, len(typed)):
            found = tokenizer.encode_by_paragraphs(typed[:end])
            assert found.tolist() == TOKENIZER.encode(typed[:end])
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 200_000


def test_merges_are_used() -> None:
    assert len(TOKENIZER.encode("def")) == 1


@pytest.mark.parametrize("name", SENTINELS)
def test_text_never_encodes_to_a_sentinel(name: str) -> None:
    ids = TOKENIZER.encode(f"x = '{name}'")
    assert TOKENIZER.sentinels.isdisjoint(ids)
    assert TOKENIZER.decode(ids) == f"x = '{name}'"


def test_a_sentinel_shows_as_nothing() -> None:
    ids = [*TOKENIZER.encode("a"), TOKENIZER.fim_prefix, *TOKENIZER.encode("b")]
    assert TOKENIZER.decode(ids) == "ab"
    assert FIM_PREFIX in SENTINELS


def test_a_lone_surrogate_becomes_the_replacement_character() -> None:
    assert TOKENIZER.decode(TOKENIZER.encode("a\ud800b")) == "a\ufffdb"


def test_the_file_form_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.tiktoken"
    file.write_text(TOKENIZER.dumps(), encoding="ascii")
    again = Tokenizer.load(file)
    text = "def f():\r\n    return 'é😀'"
    assert again.encode(text) == TOKENIZER.encode(text)
    assert again.vocab_size == TOKENIZER.vocab_size


def test_a_broken_file_is_refused_with_its_line() -> None:
    text = TOKENIZER.dumps().replace("\n", "\nnot a line at all\n", 1)
    with pytest.raises(TokenizerError, match="line 2"):
        Tokenizer.loads(text)


def test_a_missing_byte_is_refused() -> None:
    with pytest.raises(TokenizerError, match="0x00"):
        Tokenizer({bytes([b]): b - 1 for b in range(1, 256)})
