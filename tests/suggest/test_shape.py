"""What is shown, case by case."""

import doctest
from pathlib import Path
from typing import Any

import pytest

from tabwise_server.suggest import (
    brackets,
    place,
    privacy,
    syntax,
)
from tabwise_server.suggest import shape as shape_module
from tabwise_server.suggest.place import Place
from tabwise_server.suggest.shape import ShapeOptions, shape


@pytest.mark.parametrize("module", [brackets, place, privacy, shape_module, syntax])
def test_the_worked_examples_hold(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.failed == 0


@pytest.mark.parametrize(
    ("raw", "prefix", "suffix", "shown"),
    [
        # as it is
        ("return a + b", "def add(a, b):\n    ", "\n", "return a + b"),
        ("for x in xs:", "def f(xs):\n    ", "\n", "for x in xs:"),
        ("call(", "x = ", "\n", "call("),
        ("long_name(", "def a_", "\n", "long_name("),
        ("b,", "x = f(a, ", "\n", "b,"),
        ("@property", "class A:\n    ", "\n", "@property"),
        ("try:", "def f():\n    ", "\ny = 1\n", "try:"),
        ("match x:", "", "\n", "match x:"),
        ("else:", "if a:\n    b()\n", "\n", "else:"),
        ("x = 1\n    return x", "def f():\n    ", "\n", "x = 1\n    return x"),
        # special tokens, blanks, line endings
        ("return 1<|endoftext|>junk", "def f():\n    ", "\n", "return 1"),
        ("return 1<|fim_middle|>", "def f():\n    ", "\n", "return 1"),
        ("return 1<fim_suffix>", "def f():\n    ", "\n", "return 1"),
        ("<|file_sep|>a.py", "def f():\n    ", "\n", None),
        ("return 1   \n\n", "def f():\n    ", "\n", "return 1"),
        ("x = 1\r\n    y = 2\r\n", "def f():\n    ", "\n", "x = 1\n    y = 2"),
        ("   \n  ", "x = ", "\n", None),
        ("", "x = ", "\n", None),
        # no leading-space slip, no double indentation
        (" 1 + 2", "x = ", "\n", "1 + 2"),
        (" 1 + 2", "x =", "\n", " 1 + 2"),
        (" return x", "def f(x):\n    ", "\n", "return x"),
        ("    return x", "def f(x):\n", "\n", "    return x"),
        ("    return x", "def f(x):\n    y = x\n    ", "\n", "return x"),
        # a line that is complete
        ("\n\n    def g(self):", "def f(self):\n    return self", "\n", None),
        ("\n    return 1", "def f(self):", "\n", "\n    return 1"),
        ("  # noqa", "x = 1", "\n", None),
        ("# why", "    ", "\n", "# why"),
        # what the rest of the line already has
        ("a, b)", "print(", ")\n", "a, b"),
        ("a, b):", "def add(", "):\n    pass\n", "a, b"),
        ("f(a)", "print(", ")\n", "f(a)"),
        ("f(a))", "print(", ")\n", "f(a)"),
        ("a) + 1", "print(", ")\n", None),  # one visible character is left
        ("total) + 1", "print(", ")\n", "total"),
        ("hello'", "x = '", "'\n", "hello"),
        ("'y'", "x = ['x', ", "]\n", "'y'"),
        (")", "print(a", ")\n", None),
        (")", "print(a", "\n", None),
        ("):", "def f(a", "\n", None),
        # code to the right
        ("a\nb = 2", "print(", ")\n", None),
        ("lpha\nb = 2", "print(a", ")\n", "lpha"),
        ("rn x", "    ret", "urn x\n", None),
        ("alpha, ", "print(", "beta)\n", "alpha, "),
        ("alpha", "print(", "beta)\n", None),
        # what stands there anyway
        ("b = 2", "a = 1\n", "\nb = 2\n", None),
        ("c = 3\nb = 2", "a = 1\n", "\nb = 2\n", "c = 3"),
        ("a = 1", "a = 1\n", "\n", None),
        ("x += 1; x += 1; x += 1; x += 1; x += 1", "", "\n", None),
        # code that would break
        ("return x.", "def f(x):\n    ", "\n\nz = 1\n", None),
        ("import ", "", "\n", None),
        ("1 2 3", "x = ", "\n", None),
    ],
)
def test_each_case_is_shown_as_it_should_be(
    raw: str, prefix: str, suffix: str, shown: str | None
) -> None:
    assert shape(raw, Place(prefix=prefix, suffix=suffix, path="x.py")) == shown


def test_code_already_broken_does_not_silence_suggestions() -> None:
    broken = Place(prefix="def f(:\n    x = ", suffix="\n", path="x.py")
    assert shape("f(1)", broken) == "f(1)"


def test_other_languages_are_not_parsed_as_python() -> None:
    place = Place(prefix="int x = ", suffix="\n", path="x.c")
    assert shape("(int) 1.5;", place) == "(int) 1.5;"


def test_a_doubtful_completion_is_not_shown() -> None:
    place = Place(prefix="x = ", suffix="\n")
    options = ShapeOptions(min_confidence=0.5)
    assert shape("foo()", place, 0.51, options) == "foo()"
    assert shape("foo()", place, 0.49, options) is None


@pytest.mark.parametrize(
    ("prefix", "where"),
    [
        ("x = 'ab", "string"),
        ("x = 'ab'", "code"),
        ("x = f'{a", "code"),
        ("x = f'{a} b", "string"),
        ('"""\nabc:\n', "string"),
        ("x = 1  # abc", "comment"),
        ("x = 1  # abc\n", "code"),
        ("", "code"),
    ],
)
def test_the_cursor_knows_what_it_stands_in(prefix: str, where: str) -> None:
    place = Place(prefix=prefix, suffix="\n", path="x.py")
    assert syntax.surroundings(place) == where


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        "a/.env.local",
        "prod.env",
        "C:\\Users\\me\\.ssh\\config",
        "/home/me/.aws/credentials",
        "server.PEM",
        "id_rsa",
        "id_ed25519.pub",
        "secrets.yaml",
        "credentials.json",
        "tls.key",
    ],
)
def test_secret_files_are_known_by_their_path(path: str) -> None:
    assert privacy.is_secret(path)


@pytest.mark.parametrize(
    "path", ["main.py", "environment.py", "keys.py", "secrets.py", "ssh/client.py", ""]
)
def test_ordinary_files_are_not_taken_for_secrets(path: str) -> None:
    assert not privacy.is_secret(path)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_a_place_knows_the_lines_around_it(ending: str) -> None:
    text = ["def f():", "    x", "", "  y = ", "1", "", "z"]
    before = ending.join(text[:4])
    after = ending.join(text[4:])
    found = Place(prefix=before, suffix=after)
    assert found.line_before == "  y = "
    assert found.line_after == "1"
    assert found.next_line == "z"
    if ending != "\r":
        assert found.previous_line == "    x"


@pytest.mark.parametrize("file", [brackets, place, privacy, shape_module, syntax])
def test_errors_counted_incrementally_are_those_of_a_fresh_parse(file: Any) -> None:
    lines = Path(file.__file__).read_text(encoding="utf-8").splitlines(keepends=True)
    pieces = ("", "x = f(", "é = '😀'", ")", "return\n\n", "def g(:", "'''", "# hm")
    for number in range(3, len(lines), 7):
        head, tail = "".join(lines[:number]), "".join(lines[number + 1 :])
        check = syntax._SyntaxCheck(head, lines[number], tail)
        for piece in pieces:
            fresh = syntax._SyntaxCheck(head, piece, tail).errors
            assert check.count_errors(piece) == fresh, (number, piece)
