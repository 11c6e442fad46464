"""What a package's licence is, read from its licence files and not only its metadata."""

from __future__ import annotations

import re

# One telling sentence of each text, with white space squeezed and in lower case.
_TEXTS = (
    ("Apache-2.0", r"apache license,? version 2\.0|apache\.org/licenses/license-2\.0"),
    ("MIT", r"permission is hereby granted, free of charge, to any person obtaining"),
    ("BSD", r"redistribution and use in source and binary forms,? with or without"),
    ("ISC", r"permission to use, copy, modify, and/?o?r? ?distribute this software"),
    ("PSF-2.0", r"python software foundation license|license agreement for matplotlib"),
    ("HPND", r"permission to use, copy, modify,? and distribute this software and its"),
    ("Unlicense", r"this is free and unencumbered software released into the public"),
)
_COPYLEFT = re.compile(
    r"gnu (lesser |affero |library )?general public license|mozilla public license"
)


def is_licence_file(path: str) -> bool:
    name = path.rsplit("/", 1)[-1].lower()
    return re.match(r"(un)?licen[cs]e|copying", name) is not None


def recognise(text: str) -> set[str]:
    """Short names of the licences whose texts stand in a licence file.

    "BSD" stands for either BSD text; "copyleft" for any GPL or MPL.
    """
    squeezed = re.sub(r"[\s#*]+", " ", text).lower()
    found = {name for name, pattern in _TEXTS if re.search(pattern, squeezed)}
    if _COPYLEFT.search(squeezed):
        found.add("copyleft")
    return found


def confirms(licence: str, texts: list[str]) -> bool:
    """Whether the licence files hold each licence that the manifest's name needs."""
    found = set().union(*map(recognise, texts))
    return any(
        all(_short(part) in found for part in choice.split(" AND "))
        for choice in licence.split(" OR ")
    )


def _short(part: str) -> str:
    name = part.strip("() ")
    return "BSD" if name.startswith("BSD-") else name
