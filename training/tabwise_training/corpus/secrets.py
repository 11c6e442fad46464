"""Whether a file holds a credential: detect-secrets' detectors, where they may apply.

Running every detector on every line would cost more than all the rest; each is run only
on lines that hold the literal without which it cannot match.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
from detect_secrets.plugins.base import BasePlugin
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
from detect_secrets.plugins.high_entropy_strings import (
    Base64HighEntropyString,
    HexHighEntropyString,
)
from detect_secrets.plugins.jwt import JwtTokenDetector
from detect_secrets.plugins.openai import OpenAIDetector
from detect_secrets.plugins.private_key import PrivateKeyDetector
from detect_secrets.plugins.pypi_token import PypiTokenDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.slack import SlackDetector
from detect_secrets.plugins.square_oauth import SquareOAuthDetector
from detect_secrets.plugins.stripe import StripeDetector

# A long quoted string given to a name that speaks of a secret; its entropy is judged
# by detect-secrets.
_QUOTED = re.compile(r"[\"'][A-Za-z0-9+/=_-]{20,}[\"']")
_NAMED = re.compile(
    r"(secret|token|passw\w*|api_?key|private_?key)[\"']?(: str)?\s*[:=]\s*[\[(]?b?$",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(r"example|xxxx|1234567|abcdef|fake|dummy|test", re.IGNORECASE)
_WORD = re.compile(r"[a-z]{4,}|[A-Z]{4,}")
BASE64_LIMIT = 4.0  # bits a character
HEX_LIMIT = 3.0
MIN_DIGITS = 3
MAX_WORDS = 0.5  # of a string's characters, in runs of letters of one case


def holds_secret(text: str) -> bool:
    """Whether some line holds what looks like a real credential, not a placeholder."""
    for detector, line in _candidates(text):
        found = set(detector.analyze_string(line))
        if any(_PLACEHOLDER.search(secret) is None for secret in found):
            return True
    return False


def _candidates(text: str) -> Iterator[tuple[BasePlugin, str]]:
    for literal, detector in _detectors():
        at = text.find(literal)
        while at >= 0:
            start, end = _line_around(text, at)
            yield detector, text[start:end]
            at = text.find(literal, end)
    for match in _QUOTED.finditer(text):
        start, end = _line_around(text, match.start())
        if _NAMED.search(text[start : match.start()]) and _is_random(match[0]):
            for detector in _entropy():
                yield detector, text[start:end]


def _is_random(quoted: str) -> bool:
    """Whether a string has digits and is not put together from words."""
    words = sum(map(len, _WORD.findall(quoted)))
    digits = sum(map(str.isdigit, quoted))
    return digits >= MIN_DIGITS and words <= MAX_WORDS * len(quoted)


def _line_around(text: str, at: int) -> tuple[int, int]:
    end = text.find("\n", at)
    return text.rfind("\n", 0, at) + 1, len(text) if end < 0 else end


@cache
def _entropy() -> tuple[BasePlugin, ...]:
    return Base64HighEntropyString(BASE64_LIMIT), HexHighEntropyString(HEX_LIMIT)


@cache
def _detectors() -> tuple[tuple[str, BasePlugin], ...]:
    """(literal without which the detector does not match, detector)."""
    aws, github, slack = AWSKeyDetector(), GitHubTokenDetector(), SlackDetector()
    return (
        ("AKIA", aws),
        ("ASIA", aws),
        ("AccountKey=", AzureStorageKeyDetector()),
        ("ghp_", github),
        ("gho_", github),
        ("ghs_", github),
        ("glpat-", GitLabTokenDetector()),
        ("eyJ", JwtTokenDetector()),
        ("T3BlbkFJ", OpenAIDetector()),
        ("-----BEGIN", PrivateKeyDetector()),
        ("pypi-Ag", PypiTokenDetector()),
        ("SG.", SendGridDetector()),
        ("xox", slack),
        ("hooks.slack.com", slack),
        ("sq0csp-", SquareOAuthDetector()),
        ("k_live_", StripeDetector()),
    )
