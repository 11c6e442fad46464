"""What a daemon remembers of a folder: which files, when, and what comes of it."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from support.backend import FAKE, HeldRunner, running_backend, until
from support.engines import Clock
from support.tokenizer import TOKENIZER
from tabwise_model.copying import Remembered
from tabwise_model.infill import Hole, Wanted
from tabwise_model.request import Sampling
from tabwise_server.serving.engine import workspaces
from tabwise_server.serving.engine.reader import Reader
from tabwise_server.serving.engine.workspaces import LOOK_AGAIN_S, Workspaces, read
from tabwise_server.serving.question import Question, Workspace

OURS = "/v1/tabwise/complete"
CODE = (
    "def price_of_{0}(parcel):\n    return parcel.zone.base_price + {0}_surcharge\n\n\n"
)


def code(name: str) -> str:
    return "".join(CODE.format(f"{name}_{part}") for part in ("first", "second"))


def write(folder: Path, *paths: str) -> None:
    for path in paths:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code(file.stem))


def remembered(folder: Path, *unread: str) -> set[str]:
    known = read(Workspace(folder=str(folder), unread=unread), TOKENIZER)
    return set(known.repository.places)


def test_python_files_are_remembered_whole(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "inner/b.py", "notes.md", "inner/data.json")
    known = read(Workspace(folder=str(tmp_path)), TOKENIZER)
    assert set(known.repository.places) == {"a.py", "inner/b.py"}
    for path in ("a.py", "inner/b.py"):
        ids = known.repository.ids_of(path)
        assert ids is not None
        assert TOKENIZER.decode(ids.tolist()) == (tmp_path / path).read_text()


def test_what_is_secret_ignored_or_elsewhere_stays_unread(tmp_path: Path) -> None:
    folder, outside = tmp_path / "project", tmp_path / "elsewhere"
    write(outside, "outside.py")
    write(folder, "a.py", "private/b.py", "build/c.py", ".ssh/d.py", "e_history.py")
    write(folder, ".venv/f.py", "node_modules/g.py", "h.tfvars.py")
    (folder / "link.py").symlink_to(outside / "outside.py")
    (folder / "folder.py").mkdir()
    (folder / ".gitignore").write_text("build/\n")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    # a repository's own program for git to ask is not run
    proof = tmp_path / "proof"
    watch = ["git", "-C", str(folder), "config", "core.fsmonitor", f"touch {proof};"]
    subprocess.run(watch, check=True)
    assert remembered(folder, "private/", "*.tfvars.py") == {"a.py", "e_history.py"}
    assert not proof.exists()
    assert remembered(folder / "build") == {"c.py"}  # all of it is ignored


def test_what_nobody_wrote_is_not_remembered(tmp_path: Path) -> None:
    write(tmp_path, "a.py")
    (tmp_path / "short.py").write_text("x = 1\n")
    (tmp_path / "generated.py").write_text("# @generated\n" + code("x"))
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe" * 200)
    (tmp_path / "long.py").write_text(code("x") + f"DATA = '{'ab ' * 500}'\n")
    (tmp_path / "huge.py").write_text(code("x") * 6_000)
    assert (tmp_path / "huge.py").stat().st_size > workspaces.MOST_BYTES
    assert remembered(tmp_path) == {"a.py"}


@pytest.mark.parametrize("folder", [".", "..", "gone"])
def test_a_home_is_no_workspace(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home/me"
    write(home, "a.py", "project/b.py")
    monkeypatch.setattr(Path, "home", lambda: home)
    assert remembered((home / folder).resolve()) == set()
    assert remembered(home / "project") == {"b.py"}


def test_a_folder_without_git_is_not_searched_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspaces, "MOST_FILES", 3)
    write(tmp_path, *(f"{n}.py" for n in range(9)))
    assert len(remembered(tmp_path)) == 3
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert len(remembered(tmp_path)) == 9


def test_of_too_much_the_newest_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for age, name in enumerate(("new.py", "older.py", "oldest.py")):
        write(tmp_path, name)
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    two = len(TOKENIZER.encode(code("new"))) + len(TOKENIZER.encode(code("older")))
    monkeypatch.setattr(workspaces, "MOST_REMEMBERED_TOKENS", two)
    assert remembered(tmp_path) == {"new.py", "older.py"}


def test_what_found_no_room_is_remembered_once_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "old.py", "new.py")
    os.utime(tmp_path / "old.py", (1e9, 1e9))
    one = len(TOKENIZER.encode(code("old")))
    monkeypatch.setattr(workspaces, "MOST_REMEMBERED_TOKENS", one)
    where = Workspace(folder=str(tmp_path))
    first = read(where, TOKENIZER)
    assert set(first.repository.places) == {"new.py"}
    (tmp_path / "short.py").write_text("x = 1\n")
    second = read(where, TOKENIZER, first)
    assert set(second.repository.places) == {"new.py"}
    (tmp_path / "new.py").unlink()
    assert set(read(where, TOKENIZER, second).repository.places) == {"old.py"}


def test_only_what_has_changed_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "a.py", "b.py", "c.py")
    (tmp_path / "short.py").write_text("x = 1\n")
    where = Workspace(folder=str(tmp_path))
    first = read(where, TOKENIZER)
    opened: list[str] = []
    really = Path.read_bytes

    def spied(file: Path) -> bytes:
        opened.append(file.name)
        return really(file)

    monkeypatch.setattr(Path, "read_bytes", spied)
    assert read(where, TOKENIZER, first) is first
    (tmp_path / "a.py").write_text(code("changed") + "# more\n")
    (tmp_path / "b.py").unlink()
    write(tmp_path, "d.py")
    second = read(where, TOKENIZER, first)
    assert set(second.repository.places) == {"a.py", "c.py", "d.py"}
    assert sorted(opened) == ["a.py", "d.py"]
    fresh = read(where, TOKENIZER).repository
    for path in fresh.places:
        kept, wanted = second.repository.ids_of(path), fresh.ids_of(path)
        assert kept is not None
        assert wanted is not None
        assert kept.tolist() == wanted.tolist()


async def test_a_folder_is_read_beside_and_again_when_it_is_time(
    tmp_path: Path,
) -> None:
    write(tmp_path, "a.py")
    clock = Clock()
    held = Workspaces(TOKENIZER, clock)
    where = Workspace(folder=str(tmp_path), path="b.py")
    assert not held.look(where).places  # it does not wait
    await until(lambda: bool(held.look(where).places))
    tokens = held.tokens
    assert tokens == len(TOKENIZER.encode(code("a")))
    write(tmp_path, "b.py")
    clock.now += LOOK_AGAIN_S - 1
    assert set(held.look(where).places) == {"a.py"}
    await until(lambda: not any(kept.reading for kept in held._kept.values()))
    assert held.tokens == tokens
    clock.now += 1
    await until(lambda: set(held.look(where).places) == {"a.py", "b.py"})
    # it is forgotten when others were asked for since
    for name in "cdef":
        write(tmp_path, f"{name}/x.py")
        held.look(Workspace(folder=str(tmp_path / name)))
    assert not held.look(where).places
    held.close()
    assert not held.look(Workspace(folder=str(tmp_path / "c"))).places


async def test_a_folder_that_cannot_be_read_harms_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "a.py")
    clock = Clock()
    held = Workspaces(TOKENIZER, clock)
    text = "".join(["sec", "ret"])

    def failing(*_: Any) -> Any:
        raise RuntimeError(text)

    with monkeypatch.context() as patched:
        patched.setattr(workspaces, "list_files", failing)
        held.look(Workspace(folder=str(tmp_path)))
        await until(lambda: "RuntimeError, reading a workspace" in caplog.text)
    assert text not in caplog.text
    clock.now += LOOK_AGAIN_S
    await until(lambda: bool(held.look(Workspace(folder=str(tmp_path))).places))
    held.close()


async def test_a_question_copies_from_the_others_and_not_from_its_own_file(
    tmp_path: Path,
) -> None:
    write(tmp_path, "a.py", "b.py")
    reader = Reader(FAKE, 64, 4)
    hole = Hole(prefix="def price_of_")

    def held(path: str | None, **wanted: Any) -> Any:
        where = Workspace(folder=str(tmp_path), path=path)
        question = Question(about=hole, wanted=Wanted(**wanted), workspace=where)
        copy = reader.request(question).copy
        return None if copy is None else copy.remembered

    await until(lambda: held(None) is not None)
    whole, own = held("c.py"), held("a.py")
    start, end = own.skipped
    assert TOKENIZER.decode(own.ids[start:end].tolist()) == code("a")
    assert (whole.skipped, whole.ids.tolist()) == ((0, 0), own.ids.tolist())
    assert held(None, sampling=Sampling(temperature=1.0)) is None
    plain = reader.request(Question(about=hole, wanted=Wanted()))
    assert plain.copy is not None
    assert plain.copy.remembered is None
    reader.workspaces.close()


async def test_a_workspace_goes_before_what_the_checkpoint_remembers(
    tmp_path: Path,
) -> None:
    brought = Remembered.of([np.array([5, 6, 7], np.int32)])
    reader = Reader(attrs.evolve(FAKE, remembered=brought), 64, 4)

    def held(folder: Path) -> Any:
        where = Workspace(folder=str(folder))
        question = Question(about=Hole(prefix="x"), wanted=Wanted(), workspace=where)
        copy = reader.request(question).copy
        assert copy is not None
        return copy.remembered

    assert held(tmp_path) is brought  # nothing is known of it yet, nor ever
    write(tmp_path, "inner/a.py")
    await until(lambda: held(tmp_path / "inner") is not brought)
    reader.workspaces.close()


@pytest.mark.parametrize(
    ("workspace", "daemon", "said"),
    [
        ({"folder": "/"}, False, "reads no folders"),
        ({"folder": "project"}, True, "must be an absolute path, got 'project'"),
        ({"folder": ""}, True, "must be an absolute path"),
        ({"unread": []}, True, "workspace.folder is required"),
        ({"folder": "/", "unread": ["a"] * 257}, True, "at most 256"),
        ({"folder": "/", "files": []}, True, "unknown key 'workspace.files'"),
        ("/", True, "workspace: must be an object"),
    ],
)
async def test_a_folder_that_will_not_be_read_is_named(
    workspace: Any, daemon: bool, said: str
) -> None:
    async with running_backend(HeldRunner(), daemon=daemon) as backend:
        status, answer = await backend.post(
            OURS, {"prefix": "x = ", "workspace": workspace}
        )
        assert status == 422
        assert said in answer["error"]["message"]


@pytest.mark.parametrize("daemon", [True, False])
async def test_who_reads_no_folders_does_not_say_so(daemon: bool) -> None:
    async with running_backend(HeldRunner(), daemon=daemon) as backend:
        _, text = await backend.get("/openapi.json")
    post = json.loads(text)["paths"][OURS]["post"]
    fields = post["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert ("workspace" in fields) is daemon


async def test_answers_that_come_of_a_workspace_are_not_given_again(
    tmp_path: Path,
) -> None:
    write(tmp_path, "a.py")
    asked = {"prefix": "x = ", "workspace": {"folder": str(tmp_path)}}
    options: dict[str, Any] = {"daemon": True, "response_cache_bytes": 1_000_000}
    async with running_backend(HeldRunner(), **options) as backend:
        for _ in range(2):
            assert (await backend.post(OURS, asked))[0] == 200
        found = 'tabwise_response_cache_total{found="memory"}'
        assert await backend.metric(found) == 0
        tokens = len(FAKE.tokenizer.encode(code("a")))
        await until(lambda: backend.keeper.model.remembered_tokens == tokens)
        assert await backend.metric("tabwise_remembered_tokens") == tokens
