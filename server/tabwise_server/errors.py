"""Every error that Tabwise raises on purpose, with its HTTP status and its remedy."""

from __future__ import annotations


class TabwiseError(Exception):
    """Base of all. `status` is what the HTTP API answers; the text names the remedy."""

    status = 500
    code = "internal_error"


class SettingsError(TabwiseError):
    """An option's value or name is wrong."""

    code = "bad_settings"


class BadRequest(TabwiseError):
    """The request is not one that can be served; `field` names the culprit."""

    status = 422
    code = "bad_request"

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class TooLarge(BadRequest):
    status = 413
    code = "too_large"


class Unauthorized(TabwiseError):
    status = 401
    code = "unauthorized"


class Overloaded(TabwiseError):
    """No place is free. `retry_after_s` is when to try again."""

    status = 503
    code = "overloaded"

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooMany(Overloaded):
    """This caller has reached its own limit; others are served."""

    status = 429
    code = "too_many"


class DeadlineExceeded(TabwiseError):
    status = 504
    code = "deadline_exceeded"


class EngineFailed(TabwiseError):
    """The engine could not finish this request."""

    code = "engine_failed"


class BackendUnavailable(TabwiseError):
    """No backend answered: not running, unreachable, or still loading."""

    status = 503
    code = "backend_unavailable"


class CheckpointMissing(TabwiseError):
    code = "checkpoint_missing"
