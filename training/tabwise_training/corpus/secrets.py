"""Whether a file holds a credential: detect-secrets' detectors, where they may apply.

Running every detector on every line would cost more than all the rest; each is run only
on lines that hold the words without which it cannot match (of a private key: those of
the file and not only of its name), or a quoted string of the length that it wants.
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
# Each begins with a letter that it needs, so that a search costs one pass of memchr.
_AWS = r"A(?:3T|BIA|CCA|KIA|SIA)"
_GITHUB = r"gh[oprsu]_"
_GITLAB = r"gl(?:agent|cbt|dt|ft|imt|oas|pat|ptt|rt|soat)-"
_WORD = re.compile(r"[a-z]{4,}|[A-Z]{4,}")
BASE64_LIMIT = 4.0  # bits a character
HEX_LIMIT = 3.0
MIN_DIGITS = 3
MAX_WORDS = 0.5  # of a string's characters, in runs of letters of one case
AWS_SECRET = 40  # characters


def holds_secret(text: str) -> bool:
    """Whether some line holds what looks like a real credential, not a placeholder."""
    for detector, line in _candidates(text):
        found = set(detector.analyze_string(line))
        if any(_PLACEHOLDER.search(secret) is None for secret in found):
            return True
    return False


def _candidates(text: str) -> Iterator[tuple[BasePlugin, str]]:
    for words, detector in _detectors():
        found = words.search(text)
        while found:
            start, end = _line_around(text, found.start())
            yield detector, text[start:end]
            found = words.search(text, end)
    for match in _QUOTED.finditer(text):
        start, end = _line_around(text, match.start())
        if len(match[0]) == AWS_SECRET + 2 and "aws" in text[start:end].lower():
            yield _aws(), text[start:end]
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
def _aws() -> BasePlugin:
    return AWSKeyDetector()


@cache
def _detectors() -> tuple[tuple[re.Pattern[str], BasePlugin], ...]:
    """(what each match of the detector holds, detector)."""
    gitlab, slack = GitLabTokenDetector(), SlackDetector()
    rows = (
        (_AWS, _aws()),
        ("AccountKey=", AzureStorageKeyDetector()),
        (_GITHUB, GitHubTokenDetector()),
        (_GITLAB, gitlab),
        ("GR1348941", gitlab),
        ("eyJ", JwtTokenDetector()),
        ("T3BlbkFJ", OpenAIDetector()),
        ("-----BEGIN", PrivateKeyDetector()),
        ("PuTTY-User-Key-File-2:", PrivateKeyDetector()),
        ("pypi-Ag", PypiTokenDetector()),
        (r"SG\.", SendGridDetector()),
        ("xox", slack),
        (r"hooks\.slack\.com", slack),
        ("sq0csp-", SquareOAuthDetector()),
        ("k_live_", StripeDetector()),
    )
    return tuple((re.compile(words), detector) for words, detector in rows)
