"""Who may ask: API keys from the settings, and from a file that may change."""

from __future__ import annotations

import hmac
import logging
from pathlib import Path

from tabwise_server.errors import SettingsError, Unauthorized
from tabwise_server.settings import ServeSettings

logger = logging.getLogger(__name__)

ANYONE = "anyone"  # the caller's name where no key is asked for
OWN = "api_key"  # that of the key in the settings
MIN_KEY_CHARS = 16


class Keys:
    """All keys that are right now. The file has a line `NAME KEY` for each, `#` begins
    a comment; it is read again when it changes, and a broken one changes nothing."""

    def __init__(self, settings: ServeSettings) -> None:
        """Raises SettingsError if the file cannot be read or says nonsense."""
        self._own = {} if settings.api_key is None else {OWN: settings.api_key}
        self._file = Path(settings.api_keys_file) if settings.api_keys_file else None
        self._seen: tuple[int, int] | None = None
        self._listed: dict[str, str] = {}
        if self._file is not None:
            self._seen = _stamp(self._file)
            self._listed = read_keys(self._file)

    @property
    def asked_for(self) -> bool:
        return bool(self._own) or self._file is not None

    def several(self) -> bool:
        """Whether there is more than one key."""
        return len(self._listed) + len(self._own) > 1

    def caller_of(self, header: str) -> str:
        """The name that belongs to an Authorization header. Raises Unauthorized."""
        if not self.asked_for:
            return ANYONE
        self._look_again()
        scheme, _, given = header.partition(" ")
        # bytes that are not UTF-8 arrive as surrogates
        sent = given.strip().encode("utf-8", "surrogateescape")
        found = None
        for name, key in {**self._listed, **self._own}.items():
            # every key is compared, so that the time tells nothing
            if hmac.compare_digest(sent, key.encode()):
                found = name
        if scheme.lower() != "bearer" or found is None:
            raise Unauthorized("send the API key as `Authorization: Bearer KEY`")
        return found

    def _look_again(self) -> None:
        if self._file is None:
            return
        try:
            stamp = _stamp(self._file)
            if stamp != self._seen:
                self._listed = read_keys(self._file)
                self._seen = stamp
                logger.info("%d API keys read again", len(self._listed))
        except SettingsError as error:
            logger.error("the API keys stay as they were: %s", error)


def read_keys(file: Path) -> dict[str, str]:
    """Keys by name. Raises SettingsError naming the line, never the key."""
    found: dict[str, str] = {}
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {file}: {error}") from error
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or len(words[1]) < MIN_KEY_CHARS:
            raise SettingsError(
                f"{file}, line {number}: write `NAME KEY`, the key of at least "
                f"{MIN_KEY_CHARS} characters"
            )
        if words[0] in (OWN, ANYONE):
            raise SettingsError(f"{file}, line {number}: {words[0]} is our own name")
        if words[0] in found:
            raise SettingsError(f"{file}, line {number}: {words[0]} stands there twice")
        found[words[0]] = words[1]
    return found


def _stamp(file: Path) -> tuple[int, int]:
    """What changes when the file does. Raises SettingsError if it is gone."""
    try:
        status = file.stat()
    except OSError as error:
        raise SettingsError(f"cannot read {file}: {error.strerror}") from error
    return status.st_mtime_ns, status.st_size
