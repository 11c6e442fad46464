"""What is taken from other open files: the similar, the imported, the edited; stable
while one types, and cheap."""

import doctest
import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabwise_server.suggest import context, imports, notebook
from tabwise_server.suggest.context import (
    REGION_LINES,
    Choice,
    ContextOptions,
    OtherFile,
    choose_context,
)
from tabwise_server.suggest.imports import imported_files
from tabwise_server.suggest.notebook import Cell, place_in_cell
from tabwise_server.suggest.place import Place
from tabwise_server.suggest.prompt import PromptOptions, build_request

OPTIONS = ContextOptions(max_chars=1_000)
SHAPES = "class Circle:\n    def area(self):\n        return self.radius * self.pi\n"
FILLER = "".join(
    f"def filler_{n}(value_{n}):\n    return other_{n}\n" for n in range(40)
)


@pytest.mark.parametrize("module", [context, imports, notebook])
def test_the_worked_examples_hold(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


def other(path: str, text: str, **more: object) -> OtherFile:
    return OtherFile(path=path, text=text, language="python", **more)  # type: ignore[arg-type]


def at(prefix: str, suffix: str = "\n", path: str = "app/main.py") -> Place:
    return Place(prefix=prefix, suffix=suffix, path=path, language="python")


def paths(choice: Choice) -> list[str]:
    return [chunk.path for chunk in choice.chunks]


def test_the_most_similar_piece_stands_last() -> None:
    alike = "total_price = sum(price for price in prices)\n"
    little = "prices = load(everything, that, there, was)\nother_names = None\n"
    place = at("total_price = 0\nfor price in prices:\n    total_")
    files = [other("a.py", alike), other("b.py", little), other("c.py", FILLER)]
    assert paths(choose_context(place, files, OPTIONS)) == ["b.py", "a.py"]


def test_an_imported_file_stands_nearer_than_a_similar_one() -> None:
    place = at("from app.shapes import Circle\ncircle_area = Circle().area()\n")
    files = [other("x.py", "circle_area = 1\n"), other("app/shapes.py", SHAPES)]
    assert paths(choose_context(place, files, OPTIONS))[-1] == "app/shapes.py"


def test_what_was_edited_just_now_comes_before_its_like() -> None:
    place = at("alpha_beta gamma_delta")
    text = "alpha_beta = gamma_delta\n"
    files = [other("a.py", text), other("b.py", text, edits=((0, 1),))]
    assert paths(choose_context(place, files, OPTIONS)) == ["a.py", "b.py"]


def test_chunks_keep_to_the_budget_and_do_not_overlap() -> None:
    text = "".join(f"shared_name = compute({n})\n" for n in range(200))
    rare = "".join(f"rare_{n} = 1\n" for n in range(30))
    place = at("".join(f"rare_{n}\n" for n in range(30)))
    choice = choose_context(place, [other("a.py", text + rare)], OPTIONS)
    assert 0 < sum(len(c.path) + 1 + len(c.text) for c in choice.chunks) <= 1_000
    lines = [
        line for c in choice.chunks for line in c.text.splitlines() if "rare" in line
    ]
    assert len(lines) == len(set(lines))


def test_without_a_budget_nothing_is_looked_at() -> None:
    files = [other("a.py", "total_price = 1\n")]
    choice = choose_context(at("total_price = "), files, ContextOptions())
    assert choice.chunks == ()
    assert "index" not in vars(files[0])


@pytest.mark.parametrize(
    ("language", "taken"), [("python", True), ("markdown", False), (None, True)]
)
def test_files_of_another_language_are_left_out(
    language: str | None, taken: bool
) -> None:
    found = OtherFile(path="a", text="total_price = 1\n", language=language)
    choice = choose_context(at("total_price = "), [found], OPTIONS)
    assert bool(choice.chunks) is taken


def test_the_file_itself_is_no_context() -> None:
    files = [other("app/main.py", "total_price = 1\n")]
    assert choose_context(at("total_price = "), files, OPTIONS).chunks == ()


def test_typing_in_a_region_leaves_the_choice_alone() -> None:
    files = [other("a.py", SHAPES), other("b.py", FILLER)]
    place = at("circle = Circle()\n")
    first = choose_context(place, files, OPTIONS)
    last = first
    for typed in ("c", "circle.", "circle.filler_3\n", "\n" * REGION_LINES):
        last = choose_context(at(place.prefix + typed), files[::-1], OPTIONS, last)
        assert last is first


@pytest.mark.parametrize("change", ["far away", "another file", "another version"])
def test_the_choice_is_made_anew_when_it_has_to_be(change: str) -> None:
    files = [other("a.py", SHAPES)]
    place = at("circle = Circle()\n")
    first = choose_context(place, files, OPTIONS)
    if change == "far away":
        place = at(place.prefix + "\n" * (REGION_LINES + 1))
    elif change == "another file":
        files = [*files, other("b.py", "circle = Circle()\n")]
    else:
        files = [other("a.py", SHAPES + "# more\n")]
    assert choose_context(place, files, OPTIONS, first) is not first


def test_typing_only_appends_to_the_request() -> None:
    files = [other("a.py", SHAPES), other("b.py", FILLER)]
    choice, requests = None, []
    for length in range(0, 200, 3):
        place = at("circle = Circle()\n" + ("circle.area()\n" * 20)[:length])
        choice = choose_context(place, files, OPTIONS, choice)
        requests.append(build_request(place, PromptOptions(), None, choice.chunks))
    for earlier, later in itertools.pairwise(requests):
        assert later.context == earlier.context
        assert later.prefix.startswith(earlier.prefix)


def test_a_keystroke_beside_ten_large_files_costs_under_two_milliseconds() -> None:
    large = FILLER * 25
    assert large.count("\n") == 2_000
    files = [other(f"f{n}.py", large) for n in range(10)]
    prefix = large + "filler_3("
    choice = choose_context(at(prefix), files, OPTIONS)
    times = []
    for typed in range(50):
        place = at(prefix + "x" * typed)
        began = time.perf_counter()
        choice = choose_context(place, files, OPTIONS, choice)
        times.append(time.perf_counter() - began)
    assert sorted(times)[25] < 0.002


@given(st.text(max_size=300), st.text(max_size=300), st.integers(0, 400))
@settings(max_examples=60)
def test_any_text_gives_chunks_within_the_budget(a: str, b: str, chars: int) -> None:
    options = ContextOptions(max_chars=chars)
    choice = choose_context(at(a), [other("b.py", b)], options)
    assert sum(len(c.path) + 1 + len(c.text) for c in choice.chunks) <= chars


@pytest.mark.parametrize(
    ("path", "text", "found"),
    [
        ("app/main.py", "import app.shapes\n", ["app/shapes.py"]),
        ("app/main.py", "import app.shapes as s, os\n", ["app/shapes.py"]),
        (
            "app/main.py",
            "from app import shapes\n",
            ["app/__init__.py", "app/shapes.py"],
        ),
        ("app/main.py", "from . import shapes\n", ["app/__init__.py", "app/shapes.py"]),
        ("app/sub/x.py", "from ..shapes import (\n  A,\n  B)\n", ["app/shapes.py"]),
        ("app/main.py", "shapes = 1  # import shapes\n", []),
        ("web/a.ts", "import {x} from './b'\n", ["web/b.ts"]),
        ("web/a.ts", "const b = require('../web/b.js')\n", ["web/b.ts"]),
        ("web/a.ts", "import React from 'react'\n", []),
        ("src/a.c", '#include "util.h"\n', ["src/util.h"]),
    ],
)
def test_imports_are_found_among_the_open_files(
    path: str, text: str, found: list[str]
) -> None:
    files = ["app/__init__.py", "app/shapes.py", "web/b.ts", "src/util.h", "x/other.py"]
    place = Place(prefix=text, path=path)
    assert [files[n] for n in sorted(imported_files(place, files))] == found


def test_a_cell_knows_the_cells_above_it() -> None:
    above = [Cell("import os\n%time x = 1", "python"), Cell("Some *text*", None)]
    above += [Cell("SELECT 1", "sql"), Cell("  ", "python")]
    cell = at("!ls\nos.", ")", path="a.ipynb")
    place = place_in_cell(above, cell, [Cell("y = 2", "python")])
    assert place.prefix == ("import os\n# %time x = 1\n\n# Some *text*\n\n# !ls\nos.")
    assert place.suffix == ")\n\ny = 2\n\n"
    assert place.line_before == "os."
