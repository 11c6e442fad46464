"""Files that hold a credential are left out."""

from __future__ import annotations

import re

# Each sign is looked for only where its literal stands: a plain search is far cheaper.
_SIGNS = {
    "AKIA": re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    "PRIVATE KEY-----": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "ghp_": re.compile(r"\bghp_[0-9A-Za-z]{36}\b"),
    "xox": re.compile(r"\bxox[baprs]-[0-9A-Za-z-]{10,}"),
    "AIza": re.compile(r"\bAIza[0-9A-Za-z_-]{35}\b"),
    "sk_live_": re.compile(r"\bsk_live_[0-9A-Za-z]{24}"),
    "hf_": re.compile(r"\bhf_[A-Za-z]{34}\b"),
}


def holds_secret(text: str) -> bool:
    return any(
        literal in text and sign.search(text) is not None
        for literal, sign in _SIGNS.items()
    )
