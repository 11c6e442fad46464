"""The playground: its plain files at `/`, and a text's tokens as the model sees them.

The page holds nothing secret, so it is shown to everyone; what it asks needs the key.
"""

from __future__ import annotations

import secrets
from importlib.resources import files

import attrs
from aiohttp import web

from tabwise_server.serving.admission.receiving import holding_place, read_json
from tabwise_server.serving.app_keys import SERVICE
from tabwise_server.wire import structure

TOKENIZE_CHARS = 20_000
_FILES = (
    ("/playground.js", "text/javascript"),
    ("/playground.css", "text/css"),
)


@attrs.frozen(kw_only=True)
class TokenizeRequest:
    """POST /v1/tabwise/tokenize; of a longer text, the last TOKENIZE_CHARS count."""

    text: str


def add_playground(app: web.Application) -> None:
    """Serve the page, its files, and the route that it alone needs."""
    app.router.add_get("/", index)
    for path, _ in _FILES:
        app.router.add_get(path, asset)
    app.router.add_post("/v1/tabwise/tokenize", tokenize)


async def index(request: web.Request) -> web.Response:
    """The page, which may load from its own origin alone. CodeMirror writes styles of
    its own: they carry a nonce of this answer."""
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; "
        "style-src-attr 'unsafe-inline'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    page = _read("index.html").replace("NONCE", nonce)
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
    return web.Response(text=page, content_type="text/html", headers=headers)


async def asset(request: web.Request) -> web.Response:
    """One of the page's files."""
    kind = dict(_FILES)[request.path]
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
    text = _read(request.path.removeprefix("/"))
    return web.Response(text=text, content_type=kind, headers=headers)


async def tokenize(request: web.Request) -> web.Response:
    """The pieces of a text: {"tokens": [{"id", "text"}]}; bytes of a character that is
    split show as U+FFFD."""
    with holding_place(request):
        wanted = structure(TokenizeRequest, await read_json(request))
        tokenizer = request.app[SERVICE].checkpoint.tokenizer
        ids = tokenizer.encode(wanted.text[-TOKENIZE_CHARS:])
        pieces = [{"id": i, "text": tokenizer.decode([i])} for i in ids]
        return web.json_response({"tokens": pieces})


def _read(name: str) -> str:
    folder = files("tabwise_server") / "serving" / "web"
    return (folder / name).read_text(encoding="utf-8")
