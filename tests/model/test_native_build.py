"""The library as built: fit or refused, for ARM too, in the wheel or left out."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from support.native import build_driver, link_driver, need_library, run_driver
from tabwise_model.runners import build, native, native_library
from tabwise_model.runners.build import LIBRARY, BuildError, find_compiler
from tabwise_model.runners.native_library import NativeLibraryError, load_library

ROOT = Path(__file__).parents[2]
REMEDY = r"python -m tabwise_model\.runners\.build"


def test_an_absent_library_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(NativeLibraryError, match=f"not there.*{REMEDY}"):
        load_library(tmp_path / "none.so")


def test_a_file_that_is_no_library_names_the_remedy(tmp_path: Path) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"not a library")
    with pytest.raises(NativeLibraryError, match=f"does not load.*{REMEDY}"):
        load_library(broken)


def test_a_library_of_other_sources_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    need_library()
    monkeypatch.setattr(native_library, "digest_sources", lambda: "another")
    with pytest.raises(NativeLibraryError, match=f"other sources.*{REMEDY}"):
        load_library()
    assert not native.native_available()


def test_the_digest_follows_every_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "native"
    shutil.copytree(build.SOURCES, copy)
    monkeypatch.setattr(build, "SOURCES", copy)
    before = build.digest_sources()
    (copy / "pool.h").write_text("// another\n")
    assert build.digest_sources() != before


def test_no_compiler_is_an_error_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BuildError, match=r"apt install g\+\+"):
        find_compiler()


def test_a_failing_compiler_says_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no-such-option"):
        build.build(tmp_path / "x.so", compiler=["c++", "--no-such-option"])
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_arm_gives_the_bits_that_this_processor_gives(tmp_path: Path) -> None:
    """Cross-compiled, and run under emulation with and without dot products."""
    compiler, emulator = "aarch64-linux-gnu-g++", "qemu-aarch64-static"
    if not shutil.which(compiler) or not shutil.which(emulator):
        pytest.skip(f"needs {compiler} and {emulator}")
    need_library()
    for name in ("arm", "here"):
        (tmp_path / name).mkdir()
    arm = build_driver(tmp_path / "arm", [compiler, "-static"], machine="aarch64")
    linked = [str(LIBRARY), f"-Wl,-rpath,{LIBRARY.parent}"]
    here = link_driver(tmp_path / "here", find_compiler(), linked)
    lines = [
        *run_driver(here).splitlines(),
        *run_driver(emulator, arm).splitlines(),
        *run_driver(emulator, "-cpu", "cortex-a53", arm).splitlines(),
    ]
    assert {"neondot", "neon", "plain"} <= {line.split()[0] for line in lines}
    assert len({tuple(line.split()[2:]) for line in lines}) == 1


def copy_tree(folder: Path) -> Path:
    """What a wheel is built from, without what was built before."""
    for name in ("model", "server", "training"):
        ignored = shutil.ignore_patterns("*.so", "__pycache__", "checkpoints")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def build_wheel(tree: Path, **environment: str) -> tuple[Path, str]:
    """The wheel, and what the build said."""
    pytest.importorskip("hatchling")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel"],
        cwd=tree,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = (tree / "dist").glob("*.whl")
    return wheel, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_wheel_holds_the_library_and_its_platform(tmp_path: Path) -> None:
    need_library()
    wheel, _ = build_wheel(copy_tree(tmp_path))
    assert not wheel.name.endswith("-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert f"tabwise_model/runners/{LIBRARY.name}" in names
    assert "tabwise_model/runners/native/step.h" in names  # to build it later


def test_without_a_compiler_the_wheel_is_plain_and_the_build_says_so(
    tmp_path: Path,
) -> None:
    wheel, said = build_wheel(copy_tree(tmp_path), CXX="no-such-compiler")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "without its native runner" in said
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if name.endswith(".so")]
