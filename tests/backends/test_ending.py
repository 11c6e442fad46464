"""Completions of foreign servers end where our own engine's do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabwise_model.request import Stop
from tabwise_model.stop import StopScanner
from tabwise_server.backends.ending import block_indent, find_end, find_marker
from tabwise_server.wire import StopKind

TEXTS = st.text(alphabet=st.sampled_from("ab \t\r\n"), max_size=30)


@given(
    TEXTS, st.sampled_from(["line", "block", "none"]), st.sampled_from([0, 1, 4, 8, 9])
)
def test_the_end_is_where_our_engine_ends(
    text: str, stop: StopKind, indent: int
) -> None:
    engine = StopScanner(Stop(stop), indent).feed(text.encode())
    assert find_end(text, stop, indent) == engine


@pytest.mark.parametrize(
    ("prefix", "columns"), [("", 0), ("x\n    y", 4), ("x\n\ty", 8), ("\n  \t", 8)]
)
def test_a_blocks_depth_is_its_cursor_lines(prefix: str, columns: int) -> None:
    assert block_indent(prefix) == columns


def test_the_first_marker_counts() -> None:
    assert find_marker("a<b>c<d>", ["<d>", "<b>"]) == 1
    assert find_marker("abc", ["<d>"]) is None
