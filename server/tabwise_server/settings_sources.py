"""Where options come from, and what is wrong with them.

Resolved once, in a command's entry: default < tabwise.toml < environment < flag.
Environment names are TABWISE_<SECTION>_<OPTION>, e.g. TABWISE_SERVE_PORT.
"""

from __future__ import annotations

import os
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import attrs
import platformdirs

from tabwise_server.errors import SettingsError
from tabwise_server.settings import (
    LISTS,
    SCOPES,
    BackendSettings,
    LspSettings,
    Options,
    ServeSettings,
    Settings,
)

T = TypeVar("T")
# Relative paths in a tabwise.toml count from its folder.
PATHS = (
    ("serve", "checkpoint"),
    ("serve", "api_keys_file"),
    ("serve", "tls_cert"),
    ("serve", "tls_key"),
    ("lsp", "log_file"),
    ("backend", "ca_file"),
    ("backend", "client_cert"),
    ("backend", "client_key"),
)


def load_settings(
    flags: Mapping[str, Mapping[str, Any]] | None = None,
    environ: Mapping[str, str] = os.environ,
    file: Path | None = None,
    only: str | None = None,
) -> Settings:
    """Resolve all settings. flags: {section: {option: value}}, None values ignored.

    file: a tabwise.toml; by default $TABWISE_CONFIG, then the user's config folder.
    only: the one section that is wanted; the others keep their defaults, unread.
    Raises SettingsError naming the option, where it stands, and what it should be.
    """
    found = _read_file(file, environ)
    settings, complaints = _resolve(found, environ, flags or {}, only)
    if complaints:
        raise SettingsError(complaints[0])
    return settings


def load_leniently(
    flags: Mapping[str, Mapping[str, Any]] | None = None,
    environ: Mapping[str, str] = os.environ,
    before: Settings | None = None,
) -> tuple[Settings, list[str]]:
    """As `load_settings`, with the default for what is wrong, and what that is.

    before: what holds, and goes on to, while the file cannot be read.
    """
    try:
        found, unread = _read_file(None, environ), []
    except SettingsError as error:
        if before is not None:
            return before, [str(error)]
        found, unread = {}, [str(error)]
    settings, complaints = _resolve(found, environ, flags or {})
    return settings, unread + complaints


def _resolve(
    file: Mapping[str, Any],
    environ: Mapping[str, str],
    flags: Mapping[str, Mapping[str, Any]],
    only: str | None = None,
) -> tuple[Settings, list[str]]:
    settings, complaints = Settings(), []
    environment = _read_environment(environ)
    layers = ((file, "file"), (environment, "environment"), (flags, "flag"))
    for layer, source in layers:
        for section, options in layer.items():
            if section not in _SECTIONS:
                known = ", ".join(_SECTIONS)
                unknown = f"unknown section [{section}] ({source}); known: {known}"
                complaints.append(unknown)
            elif only in (None, section):
                base = getattr(settings, section)
                base, wrong = override(section, base, options, source)
                settings = attrs.evolve(settings, **{section: base})
                complaints += wrong
    return settings, complaints


def option_name(name: Any) -> str:
    """An option as it is called here, from an editor's camelCase.

    >>> option_name("maxNewTokens")
    'max_new_tokens'
    """
    return re.sub(r"(?<!^)(?=[A-Z])", "_", str(name)).lower()


def override(section: str, base: T, options: Any, source: str) -> tuple[T, list[str]]:
    """`base` with a client's options (snake_case or camelCase) over it, and what is
    wrong with those that were left out."""
    if options is None or options == []:  # as Lua writes an empty table
        return base, []
    if not isinstance(options, Mapping):
        text = f"[{section}] must be a table of options, got {options!r} ({source})"
        return base, [text]
    complaints = []
    for name, value in options.items():
        if value is None:
            continue
        key = option_name(name)
        if key in SCOPES and isinstance(value, Mapping):
            value, wrong = _tables(key, value, source)
            complaints += wrong
        try:
            converted = _convert(section, key, value, source)
            base = attrs.evolve(base, **{key: converted})  # type: ignore[misc]
        except SettingsError as error:
            text = str(error)
            complaints.append(text if source in text else f"{text} ({source})")
    return base, complaints


