"""How the log looks: a line an event, for people or as JSON."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from tabwise_server.serving.observing.requests import request_id

ISO = "%Y-%m-%dT%H:%M:%S"


def configure_logging(form: str, handler: logging.Handler | None = None) -> None:
    """Log to `handler` (None: stderr) in the form "text" or "json"."""
    handler = handler or logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class TextLines(logging.Formatter):
    """`2026-11-23 12:00:00,123 answered route=/complete status=200`"""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        pairs = (f" {name}={value}" for name, value in _notes_of(record).items())
        return super().formatMessage(record) + "".join(pairs)


class JsonLines(logging.Formatter):
    """One JSON object a line, tracebacks in it; times in UTC."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": f"{self.formatTime(record, ISO)}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_notes_of(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _notes_of(record: logging.LogRecord) -> dict[str, Any]:
    """What a record brings, or at least whose request it was logged in."""
    notes: dict[str, Any] | None = getattr(record, "notes", None)
    if notes is not None:
        return notes
    name = request_id()
    return {} if name is None else {"request_id": name}


class WithoutContent(logging.Filter):
    """For the HTTP parser's complaints: they quote what was sent."""

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.exc_info[0] if record.exc_info else None
        name = "" if kind is None else f": {kind.__name__}"
        record.msg, record.args = f"a connection was ended{name}", ()
        record.exc_info = record.exc_text = None
        return True
