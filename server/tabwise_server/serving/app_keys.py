"""What the application keeps for its handlers, by typed key."""

from __future__ import annotations

from aiohttp import web

from tabwise_server.serving.admission.callers import Keys
from tabwise_server.serving.admission.overload import House
from tabwise_server.serving.service import CompletionService
from tabwise_server.settings import ServeSettings

SERVICE = web.AppKey("service", CompletionService)
SETTINGS = web.AppKey("settings", ServeSettings)
HOUSE = web.AppKey("house", House)
KEYS = web.AppKey("keys", Keys)
CALLER = web.RequestKey("caller", str)  # whose key a request brought
TOLD = web.RequestKey("told", bool)  # some of the answer, as it grows
BROKEN = web.RequestKey("broken", bool)  # an error ended that, which has been told
