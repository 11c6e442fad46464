"""What users complain about elsewhere, each tried here: the part that what is shown
decides."""

import pytest

from tabwise_server.suggest.indentation import IndentStyle
from tabwise_server.suggest.place import Place
from tabwise_server.suggest.privacy import is_secret, matches
from tabwise_server.suggest.repeats import whole_line
from tabwise_server.suggest.shape import ShapeOptions, shape


def python(prefix: str, suffix: str = "\n") -> Place:
    return Place(prefix=prefix, suffix=suffix, path="a.py", language="python")


@pytest.mark.parametrize(
    ("prefix", "raw", "shown"),
    [
        # tabs where the document has tabs, whatever the model writes
        ("if a:\n\tb()\nif c:\n\t", "if x:\n\t\td()", "if x:\n\t\td()"),
        ("if a:\n\tb()\nif c:\n\t", "if x:\n        d()", "if x:\n\t\td()"),
        # two columns where the document has two
        ("if a:\n  b()\nif c:\n  ", "if x:\n      d()", "if x:\n    d()"),
        # spaces where the document has spaces
        ("if a:\n    b()\nif c:\n    ", "if x:\n\t\td()", "if x:\n        d()"),
        # the indentation that stands there already is not said twice
        ("def f():\n    ", "    return 1", "return 1"),
        ("def f():\n    a = 1\n    ", "    return a", "return a"),
    ],
)
def test_complaint_10_indentation_is_the_documents_and_never_double(
    prefix: str, raw: str, shown: str
) -> None:
    assert shape(raw, python(prefix)) == shown


def test_complaint_10_an_empty_document_is_indented_as_the_editor_does() -> None:
    options = ShapeOptions(style=IndentStyle(tabs=True, width=8))
    place = python("def f():")
    assert shape("\n    return 1", place, 1.0, options) == "\n\treturn 1"
    two = ShapeOptions(style=IndentStyle(tabs=False, width=2))
    assert shape("\n    return 1", place, 1.0, two) == "\n  return 1"


@pytest.mark.parametrize("prefix", ["x = ", "def f():\n    ", "return\t", "f(a, "])
def test_complaint_11_no_blank_is_put_behind_a_blank(prefix: str) -> None:
    shown = shape(" foo(1", python(prefix, ")\n" if "(a" in prefix else "\n"))
    assert shown is None or not shown.startswith(" ")


@pytest.mark.parametrize(
    ("raw", "prefix", "suffix"),
    [
        ("b = compute(a)", "a = 1\n", "\nb = compute(a)\n"),
        ("    b = compute(a)", "a = 1\n", "\n\n\nb = compute(a)\n"),
        ("arguments)", "f(", "arguments)\n"),
        ("item,\n    ", "x = [\n    ", "\n    item,\n]\n"),
        # one letter of a long line is different: it is the same line
        (
            "first_result = compute_everything(a, b)",
            "a = 1\n",
            "\nfirst_results = compute_everything(a, b)\n",
        ),
        ("    a,\n)", "f(\n", "\n    a,\n)\n"),
        # both lines stand there, below another
        ("first(a)\nsecond(b)", "", "\nzero = 0\nfirst(a)\nsecond(b)\n"),
    ],
)
def test_complaint_12_what_follows_is_not_repeated(
    raw: str, prefix: str, suffix: str
) -> None:
    assert shape(raw, python(prefix, suffix)) is None


@pytest.mark.parametrize("text", ["total = sum(prices)", "if a:\n    total = 1"])
def test_complaint_13_what_was_just_accepted_is_not_suggested_again(text: str) -> None:
    place = python("a = 1\n")
    assert shape(text, place) == text
    accepted = python(place.prefix + text + "\n")
    assert shape(text, accepted) is None


def test_complaint_13_what_was_undone_or_rejected_is_not_suggested_again() -> None:
    place = python("total = ")
    rejected = ShapeOptions(rejected=(whole_line(place, "sum(prices)"),))
    assert shape("sum(prices)", place, 1.0, rejected) is None
    typed_on = python("total = su")
    assert shape("m(prices)", typed_on, 1.0, rejected) is None
    assert shape("sum(costs)", place, 1.0, rejected) == "sum(costs)"


@pytest.mark.parametrize("raw", [")", "]", "}", "):", "),", "})", '"', ")]}", ":", ";"])
def test_complaint_14_brackets_alone_are_no_suggestion(raw: str) -> None:
    assert shape(raw, python("f(a")) is None


@pytest.mark.parametrize(
    "token",
    [
        "<|endoftext|>",
        "<|fim_prefix|>",
        "<|fim_pad|>",
        "<|file_sep|>",
        "<|cursor|>",
        "<｜fim▁hole｜>",
        "<｜end▁of▁sentence｜>",
        "<fim_middle>",
        "<file_sep>",
        " <EOT>",
        "<PRE>",
        "</s>",
        "[SUFFIX]",
    ],
)
def test_complaint_15_special_tokens_never_show(token: str) -> None:
    assert shape(f"value{token}x = 1", python("y = ")) == "value"
    assert shape(token, python("y = ")) is None


@pytest.mark.parametrize(
    "path", [".env", "deploy/.env.production", "C:\\app\\.ENV", "prod.env", ".envrc"]
)
def test_complaint_17_env_files_are_refused(path: str) -> None:
    assert is_secret(path)


@pytest.mark.parametrize(
    ("path", "pattern", "expected"),
    [
        ("src/a.min.js", "*.min.js", True),
        ("src/a.js", "*.min.js", False),
        ("src/gen/x.py", "gen/", True),
        ("gen", "gen/", False),
        ("src/a.py", "src/*.py", True),
        ("lib/src/a.py", "src/*.py", False),
        ("lib/src/a.py", "**/src/*.py", True),
        ("a/b/c.py", "a/b/", True),
        ("SRC/A.PY", "src/*.py", True),
    ],
)
def test_patterns_are_of_names_folders_and_paths(
    path: str, pattern: str, expected: bool
) -> None:
    assert matches(path, pattern) is expected
