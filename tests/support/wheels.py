"""Small wheels, so that collecting can be tried without an index."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

MIT = (
    "Permission is hereby granted, free of charge, to any person obtaining a copy\n"
    "of this software and associated documentation files.\n"
)
GPL = "GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007\n"


def make_wheel(
    folder: Path,
    name: str,
    files: Mapping[str, str],
    version: str = "1.0",
    declares: str = "MIT",
    licence: str | None = MIT,
) -> Path:
    """A wheel that pip would install; `licence` is the text of its licence file."""
    info = f"{name}-{version}.dist-info"
    metadata = (
        "Metadata-Version: 2.4\n"
        f"Name: {name}\nVersion: {version}\nLicense-Expression: {declares}\n\n"
    )
    wheel = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    entries = {**files, f"{info}/METADATA": metadata, f"{info}/WHEEL": wheel}
    if licence is not None:
        entries[f"{info}/licenses/LICENSE"] = licence
    file = folder / f"{name}-{version}-py3-none-any.whl"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") as archive:
        for path, text in entries.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{p},,\n" for p in entries))
    return file
