"""What a package's licence is, read from its licence files and not only its metadata.

Short names: an SPDX identifier, but "BSD" for either BSD text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# A telling passage of each text, with white space squeezed and in lower case.
_TEXTS = (
    ("Apache-2.0", r"apache license,? version 2\.0|apache\.org/licenses/license-2\.0"),
    ("MIT", r"permission is hereby granted, free of charge, to any person obtaining"),
    ("BSD", r"redistribution and use in source and binary forms,? with or without"),
    ("ISC", r"permission to use, copy, modify, and/?o?r? ?distribute this software"),
    ("PSF-2.0", r"python software foundation license|license agreement for matplotlib"),
    ("HPND", r"permission to use, copy, modify,? and distribute this software and its"),
    ("Unlicense", r"this is free and unencumbered software released into the public"),
)
_NAMES = (
    ("Apache-2.0", r"apache"),
    ("MIT", r"\bmit\b"),
    ("BSD", r"\bbsd\b"),
    ("ISC", r"\bisc\b"),
    ("PSF-2.0", r"\bpsf\b|python software foundation"),
    ("HPND", r"hpnd|historical permission"),
    ("Unlicense", r"unlicense"),
)
_COPYLEFT_TEXT = re.compile(
    r"gnu (lesser |affero |library )?general public license|mozilla public license"
)
_COPYLEFT_NAME = re.compile(
    r"\b(a|l)?gpl|\bmpl\b|general public|mozilla|proprietary|eupl|sspl|busl|commercial",
    re.IGNORECASE,
)
COPYLEFT = "copyleft"
_LONG = 100  # characters: a License field that holds the text, not the name


def is_licence_file(path: str) -> bool:
    name = path.rsplit("/", 1)[-1].lower()
    return re.match(r"(un)?licen[cs]e|copying", name) is not None


def recognise(text: str) -> set[str]:
    """Short names of the licences whose texts a licence file holds; GPL and MPL are
    COPYLEFT."""
    squeezed = re.sub(r"[\s#*]+", " ", text).lower()
    found = {name for name, pattern in _TEXTS if re.search(pattern, squeezed)}
    return found | ({COPYLEFT} if _COPYLEFT_TEXT.search(squeezed) else set())


def copyleft_folders(files: Iterable[tuple[str, bytes]]) -> tuple[str, ...]:
    """Folders (`a/b/`, "" for the root) whose licence file holds a copyleft text and no
    permissive one; a wheel's own .dist-info is not judged here."""
    return tuple(
        path[: path.rfind("/") + 1]
        for path, data in files
        if is_licence_file(path)
        and ".dist-info/" not in path
        and recognise(data.decode("utf-8", "replace")) == {COPYLEFT}
    )


def declared(metadata: str) -> set[str]:
    """Short names of what METADATA's headers say; COPYLEFT for what is not permissive.

    `A OR B` is a choice, so one permissive alternative makes the rest no matter.
    """
    found: set[str] = set()
    for said in _statements(metadata):
        names = {name for name, pattern in _NAMES if re.search(pattern, said.lower())}
        found |= names
        if _COPYLEFT_NAME.search(said) and not (names and " OR " in said):
            found.add(COPYLEFT)
    return found


def _statements(metadata: str) -> Iterable[str]:
    for line in metadata.split("\n\n", 1)[0].splitlines():
        key, _, value = line.partition(":")
        field = key in ("License-Expression", "License") and len(value) < _LONG
        if field or (key == "Classifier" and value.startswith(" License ::")):
            yield value.strip()


def covers(licence: str, found: set[str]) -> bool:
    """Whether the short names found include all that an SPDX expression needs."""
    return any(
        all(short(part) in found for part in choice.split(" AND "))
        for choice in licence.split(" OR ")
    )


def short(part: str) -> str:
    name = part.strip("() ")
    return "BSD" if name.startswith("BSD-") else name
