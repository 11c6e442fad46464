"""The compiled library behind the native runner: found, checked, and typed."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

from tabwise_model.runners.build import LIBRARY, digest_sources

REMEDY = "run `python -m tabwise_model.runners.build` (it needs a C++ compiler)"

_POINTER = ctypes.c_void_p
_INT = ctypes.c_int


class NativeLibraryError(RuntimeError):
    """The native library is absent or unfit; the message names the remedy."""


class Shape(ctypes.Structure):
    """`TabwiseShape` of native/tabwise.h, field by field."""

    _fields_ = (
        ("layers", ctypes.c_int32),
        ("heads", ctypes.c_int32),
        ("kv_heads", ctypes.c_int32),
        ("head_size", ctypes.c_int32),
        ("head_stride", ctypes.c_int32),
        ("channels", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("hidden", ctypes.c_int32),
        ("vocab", ctypes.c_int32),
        ("slots", ctypes.c_int32),
        ("slot_tokens", ctypes.c_int32),
        ("group", ctypes.c_int32),
        ("embed_group", ctypes.c_int32),
        ("norm_eps", ctypes.c_float),
    )


_SIGNATURES = {
    "tabwise_built_from": (ctypes.c_char_p, []),
    "tabwise_paths": (_INT, [ctypes.c_char_p, _INT]),
    "tabwise_create": (_POINTER, [ctypes.POINTER(Shape), ctypes.c_char_p, _INT]),
    "tabwise_destroy": (None, [_POINTER]),
    "tabwise_load": (_INT, [_POINTER, _INT, _INT, _POINTER, _POINTER]),
    "tabwise_load_int4": (_INT, [_POINTER, _INT, _INT, *[_POINTER] * 3]),
    "tabwise_step": (
        None,
        [_POINTER, _INT, *[_POINTER] * 3, _INT, *[_POINTER] * 2],
    ),
    "tabwise_copy_slot": (None, [_POINTER, _INT, _INT, _INT, _INT]),
    "tabwise_adopt_slot": (None, [_POINTER, _POINTER, _INT, _INT]),
    "tabwise_counters": (None, [_POINTER, _POINTER, _POINTER]),
    "tabwise_occurrences": (
        _INT,
        [_POINTER, _INT, _POINTER, *[_INT] * 3, *[_POINTER] * 2],
    ),
    "tabwise_nearest": (
        _INT,
        [*[_POINTER] * 2, *[_INT] * 3, _POINTER, *[_INT] * 2, *[_POINTER] * 2],
    ),
    "tabwise_choose": (
        _INT,
        [ctypes.c_char_p, _POINTER, *[_INT] * 3, *[_POINTER] * 2],
    ),
    "tabwise_agreements": (
        None,
        [*[_POINTER] * 2, *[_INT] * 3, _POINTER, *[_INT] * 3, _POINTER],
    ),
}


def load_library(
    file: Path = LIBRARY, kind: type[ctypes.CDLL] = ctypes.CDLL
) -> ctypes.CDLL:
    """The library, its functions typed. kind: PyDLL keeps Python's lock while they run.
    Raises NativeLibraryError: absent, not loadable, or built from other sources than
    those beside it."""
    if not file.is_file():
        raise NativeLibraryError(f"{file} is not there: {REMEDY}")
    try:
        library = kind(str(file))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise NativeLibraryError(f"{file} does not load ({error}): {REMEDY}") from error
    if library.tabwise_built_from() != digest_sources().encode():
        raise NativeLibraryError(f"{file} was built from other sources: {REMEDY}")
    return library


@functools.cache
def free_library() -> ctypes.CDLL | None:
    """For what lets Python's lock go; None where there is none."""
    try:
        return load_library()
    except NativeLibraryError:
        return None


@functools.cache
def locked_library() -> ctypes.CDLL | None:
    """For what is so short that Python's lock is kept; None where there is none."""
    try:
        return load_library(kind=ctypes.PyDLL)
    except NativeLibraryError:
        return None


def usable_paths(library: ctypes.CDLL) -> list[str]:
    """Names of the instruction sets that this processor has, the best first."""
    names = ctypes.create_string_buffer(256)
    library.tabwise_paths(names, len(names))
    return names.value.decode("ascii").split()
