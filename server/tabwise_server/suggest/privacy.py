"""Files that are never read, completed in or sent: keys, credentials, secrets."""

from __future__ import annotations

import fnmatch
from pathlib import PurePosixPath

# A name ending in "/" is any folder on the way, the others are the file itself.
SECRET_PATTERNS = (
    ".env",
    ".env.*",
    "*.env",
    ".envrc",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.keystore",
    "*.kdbx",
    "*.asc",
    "*.gpg",
    "*.ppk",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    "credentials",
    "credentials.*",
    "secrets",
    "secrets.*",
    ".secrets.*",
    "*.secret",
    ".netrc",
    "_netrc",
    ".pgpass",
    ".pypirc",
    ".npmrc",
    ".htpasswd",
    ".git-credentials",
    "*_history",
    ".aws/",
    ".ssh/",
    ".gnupg/",
    ".kube/",
    ".docker/",
    ".azure/",
    "gcloud/",
)
# Python code by those names is code, as far as nothing else says so.
_CODE = ("secrets.py", "credentials.py", "secrets.pyi", "credentials.pyi")


def is_secret(path: str | None) -> bool:
    """Whether a file by this path must stay unread; True on the safe side of case.

    >>> is_secret("/home/me/project/.env.local"), is_secret("/home/me/.ssh/config")
    (True, True)
    >>> is_secret("src/environment.py")
    False
    """
    if not path:
        return False
    parts = PurePosixPath(path.replace("\\", "/").lower()).parts
    if not parts:
        return False
    *folders, name = parts
    if any(
        pattern[:-1] in folders for pattern in SECRET_PATTERNS if pattern[-1] == "/"
    ):
        return True
    return name not in _CODE and any(
        fnmatch.fnmatchcase(name, pattern) for pattern in SECRET_PATTERNS
    )


def matches(path: str, pattern: str) -> bool:
    """Whether a path from the folder's root is of a pattern: of its name where the
    pattern has no slash, of any folder on the way where it ends in one.

    >>> matches("src/a.min.js", "*.min.js"), matches("src/gen/x.py", "gen/")
    (True, True)
    """
    path, pattern = path.lower(), pattern.lower().strip()
    parts = path.split("/")
    if pattern.endswith("/") and "/" not in pattern[:-1]:
        return any(fnmatch.fnmatchcase(part, pattern[:-1]) for part in parts[:-1])
    if pattern.endswith("/"):
        return fnmatch.fnmatchcase(path, pattern + "*")
    if pattern.startswith("**/"):
        pattern, path = pattern[2:], f"/{path}"
        return fnmatch.fnmatchcase(path, f"*{pattern}")
    if "/" in pattern:
        return fnmatch.fnmatchcase(path, pattern)
    return fnmatch.fnmatchcase(parts[-1], pattern)