def _tables(
    key: str, scopes: Mapping[str, Any], source: str
) -> tuple[Options, list[str]]:
    """Of each scope its table, which a switch is short for; and what is no table.

    >>> _tables("languages", {"go": False, "c": 3}, "file")[0]
    {'go': {'enabled': False}}
    """
    switched = {
        name: {"enabled": value} if isinstance(value, bool) else value
        for name, value in scopes.items()
        if value is not None and value != []  # as Lua writes an empty table
    }
    wrong = [
        f"{key}.{name} must be a table, true or false, got {value!r} ({source})"
        for name, value in switched.items()
        if not isinstance(value, Mapping)
    ]
    tables = {n: dict(v) for n, v in switched.items() if isinstance(v, Mapping)}
    return tables, wrong


_SECTIONS: Mapping[str, type] = types.MappingProxyType(
    {"serve": ServeSettings, "lsp": LspSettings, "backend": BackendSettings}
)


def user_file(environ: Mapping[str, str] = os.environ) -> Path:
    """The user's own tabwise.toml; it need not exist."""
    if environ.get("TABWISE_CONFIG"):
        return Path(environ["TABWISE_CONFIG"])
    folder = platformdirs.user_config_dir("tabwise", appauthor=False)
    return Path(folder) / "tabwise.toml"


def _read_file(file: Path | None, environ: Mapping[str, str]) -> dict[str, Any]:
    if file is None:
        file = user_file(environ)
        if not file.exists() and not environ.get("TABWISE_CONFIG"):
            return {}
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8-sig"))
        return _with_paths_from(file.absolute().parent, found)
    except OSError as error:
        raise SettingsError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:  # not UTF-8 either
        raise SettingsError(f"{file} is not TOML: {error}") from error


def _with_paths_from(folder: Path, found: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's bare name is a shipped one's, and stays."""
    for section, key in PATHS:
        options = found.get(section)
        value = options.get(key) if isinstance(options, dict) else None
        if not options or not value or not isinstance(value, str):
            continue
        if key == "checkpoint" and os.path.basename(value) == value:
            continue
        options[key] = str(folder / Path(value).expanduser())
    return found


def _read_environment(environ: Mapping[str, str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for section, cls in _SECTIONS.items():
        for field in attrs.fields(cls):
            name = f"TABWISE_{section}_{field.name}".upper()
            if name in environ:
                found.setdefault(section, {})[field.name] = environ[name]
    return found


def _convert(section: str, key: str, value: Any, source: str) -> Any:
    hints = typing.get_type_hints(_SECTIONS[section])
    where = f"({source}, [{section}])"
    if key not in hints:
        raise SettingsError(
            f"unknown option {key!r} {where}; known: " + ", ".join(sorted(hints))
        )
    kind = hints[key]
    if get_origin(kind) is types.UnionType:
        kind = next(a for a in get_args(kind) if a is not type(None))
    kind = get_origin(kind) or kind
    try:
        return _as(kind, _joined(value) if key in LISTS else value)
    except (TypeError, ValueError, KeyError) as error:
        secret = not getattr(attrs.fields(_SECTIONS[section]), key).repr
        got = "another kind" if secret else repr(value)
        raise SettingsError(
            f"{key} must be {_NAMES[kind]}, got {got} {where}"
        ) from error


def _joined(value: Any) -> Any:
    """A list of texts as one text, as settings hold it."""
    texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return ", ".join(value) if texts else value


_NAMES: Mapping[type, str] = types.MappingProxyType(
    {
        str: "a string",
        int: "an integer",
        float: "a number",
        bool: "true or false",
        dict: "a table",
    }
)


def _as(kind: type, value: Any) -> Any:
    """`value` as `kind`: a string (environment) is parsed, anything else must fit."""
    if kind is bool and isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}[value.lower()]
    if isinstance(value, str) and kind is not str:
        return kind(value)
    if isinstance(value, bool) is not (kind is bool):
        raise TypeError
    if not isinstance(value, (int, float) if kind is float else kind):
        raise TypeError
    return kind(value)
