"""Folders that take another's place whole."""

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tabwise_model import folders
from tabwise_model.folders import fresh_folder, replace_folder

ROUNDS = 300


def write(folder: Path, text: str) -> None:
    with fresh_folder(folder) as fresh:
        (fresh / "one").write_text(text)
        (fresh / "two").write_text(text)


def missed_while(folder: Path, work: Callable[[], None]) -> int:
    """How often a reader found no folder while `work` ran."""
    missed, ended = 0, threading.Event()

    def read() -> None:
        nonlocal missed
        while not ended.is_set():
            missed += not (folder / "one").is_file()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        work()
    finally:
        ended.set()
        reader.join()
    return missed


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2 is Linux's")
def test_a_reader_always_finds_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write(folder, "0")

    def work() -> None:
        for number in range(ROUNDS):
            write(folder, str(number))

    assert missed_while(folder, work) == 0
    assert (folder / "two").read_text() == str(ROUNDS - 1)
    assert list(tmp_path.iterdir()) == [folder]


def test_where_names_cannot_be_exchanged_one_replaces_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_exchange", lambda one, other: False)
    for text in ("old", "new"):
        write(tmp_path / "model", text)
    assert (tmp_path / "model" / "two").read_text() == "new"
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]


def test_a_link_is_replaced_and_what_it_names_is_left(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "fresh").mkdir()
    (tmp_path / "fresh" / "new").touch()
    replace_folder(tmp_path / "fresh", tmp_path / "link")
    assert (tmp_path / "link" / "new").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]
    assert not (tmp_path / "link").is_symlink()
