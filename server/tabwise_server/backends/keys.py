"""API keys from where they are kept, so that no settings file has to hold one."""

from __future__ import annotations

import os
from collections.abc import Mapping

from tabwise_server.errors import SettingsError


def read_key(given: str | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """The key that `given` means: env:NAME, keyring:SERVICE/USER, or the key itself.

    Raises SettingsError naming the place that has none; the key is in no message.
    """
    if given is None:
        return None
    kind, _, place = given.partition(":")
    if kind == "env":
        if not environ.get(place):
            raise SettingsError(
                f"api_key is env:{place}, but {place} is not set ([backend])"
            )
        return environ[place].strip()
    if kind == "keyring":
        return _from_keyring(place)
    return given


def _from_keyring(place: str) -> str:
    service, _, user = place.partition("/")
    if not service or not user:
        raise SettingsError(
            f"api_key must be keyring:SERVICE/USER, got keyring:{place} ([backend])"
        )
    try:
        import keyring
        import keyring.errors
    except ModuleNotFoundError as error:
        raise SettingsError(
            "api_key is in a keyring; install it with: pip install 'tabwise[keyring]'"
        ) from error
    try:
        key = keyring.get_password(service, user)
    except keyring.errors.KeyringError as error:
        raise SettingsError(f"the keyring cannot be read: {error}") from error
    if not key:
        raise SettingsError(
            f"the keyring has no key for {place}; put one there with: "
            f"keyring set {service} {user}"
        )
    return key
