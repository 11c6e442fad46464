from hypothesis import given
from hypothesis import strategies as st

from support.tokenizer import TOKENIZER as T
from tabwise_model.fim import render_context, render_psm, render_spm


def parts(ids: list[int]) -> dict[int, str]:
    """The text after each sentinel of a prompt."""
    found: dict[int, list[int]] = {}
    current = found.setdefault(-1, [])
    for i in ids:
        if i in T.sentinels:
            current = found.setdefault(i, [])
        else:
            current.append(i)
    return {sentinel: T.decode(part) for sentinel, part in found.items()}


@given(st.text(), st.text(), st.text())
def test_both_orders_hold_the_same_text(prefix: str, suffix: str, middle: str) -> None:
    psm = render_psm(T, T.encode(prefix), T.encode(suffix))
    found = parts([*psm, *T.encode(middle), T.end])
    assert (found[T.fim_prefix], found[T.fim_middle]) == (prefix, middle)
    assert found[T.fim_suffix] == suffix
    spm = render_spm(T, T.encode(prefix), T.encode(suffix))
    found = parts([*spm, *T.encode(middle), T.end])
    assert (found[T.fim_prefix], found[T.fim_middle]) == ("", prefix + middle)
    assert found[T.fim_suffix] == suffix


def test_a_keystroke_only_appends_to_a_suffix_first_prompt() -> None:
    before = render_spm(T, T.encode("x = fo"), T.encode("\ny = 1\n"))
    after = render_spm(T, T.encode("x = fo("), T.encode("\ny = 1\n"))
    assert after[: len(before)] == before


def test_context_stands_behind_a_separator_with_its_path() -> None:
    ids = render_context(T, "a/b.py", "x = 1\n")
    assert ids[0] == T.file_sep
    assert T.decode(ids) == "a/b.py\nx = 1\n"
