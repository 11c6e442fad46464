"""A quota is read as the kernel writes it."""

import os
import sys
from pathlib import Path

import pytest

from tabwise_model.runners import processors
from tabwise_model.runners.processors import usable_processors


@pytest.mark.parametrize(
    ("own", "above", "usable"),
    [
        ("max 100000", "max 100000", 16),
        ("200000 100000", "max 100000", 2),
        ("150000 100000", "max 100000", 2),
        ("10000 100000", "max 100000", 1),
        ("400000 100000", "300000 100000", 3),
        ("6400000 100000", "max 100000", 16),
        ("x y", "max", 16),
    ],
)
def test_what_a_quota_allows(
    own: str, above: str, usable: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cgroup = tmp_path / "a.slice" / "b.service"
    cgroup.mkdir(parents=True)
    (cgroup / "cpu.max").write_text(own + "\n")
    (tmp_path / "a.slice" / "cpu.max").write_text(above + "\n")
    monkeypatch.setattr(
        os, "sched_getaffinity", lambda _: set(range(16)), raising=False
    )
    groups = [cgroup, tmp_path / "a.slice", tmp_path]
    monkeypatch.setattr(processors, "_own_cgroups", lambda: groups)
    assert usable_processors() == usable


@pytest.mark.skipif(sys.platform != "linux", reason="cgroups are Linux'")
def test_the_cgroups_of_this_process_are_folders() -> None:
    found = processors._own_cgroups()
    assert processors.CGROUPS in found or not found
    assert 1 <= usable_processors() <= (os.cpu_count() or 1)
