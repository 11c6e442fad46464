"""Every option of the server side, its unit and its default.

Resolved once, in a command's entry: default < tabwise.toml < environment < flag.
Environment names are TABWISE_<SECTION>_<OPTION>, e.g. TABWISE_SERVE_PORT.
"""

from __future__ import annotations

import os
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import attrs
import platformdirs

from tabwise_server.errors import SettingsError
from tabwise_server.wire import MAX_DEADLINE_MS, MAX_NEW_TOKENS

T = TypeVar("T")
Options = dict[str, dict[str, Any]]


def at_least(low: float) -> Any:
    """An attrs validator: None, or low <= value. Raises SettingsError."""

    def check(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is not None and not value >= low:
            raise SettingsError(
                f"{attribute.name} must be at least {low:g}, got {value}"
            )

    return check


def within(low: float, high: float) -> Any:
    """An attrs validator: None, or low <= value <= high. Raises SettingsError."""

    def check(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is not None and not low <= value <= high:
            raise SettingsError(f"{attribute.name} must be {low}..{high}, got {value}")

    return check


def one_of(choices: Sequence[str]) -> Any:
    """An attrs validator: a value of `choices`. Raises SettingsError."""

    def check(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value not in choices:
            known = ", ".join(choices)
            raise SettingsError(f"{attribute.name} must be {known}, got {value!r}")

    return check


def upper(text: str) -> str:
    return text.upper()


LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
BACKEND_KINDS = ("tabwise", "openai", "llamacpp")
LISTS = ("secret_patterns",)  # may be written as a list, too
SCOPES = ("languages", "files")  # hold the options of [lsp] again, by name
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


@attrs.frozen(kw_only=True)
class ServeSettings:
    """[serve]: the inference backend."""

    host: str = "127.0.0.1"
    # 0 takes a free one
    port: int = attrs.field(default=8000, validator=within(0, 65_535))
    # let another process listen there too: a successor, before this one leaves
    reuse_port: bool = False
    checkpoint: str = "default"  # a shipped name, or a folder
    runner: str = "auto"  # auto, native, torch
    device: str = "auto"  # auto, cpu, cuda; the torch runner's
    weights: str = "float"  # float, int8; how the torch runner holds INT8 matrices
    # processes that compute, which share slots and kv_bytes; 0: the server's own; None:
    # 0 for a daemon or torch, else one for each processor, up to four
    engines: int | None = attrs.field(default=None, validator=at_least(0))
    # of each; None: what the runner finds best
    threads: int | None = attrs.field(default=None, validator=at_least(1))
    # sequences with KV at once; None: as many as kv_bytes hold, but
    # 64 at the most in a daemon
    slots: int | None = attrs.field(default=None, validator=at_least(1))
    kv_bytes: int = attrs.field(default=256_000_000, validator=at_least(1))
    # requests waiting or running before 503: at most; where answers come too late for
    # who asks, down to the least; and the tokens their prompts may have
    max_queue: int = attrs.field(default=128, validator=at_least(1))
    least_queue: int = attrs.field(default=16, validator=at_least(1))
    max_queue_tokens: int = attrs.field(default=131_072, validator=at_least(1))
    max_body_bytes: int = attrs.field(default=2_000_000, validator=at_least(1))
    # prompt tokens computed between two looks at cancels and other requests
    prefill_chunk: int = attrs.field(default=128, validator=at_least(1))
    daemon: bool = False  # write the state file, exit when idle
    # daemon only; 0 for never
    idle_exit_s: float = attrs.field(default=1_800.0, validator=at_least(0))
    # answers that may be given again; 0: none
    response_cache_bytes: int = attrs.field(default=16_000_000, validator=at_least(0))
    response_cache_ttl_s: float = attrs.field(default=600.0, validator=at_least(0.001))
    # share them, e.g. "redis://:password@host:6379/0"
    redis_url: str | None = attrs.field(default=None, repr=False)
    redis_timeout_ms: float = attrs.field(default=50.0, validator=at_least(1))
    # what their keys and seals are made with; the same where they are shared
    cache_secret: str | None = attrs.field(default=None, repr=False)
    api_key: str | None = attrs.field(default=None, repr=False)
    # lines `NAME KEY`, read again when the file changes
    api_keys_file: str | None = None
    # requests of one key in the house before 429; None: no limit of its own
    max_per_key: int | None = attrs.field(default=None, validator=at_least(1))
    # requests that one key may begin in a minute before 429
    max_per_minute: int | None = attrs.field(default=None, validator=at_least(1))
    tls_cert: str | None = None  # PEM files; a certificate without a key holds both
    tls_key: str | None = None
    allowed_origins: str = ""  # web pages that may ask, e.g. "https://a.b, https://c.d"
    # for a request's body to arrive
    body_timeout_s: float = attrs.field(default=10.0, validator=at_least(0.001))
    # for an answer, whatever deadline the client names
    request_timeout_s: float = attrs.field(default=60.0, validator=at_least(0.001))
    # for a client to read a stream's next event
    write_timeout_s: float = attrs.field(default=10.0, validator=at_least(0.001))
    log_format: str = attrs.field(default="text", validator=one_of(("text", "json")))
    # where traces go, by OTLP over HTTP, e.g. "http://collector:4318"
    otlp_endpoint: str | None = None
    # an engine whose step takes longer hangs, and is replaced
    stall_s: float = attrs.field(default=10.0, validator=at_least(0.001))
    # for requests to finish after SIGTERM
    drain_s: float = attrs.field(default=10.0, validator=at_least(0))


@attrs.frozen(kw_only=True)
class LspSettings:
    """[lsp]: the language server."""

    enabled: bool = True
    # after it, an answer is no longer wanted
    deadline_ms: float = attrs.field(
        default=2_000.0, validator=within(1, MAX_DEADLINE_MS)
    )
    # for the popup, which others' items wait in
    completion_deadline_ms: float = attrs.field(
        default=100.0, validator=within(1, MAX_DEADLINE_MS)
    )
    max_prefix_chars: int = attrs.field(default=24_000, validator=at_least(0))
    max_suffix_chars: int = attrs.field(default=6_000, validator=at_least(0))
    max_new_tokens: int = attrs.field(default=48, validator=within(1, MAX_NEW_TOKENS))
    # of pieces of other open files; None: as the backend's model is known to use
    context_chars: int | None = attrs.field(default=None, validator=at_least(0))
    # how sure the model must be: quiet, balanced or eager (docs/suggestions.md)
    level: str = attrs.field(
        default="balanced", validator=one_of(("quiet", "balanced", "eager"))
    )
    # overrides level: exp(mean log-probability) below which nothing shows, 0..1
    min_confidence: float | None = attrs.field(default=None, validator=within(0, 1))
    # let the local daemon copy from the workspace's other Python files, too
    remember_workspace: bool = True
    # ask for the next line while one is shown; None: of the local daemon alone
    prefetch: bool | None = None
    statistics: bool = True  # count shown and accepted, on this machine alone
    # more names of files never read nor sent, e.g. "*.tfvars, private/"
    secret_patterns: str = ""
    skip_ignored: bool = False  # leave what .gitignore names alone as well
    trusted: bool = True  # False: neither read nor heed what the workspace sets
    # these options again, for a language id, or for files of a pattern
    languages: Options = attrs.field(factory=dict)
    files: Options = attrs.field(factory=dict)
    log_file: str | None = None
    log_level: str = attrs.field(
        default="INFO",
        converter=upper,
        validator=one_of(LOG_LEVELS),
    )


@attrs.frozen(kw_only=True)
class BackendSettings:
    """[backend]: where completions come from. url None: the local shared daemon."""

    # several are a pool, e.g. "http://a:8000, http://b:8000"
    url: str | None = None
    kind: str = attrs.field(default="tabwise", validator=one_of(BACKEND_KINDS))
    model: str | None = None  # openai: as the server calls it
    template: str | None = None  # openai: its family; None to tell by the model's name
    # the key, env:NAME, or keyring:SERVICE/USER
    api_key: str | None = attrs.field(default=None, repr=False)
    ca_file: str | None = None  # PEM; trusted beside the system's authorities
    client_cert: str | None = None  # PEM; shown to servers that ask for one
    client_key: str | None = None  # PEM; None: it is in client_cert
    # of a pool: when another is asked too; None: past the 95th percentile
    hedge_ms: float | None = attrs.field(default=None, validator=at_least(1))
    connect_timeout_ms: float = 1_000.0
    start_timeout_s: float = 60.0


@attrs.frozen(kw_only=True)
class Settings:
    serve: ServeSettings = ServeSettings()
    lsp: LspSettings = LspSettings()
    backend: BackendSettings = BackendSettings()


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


def state_folder() -> Path:
    """The user's folder for run-time state, made private (0700) on first use. Raises
    SettingsError if it cannot be made."""
    override = os.environ.get("TABWISE_STATE_DIR")
    folder = Path(override or platformdirs.user_state_dir("tabwise", appauthor=False))
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"the state folder {error.filename} cannot be made: {error.strerror}; set "
            "TABWISE_STATE_DIR to a folder of your own"
        ) from error
    return folder


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
