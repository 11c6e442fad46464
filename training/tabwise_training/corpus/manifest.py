"""The package manifest: which releases make the corpus, and in which split.

A family is everything that one project or vendor writes; a family is in one split
only, so that held-out code is never a sibling of code that was trained on. The split
"time" is the exception by design: files that a later release of a package added.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from itertools import takewhile
from pathlib import Path
from typing import Any

import attrs
import cattrs
from attrs.validators import gt, in_, optional
from cattrs.errors import BaseValidationError
from cattrs.v import format_exception, transform_error

from tabwise_training.errors import ManifestError

SPLITS = ("train", "val", "test", "time")
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
    """One pinned release. cap_mb bounds its source text, in 10^6 bytes of UTF-8.

    python: the Python version to download for, where it is not the running one.
    """

    name: str
    version: str
    licence: str
    family: str
    split: str = attrs.field(default="train", validator=in_(SPLITS))
    sha256: str | None = None
    cap_mb: float | None = attrs.field(default=None, validator=optional(gt(0)))
    python: str | None = None

    @property
    def pin(self) -> str:
        return f"{self.name}=={self.version}"


@attrs.frozen(kw_only=True)
class Stdlib:
    """The running Python's own standard library."""

    split: str = attrs.field(default="train", validator=in_(SPLITS))
    cap_mb: float | None = attrs.field(default=None, validator=optional(gt(0)))


@attrs.frozen(kw_only=True)
class Manifest:
    """What `tabwise collect --manifest` reads.

    test_share: tests' part of a package's text, at most, 0..1.
    """

    cap_mb: float = attrs.field(default=3.0, validator=gt(0))
    test_share: float = attrs.field(
        default=0.15,
        validator=[attrs.validators.ge(0), attrs.validators.le(1)],
    )
    stdlib: Stdlib | None = None
    package: tuple[Package, ...] = ()

    def earlier(self, later: Package) -> Package:
        """The entry that a "time" entry is compared with."""
        return next(
            p for p in self.package if p.name == later.name and p.split != "time"
        )


def load_manifest(file: Path) -> Manifest:
    """Read and check a manifest. Raises ManifestError naming entry and key."""
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ManifestError(f"cannot read {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"{file} is not TOML: {error}") from error
    manifest = _structure(data, file)
    for problem in _problems(manifest):
        raise ManifestError(f"{file}: {problem}")
    return manifest


def _structure(data: dict[str, Any], file: Path) -> Manifest:
    converter = cattrs.Converter(forbid_extra_keys=True)
    try:
        return converter.structure(data, Manifest)
    except BaseValidationError as error:
        problems = transform_error(error, format_exception=_explain)
        raise ManifestError(f"{file}: " + "; ".join(problems)) from error


def _explain(error: BaseException, kind: type | None) -> str:
    """A validator's own words where there are some: they name key and value."""
    if isinstance(error, ValueError) and error.args:
        return str(error.args[0])
    return format_exception(error, kind)


def _problems(manifest: Manifest) -> list[str]:
    held = [p for p in manifest.package if p.split != "time"]
    later = [p for p in manifest.package if p.split == "time"]
    counts = Counter(p.name for p in held) + Counter(f"{p.name} (time)" for p in later)
    return [
        *(f"{name} is listed twice" for name, count in counts.items() if count > 1),
        *(
            f"{p.name} has licence {p.licence!r}; permitted are "
            f"{', '.join(sorted(PERMISSIVE))}"
            for p in manifest.package
            if not permitted(p.licence)
        ),
        *_torn_families(held),
        *(
            f'{p.name} has split "time" and no earlier release in another split'
            for p in later
            if p.name not in counts
        ),
    ]


def _torn_families(packages: list[Package]) -> list[str]:
    first: dict[str, Package] = {}
    return [
        f"family {p.family!r} is in {first[p.family].split} and, with {p.name}, in "
        f"{p.split}; a family is in one split"
        for p in packages
        if first.setdefault(p.family, p).split != p.split
    ]


def permitted(licence: str) -> bool:
    """Whether some alternative of an `A OR B` expression has permitted ones only."""
    return any(
        all(part.strip("() ") in PERMISSIVE for part in choice.split(" AND "))
        for choice in licence.split(" OR ")
    )


def with_hashes(text: str, hashes: dict[tuple[str, str], str]) -> str:
    """A manifest's text with `sha256` of each (name, version) filled in; nothing else
    changes."""
    head, *entries = text.split("[[package]]")
    return "[[package]]".join([head, *(_with_hash(e, hashes) for e in entries)])


def _with_hash(entry: str, hashes: dict[tuple[str, str], str]) -> str:
    data = tomllib.loads(entry)
    found = hashes.get((data["name"], data["version"]))
    if found is None:
        return entry
    lines = [line for line in entry.split("\n") if not line.startswith("sha256 ")]
    own = takewhile(lambda i: not lines[i].startswith("["), range(len(lines)))
    last = max(i for i in own if " = " in lines[i])
    lines.insert(last + 1, f'sha256 = "{found}"')
    return "\n".join(lines)
