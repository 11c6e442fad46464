"""`tabwise doctor --privacy`: what leaves this machine, what is never read or kept.

It says what the settings mean, and asks nobody.
"""

from __future__ import annotations

from collections.abc import Iterator

from tabwise_server.backends.addresses import is_loopback, split_url
from tabwise_server.lsp.configuration import patterns_of
from tabwise_server.lsp.statistics import statistics_file
from tabwise_server.settings import BackendSettings, Settings
from tabwise_server.suggest.privacy import SECRET_PATTERNS

_CONTENT = (
    "for each suggestion: up to {prefix} characters before the cursor, {suffix} after "
    "it, pieces of other open files, the file's path within its folder"
)


def lines(settings: Settings) -> Iterator[str]:
    """The report. Raises SettingsError where one cannot be made."""
    lsp = settings.lsp
    yield "What leaves this machine"
    yield from (f"  {line}" for line in _leaving(settings))
    yield ""
    yield "Files that are never completed in, looked into or sent"
    yield f"  {', '.join(SECRET_PATTERNS)}"
    yield f"  yours (lsp.secret_patterns): {', '.join(patterns_of(lsp)) or 'none'}"
    ignored = "left alone" if lsp.skip_ignored else "read like others"
    yield f"  what .gitignore names: {ignored} (lsp.skip_ignored)"
    yield ""
    yield "Workspaces"
    yield "  its files cannot say where code is sent, nor switch the above off;"
    yield "  one that the editor does not trust sets nothing (lsp.trusted)"
    if lsp.remember_workspace and settings.backend.url is None:
        yield "  Python files that git does not ignore are read into the local daemon's"
        yield "  memory, to copy from, and written nowhere (lsp.remember_workspace)"
    else:
        yield "  no files are read but those that are open (lsp.remember_workspace)"
    yield ""
    yield "What is kept on this machine"
    counted = "a day, a language, counts; no text" if lsp.statistics else "switched off"
    yield f"  statistics (lsp.statistics): {counted}; {statistics_file()}"
    yield "  logs: ids, counts, durations; never a text, at no log level"


def _leaving(settings: Settings) -> Iterator[str]:
    remote = list(remote_hosts(settings.backend))
    if not remote:
        yield "nothing: completions are computed here, nothing else is ever sent"
        return
    lsp = settings.lsp
    for host, encrypted in remote:
        how = "encrypted" if encrypted else "NOT ENCRYPTED: use https"
        yield f"to {host} (backend.url), {how}:"
    yield "  " + _CONTENT.format(
        prefix=lsp.max_prefix_chars, suffix=lsp.max_suffix_chars
    )
    yield "  and nothing else: no telemetry, no statistics"


def remote_hosts(settings: BackendSettings) -> Iterator[tuple[str, bool]]:
    """(host, whether it is encrypted) of each backend that is not on this machine."""
    for url in (settings.url or "").replace(",", " ").split():
        parts = split_url(url)
        host = parts.hostname or url
        if not is_loopback(host):
            yield host, parts.scheme == "https"
