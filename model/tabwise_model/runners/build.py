"""Compile the native runner's library: `python -m tabwise_model.runners.build`.

The wheel's build hook runs this file by its path, so it needs the standard library
alone. Every path is compiled for its own instruction set and chosen at run time: the
result runs on any processor of the architecture.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCES = Path(__file__).parent / "native"
LIBRARY = Path(__file__).parent / "libtabwise_native.so"

# No fused multiply-adds and no reordering: all paths compute the same bits.
FLAGS = (
    "-O3",
    "-std=c++17",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wall",
    "-Wextra",
    "-Wno-psabi",
)
AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni")
PATH_FLAGS = {
    "x86_64": {
        "path_avx512vnni": (*AVX512, "-mprefer-vector-width=512"),
        "path_avxvnni": ("-mavx2", "-mavxvnni"),
        "path_avx2": ("-mavx2",),
    },
    "aarch64": {
        "path_neondot": ("-march=armv8.2-a+dotprod",),
        "path_neon": (),
    },
}
SHARED = ("api", "choose", "model", "occurrences", "pool", "paths", "path_plain")


class BuildError(RuntimeError):
    """The library cannot be compiled; the message says why and what would help."""


def build(
    library: Path = LIBRARY,
    *,
    compiler: Sequence[str] | None = None,
    machine: str | None = None,
) -> Path:
    """`library` is compiled anew, replaced atomically. Raises BuildError.

    compiler: command and options, by default $CXX or what is found. machine: the
    architecture compiled for, by default this one.
    """
    compiler = compiler or find_compiler()
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent, prefix=".build-") as folder:
        objects = compile_objects(Path(folder), compiler, machine)
        linked = Path(folder) / library.name
        run([*compiler, "-shared", "-pthread", "-o", linked, *objects])
        os.replace(linked, library)
    return library


def compile_objects(
    folder: Path, compiler: Sequence[str], machine: str | None = None
) -> list[Path]:
    """One object file in `folder` for each source that `machine` can use."""
    paths = PATH_FLAGS.get(machine or machine_name(), {})
    stamp = f'-DTABWISE_BUILT_FROM="{digest_sources()}"'

    def compile_one(name: str) -> Path:
        target = folder / f"{name}.o"
        command, *options = compiler  # the caller's options come last: they win
        flags = [*FLAGS, *paths.get(name, ()), stamp, *options]
        run([command, *flags, "-c", SOURCES / f"{name}.cpp", "-o", target])
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, (*paths, *SHARED)))


def digest_sources() -> str:
    """SHA-256, hex, of all that the library is made from: files and flags."""
    digest = hashlib.sha256(repr((FLAGS, PATH_FLAGS)).encode())
    for file in sorted([*SOURCES.glob("*.cpp"), *SOURCES.glob("*.h")]):
        digest.update(f"{file.name}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def machine_name() -> str:
    """The architecture, by one name whatever the system calls it."""
    name = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


def find_compiler() -> list[str]:
    """A C++ compiler's command. Raises BuildError if there is none."""
    if chosen := os.environ.get("CXX"):
        return shlex.split(chosen)
    for name in ("g++", "clang++", "c++"):
        if found := shutil.which(name):
            return [found]
    raise BuildError(
        "no C++ compiler: install g++ or clang++ (Debian: apt install g++; "
        "macOS: xcode-select --install), or name one in CXX"
    )


def run(command: Sequence[str | Path]) -> None:
    """The command has succeeded. Raises BuildError with what it said."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(f"{words[0]} does not start: {error}") from error
    if done.returncode:
        raise BuildError(f"{shlex.join(words)} failed:\n{done.stderr.strip()}")


def main() -> int:
    try:
        library = build()
    except BuildError as error:
        print(f"The native runner was not built: {error}", file=sys.stderr)
        return 1
    print(f"Built {library}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
