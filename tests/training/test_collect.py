"""`tabwise collect`, from folders, repositories and wheels to a corpus on disk."""

import ast
import hashlib
import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from support.wheels import GPL, make_wheel
from tabwise_server.cli import main

LIBRARY = Path(sysconfig.get_path("stdlib"))
Row = dict[str, Any]


def module(name: str) -> str:
    return (LIBRARY / name).read_text(encoding="utf-8")


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for path, content in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        file.write_bytes(data)
    return folder


def collect(out: Path, *arguments: object) -> int:
    return main(["collect", "--out", str(out), *map(str, arguments)])


def rows(out: Path, split: str = "train") -> list[Row]:
    lines = (out / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def paths(out: Path, split: str = "train") -> list[str]:
    return [row["path"] for row in rows(out, split)]


def report(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write(
        tmp_path / "project",
        {
            "pkg/wrap.py": module("textwrap.py"),
            "pkg/queue.py": module("queue.py"),
            "pkg/short.py": "x = 1\n",
            "pkg/table.bin": b"\0\1\2",
            "pkg/binary.py": b"\x7fELF\xff\xfe" * 60,
            "pkg/_vendor/heap.py": module("heapq.py"),
            ".venv/lib/a.py": module("abc.py"),
            "venv/lib/a.py": module("abc.py"),
            "node_modules/x/a.py": module("abc.py"),
            "pkg/__pycache__/a.py": module("abc.py"),
        },
    )


def test_a_folder_becomes_documents_without_what_should_be_skipped(
    tmp_path: Path, project: Path
) -> None:
    assert collect(tmp_path / "out", project) == 0
    found = rows(tmp_path / "out")
    assert [row["path"] for row in found] == ["pkg/queue.py", "pkg/wrap.py"]
    assert found[1]["text"] == module("textwrap.py")
    assert {row["package"] for row in found} == {"project"}


def test_every_file_found_is_kept_or_dropped_for_a_reason(
    tmp_path: Path, project: Path
) -> None:
    write(project, {"copy.py": module("queue.py"), "again.py": module("textwrap.py")})
    collect(tmp_path / "out", project)
    said = report(tmp_path / "out")
    assert {reason: row["files"] for reason, row in said["dropped"].items()} == {
        "short": 1,
        "undecodable": 1,
        "vendored": 1,
        "duplicate": 2,
    }
    assert said["splits"]["train"]["files"] == 2
    dropped = sum(row["files"] for row in said["dropped"].values())
    assert said["found"]["files"] == dropped + 2
    sizes = sum(row["bytes"] for row in said["dropped"].values())
    assert said["found"]["bytes"] == sizes + said["splits"]["train"]["bytes"]


def test_what_git_ignores_is_not_collected(tmp_path: Path) -> None:
    project = write(
        tmp_path / "repo",
        {
            ".gitignore": "build/\n",
            "kept.py": module("queue.py"),
            "new.py": module("heapq.py"),
            "build/out.py": module("abc.py"),
        },
    )
    subprocess.run(["git", "init", "-q", project], check=True)
    subprocess.run(["git", "-C", project, "add", "kept.py"], check=True)
    assert collect(tmp_path / "out", project) == 0
    assert paths(tmp_path / "out") == ["kept.py", "new.py"]


def test_a_copyleft_folder_is_left_out_unless_it_is_asked_for(tmp_path: Path) -> None:
    project = write(
        tmp_path / "project",
        {
            "own/queue.py": module("queue.py"),
            "theirs/LICENSE": GPL,
            "theirs/deep/heap.py": module("heapq.py"),
        },
    )
    collect(tmp_path / "out", project)
    assert paths(tmp_path / "out") == ["own/queue.py"]
    collect(tmp_path / "out", project, "--any-licence")
    assert paths(tmp_path / "out") == ["own/queue.py", "theirs/deep/heap.py"]


@pytest.mark.parametrize(("repository", "kept"), [(True, []), (False, ["heap.py"])])
def test_a_repositorys_copyleft_licence_covers_the_folder_named_in_it(
    repository: bool, kept: list[str], tmp_path: Path
) -> None:
    project = write(
        tmp_path / "project",
        {"LICENSE": GPL, "own/src/heap.py": module("heapq.py")},
    )
    if repository:
        subprocess.run(["git", "init", "-q", project], check=True)
    other = write(tmp_path / "other", {"queue.py": module("queue.py")})
    out = tmp_path / "out"
    collect(out, project / "own" / "src", other)
    assert paths(out) == [*kept, "queue.py"]
    collect(out, project / "own" / "src", other, "--any-licence")
    assert paths(out) == ["heap.py", "queue.py"]


def test_held_out_code_that_repeats_training_code_is_dropped(tmp_path: Path) -> None:
    train = write(tmp_path / "a", {"queue.py": module("queue.py")})
    val = write(tmp_path / "b", {"heap.py": module("heapq.py")})
    nearly = module("queue.py").replace("maxsize", "limit_of_items")
    test = write(
        tmp_path / "c",
        {
            "near.py": nearly,
            "same.py": module("heapq.py"),
            "new.py": module("textwrap.py"),
        },
    )
    out = tmp_path / "out"
    assert collect(out, train, "--val", val, "--test", test) == 0
    assert [paths(out, s) for s in ("train", "val", "test")] == [
        ["queue.py"],
        ["heap.py"],
        ["new.py"],
    ]
    assert report(out)["dropped"]["near duplicate"]["files"] == 1


def test_files_that_hold_an_evaluation_task_are_dropped_and_named(
    tmp_path: Path, project: Path
) -> None:
    text = module("queue.py")
    task = {"prompt": text[:2000], "canonical_solution": "", "suffix": "", "test": ""}
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text(json.dumps(task))
    assert collect(tmp_path / "out", project, "--decontaminate", tasks) == 0
    assert paths(tmp_path / "out") == ["pkg/wrap.py"]
    named = report(tmp_path / "out")["named"]
    assert named == [{"reason": "evaluation task", "path": "project: pkg/queue.py"}]


def test_the_corpus_does_not_depend_on_the_number_of_processes(
    tmp_path: Path,
) -> None:
    folders = [LIBRARY / "asyncio", LIBRARY / "email", LIBRARY / "json"]
    for jobs in (1, 2):
        assert collect(tmp_path / str(jobs), *folders, "--jobs", jobs) == 0
    names = ("train.jsonl", "report.json")
    one, two = ([(tmp_path / j / n).read_bytes() for n in names] for j in "12")
    assert one == two


MANIFEST = """
cap_mb = {cap_mb}
test_share = 0.15

[[package]]
name = "one"
version = "1.0"
licence = "MIT"
family = "one"
"""


def write_manifest(folder: Path, text: str, **hashes: str) -> Path:
    file = folder / "packages.toml"
    for name, found in hashes.items():
        text = text.replace(
            f'family = "{name}"\n', f'family = "{name}"\nsha256 = "{found}"\n'
        )
    file.write_text(text)
    return file


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def collect_wheel(tmp_path: Path, cap_mb: float = 1.0, **wheel: Any) -> int:
    files = wheel.pop("files", {"one/queue.py": module("queue.py")})
    made = make_wheel(tmp_path / "wheels", "one", files, **wheel)
    text = MANIFEST.format(cap_mb=cap_mb)
    manifest = write_manifest(tmp_path, text, one=sha256(made))
    return collect(
        tmp_path / "out", "--manifest", manifest, "--downloads", tmp_path / "wheels"
    )


def test_a_packages_text_stays_under_its_cap_and_its_tests_under_their_share(
    tmp_path: Path,
) -> None:
    sources = {f"one/{f.name}": f for f in sorted(LIBRARY.glob("*.py"))[:60]}
    tests = {f"one/tests/test_{f.name}": f for f in sorted(LIBRARY.glob("[p-z]*.py"))}
    files = {p: f.read_text(encoding="utf-8") for p, f in (sources | tests).items()}
    assert collect_wheel(tmp_path, cap_mb=0.4, files=files) == 0
    found = rows(tmp_path / "out")
    sizes = {row["path"]: len(row["text"].encode()) for row in found}
    test_size = sum(size for path, size in sizes.items() if "/tests/" in path)
    assert 0.35e6 < sum(sizes.values()) <= 0.4e6
    assert 0 < test_size <= 0.15 * 0.4e6
    assert all(ast.parse(row["text"]) for row in found)  # files are whole


@pytest.mark.parametrize(
    ("wheel", "message"),
    [
        ({"licence": GPL}, "licence files of one-1.0-py3-none-any.whl are not MIT"),
        ({"licence": None}, "has no licence file"),
        ({"declares": "GPL-3.0-only"}, "declares copyleft, the manifest says MIT"),
        ({"declares": "Apache-2.0"}, "declares Apache-2.0, the manifest says MIT"),
    ],
)
def test_a_package_of_another_licence_than_the_manifest_says_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    wheel: dict[str, Any],
    message: str,
) -> None:
    assert collect_wheel(tmp_path, **wheel) == 1
    assert message in capsys.readouterr().err


def test_a_wheel_that_is_not_the_pinned_one_is_refused_and_can_be_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wheels = tmp_path / "wheels"
    make_wheel(wheels, "one", {"one/queue.py": module("queue.py")})
    manifest = write_manifest(tmp_path, MANIFEST.format(cap_mb=1.0), one="0" * 64)
    arguments = ("--manifest", manifest, "--downloads", wheels)
    assert collect(tmp_path / "out", *arguments) == 1
    error = capsys.readouterr().err
    assert "the manifest says 0000" in error
    assert "--update-hashes" in error
    assert collect(tmp_path / "out", *arguments, "--update-hashes") == 0
    assert collect(tmp_path / "out", *arguments) == 0
    assert paths(tmp_path / "out") == ["one/queue.py"]


@pytest.fixture
def only_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip may look at."""
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return index


def test_a_package_that_is_not_there_yet_is_downloaded_by_pip(
    tmp_path: Path, only_local: Path
) -> None:
    made = make_wheel(only_local, "one", {"one/queue.py": module("queue.py")})
    text = MANIFEST.format(cap_mb=1.0)
    manifest = write_manifest(tmp_path, text, one=sha256(made))
    downloads = tmp_path / "downloads"
    arguments = ("--manifest", manifest, "--downloads", downloads)
    assert collect(tmp_path / "out", *arguments) == 0
    assert [file.name for file in downloads.iterdir()] == [made.name]
    assert paths(tmp_path / "out") == ["one/queue.py"]


def test_a_package_that_pip_cannot_get_is_one_line_with_its_name(
    tmp_path: Path, only_local: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_manifest(tmp_path, MANIFEST.format(cap_mb=1.0), one="0" * 64)
    arguments = ("--manifest", manifest, "--downloads", tmp_path / "downloads")
    assert collect(tmp_path / "out", *arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("tabwise collect: pip cannot fetch one==1.0: ")
    assert error.count("\n") == 1


def test_the_time_split_holds_only_files_that_a_later_release_added(
    tmp_path: Path,
) -> None:
    old = {"one/queue.py": module("queue.py"), "one/heap.py": module("heapq.py")}
    new = {
        "one/queue.py": module("queue.py") + "\nADDED = True\n",
        "one/moved.py": module("heapq.py"),
        "one/fresh.py": module("textwrap.py"),
    }
    first = make_wheel(tmp_path / "wheels", "one", old)
    second = make_wheel(tmp_path / "wheels", "one", new, version="2.0")
    entry = MANIFEST.format(cap_mb=1.0) + f'sha256 = "{sha256(first)}"\n'
    later = entry[entry.index("[[package]]") :].replace("1.0", "2.0")
    later = later.replace(sha256(first), sha256(second)) + 'split = "time"\n'
    manifest = write_manifest(tmp_path, entry + later)
    out, wheels = tmp_path / "out", tmp_path / "wheels"
    assert collect(out, "--manifest", manifest, "--downloads", wheels) == 0
    assert paths(out, "train") == ["one/heap.py", "one/queue.py"]
    assert paths(out, "time") == ["one/fresh.py"]
    assert report(out)["dropped"]["earlier release"]["files"] == 1


def test_a_run_that_cannot_write_on_leaves_the_corpus_as_it_was(
    tmp_path: Path, project: Path
) -> None:
    out = tmp_path / "out"
    assert collect(out, project) == 0
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    command = (
        f"ulimit -f 2; {sys.executable} -m tabwise_server collect {LIBRARY / 'json'}"
    )
    done = subprocess.run(
        ["bash", "-c", f"{command} --out {out}"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == f"tabwise collect: cannot write {out}: File too large\n"
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_an_empty_folder_is_named(
    tmp_path: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert collect(tmp_path / "out", project, tmp_path / "empty") == 1
    assert "empty holds no *.py" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to collect; name folders or --manifest FILE"),
        (["nowhere"], "nowhere is not a folder"),
        (["--update-hashes"], "--update-hashes needs --manifest FILE"),
    ],
)
def test_what_cannot_be_collected_is_said_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert collect(tmp_path / "out", *arguments) == 1
    assert capsys.readouterr().err == f"tabwise collect: {message}\n"


def test_an_unwritable_place_is_named(
    tmp_path: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert collect(tmp_path / "file" / "out", project) == 1
    assert f"cannot write {tmp_path / 'file' / 'out'}" in capsys.readouterr().err
