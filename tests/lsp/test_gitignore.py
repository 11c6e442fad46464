"""Which files are ignored, beside what git says of them."""

import subprocess
from pathlib import Path, PurePath

import pytest

from tabwise_server.lsp.reading import Reader

Files = dict[str, str]
PATHS = (
    "a.py",
    "x.log",
    "app/a.py",
    "app/lib/a.py",
    "app/lib/x.log",
    "build/a.py",
    "build/keep.py",
    "build/x/y.py",
    "lib/a.py",
)


def ignored_by_git(root: Path) -> set[str]:
    """Those of PATHS that git ignores, whatever its user has set."""
    done = subprocess.run(
        ["git", "-c", "core.excludesFile=", "check-ignore", "--stdin"],
        cwd=root,
        input="\n".join(PATHS),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return set(done.stdout.splitlines())


def make_repository(root: Path, files: Files) -> None:
    subprocess.run(["git", "init", "-q", root], check=True)
    for path in PATHS:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
    for folder, text in files.items():
        (root / folder / ".gitignore").write_bytes(text.encode())


@pytest.mark.parametrize("opened", ["", "app", "build"])
@pytest.mark.parametrize(
    "files",
    [
        {"": "a.py\n"},
        {"": "*.log\n/build/\n", "app": "!*.log\n"},
        {"": "build/\n!x\n", "build": "!*.py\n"},
        {"": "build/\n!build/keep.py\n"},
        {"": "build/*\n!build/keep.py\n"},
        {"": "build/**\n!build/keep.py\n"},
        {"": "lib/\n!app/lib/\n"},
        {"": "*\n!*/\n!*.py\n"},
        {"": "*.py\n", "app": "!lib/\n"},
        {"": "!app/**\nlib/\n"},
        {"": "**/lib/*.py\n/**/x.log\n"},
        {"": "/**/*\n", "lib": "!/**\n"},
        {"": "\ufeffa.py\r\n*.log\r\n"},
        {"": "#a.py\n\\!a.py\nbuild/  \n"},
        {"": "q\x0cx.log\nq\x85a.py\n"},
    ],
)
def test_what_git_ignores_is_ignored_and_nothing_else(
    tmp_path: Path, files: Files, opened: str
) -> None:
    make_repository(tmp_path, files)
    reader, folder = Reader(), tmp_path / opened
    inside = [path for path in PATHS if path.startswith(opened)]
    found = {
        path
        for path in inside
        if reader.is_ignored(folder, PurePath(path).relative_to(opened))
    }
    assert found == ignored_by_git(tmp_path) & set(inside)


@pytest.mark.parametrize(
    "line", ["bin\\", "!", "\\", "/", "//", "[", "[z-a]", "[[a]", "a\\", ""]
)
def test_a_line_that_git_passes_over_changes_nothing(tmp_path: Path, line: str) -> None:
    make_repository(tmp_path, {"": f"{line}\n*.log\n"})
    reader = Reader()
    found = {p for p in PATHS if reader.is_ignored(tmp_path, PurePath(p))}
    assert found == ignored_by_git(tmp_path) == {"x.log", "app/lib/x.log"}
