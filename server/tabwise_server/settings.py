"""Every option of the server side, its unit and its default; see `settings_sources`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import platformdirs

from tabwise_server.errors import SettingsError
from tabwise_server.wire import MAX_DEADLINE_MS, MAX_NEW_TOKENS

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
