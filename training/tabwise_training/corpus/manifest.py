"""The package manifest: which releases make the corpus, and in which split.

A family is everything that one project or vendor writes; a family is in one split only,
so that held-out code is never a sibling of code that was trained on.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import attrs
import cattrs
from attrs.validators import ge, gt, in_
from cattrs.errors import BaseValidationError
from cattrs.v import transform_error

from tabwise_training.errors import ManifestError

SPLITS = ("train", "val", "test")
PERMISSIVE = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "HPND",
        "ISC",
        "MIT",
        "PSF-2.0",
        "Unlicense",
    }
)


@attrs.frozen(kw_only=True)
class Package:
    """One pinned release. cap_mb bounds its source text, in 10^6 bytes of UTF-8."""

    name: str
    version: str
    licence: str
    family: str
    split: str = attrs.field(default="train", validator=in_(SPLITS))
    sha256: str = ""
    cap_mb: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(gt(0))
    )


@attrs.frozen(kw_only=True)
class Stdlib:
    """The running Python's own standard library."""

    split: str = attrs.field(default="train", validator=in_(SPLITS))
    cap_mb: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(gt(0))
    )


@attrs.frozen(kw_only=True)
class Manifest:
    """What `tabwise collect --manifest` reads. test_share bounds test files' bytes."""

    cap_mb: float = attrs.field(default=3.0, validator=gt(0))
    test_share: float = attrs.field(default=0.15, validator=ge(0))
    stdlib: Stdlib | None = None
    package: tuple[Package, ...] = ()


def load_manifest(file: Path) -> Manifest:
    """Read and check a manifest. Raises ManifestError naming entry and key."""
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ManifestError(f"cannot read {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"{file} is not TOML: {error}") from error
    manifest = _structure(data, file)
    _check(manifest, file)
    return manifest


def _structure(data: dict[str, Any], file: Path) -> Manifest:
    converter = cattrs.Converter(forbid_extra_keys=True)
    try:
        return converter.structure(data, Manifest)
    except BaseValidationError as error:
        raise ManifestError(f"{file}: " + "; ".join(transform_error(error))) from error


def _check(manifest: Manifest, file: Path) -> None:
    splits: dict[str, str] = {}
    names: set[str] = set()
    for entry in manifest.package:
        if entry.name in names:
            raise ManifestError(f"{file}: {entry.name} is listed twice")
        names.add(entry.name)
        if not _permitted(entry.licence):
            raise ManifestError(
                f"{file}: {entry.name} has licence {entry.licence!r}; "
                f"permitted are {', '.join(sorted(PERMISSIVE))}"
            )
        if splits.setdefault(entry.family, entry.split) != entry.split:
            raise ManifestError(
                f"{file}: family {entry.family!r} is in {splits[entry.family]} and, "
                f"with {entry.name}, in {entry.split}; a family is in one split"
            )


def _permitted(licence: str) -> bool:
    """Whether some alternative of an `A OR B` expression consists of permitted ones."""
    return any(
        all(part.strip("() ") in PERMISSIVE for part in choice.split(" AND "))
        for choice in licence.split(" OR ")
    )
