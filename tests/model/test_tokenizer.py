from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.tokenizer import TOKENIZER
from tabwise_model.tokenizer import FIM_PREFIX, SENTINELS, Tokenizer, TokenizerError


@given(st.binary())
def test_any_bytes_come_back(data: bytes) -> None:
    assert TOKENIZER.decode_bytes(TOKENIZER.encode_bytes(data)) == data


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


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
