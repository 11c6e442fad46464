import asyncio

import pytest

from support.backend import HeldRunner, running_backend
from tabwise_server.serving.admission.origins import may_ask

BODY = {"code": "x", "max_tokens": 1}


async def test_a_key_is_asked_for_everywhere_but_where_health_is_told() -> None:
    async with running_backend(HeldRunner(), api_key="secret") as backend:
        for path in ("/health", "/livez", "/readyz"):
            assert (await backend.get(path))[0] == 200
        for path in ("/metrics", "/nowhere"):
            assert (await backend.get(path))[0] == 401
        status, answer = await backend.post("/complete", BODY)
        assert (status, answer["error"]["code"]) == (401, "unauthorized")
        right = {"Authorization": "bearer secret"}
        assert (await backend.post("/complete", BODY, headers=right))[0] == 200


async def test_a_key_may_have_any_characters() -> None:
    async with running_backend(HeldRunner(), api_key="sésame") as backend:
        right = {"Authorization": "Bearer sésame"}
        assert (await backend.post("/complete", BODY, headers=right))[0] == 200


@pytest.mark.parametrize(
    "header", ["secret", "Bearer", "Bearer ", "Bearer secre", "Basic secret", "é"]
)
async def test_a_wrong_key_is_refused(header: str) -> None:
    async with running_backend(HeldRunner(), api_key="secret") as backend:
        headers = {"Authorization": header}
        assert (await backend.post("/complete", BODY, headers=headers))[0] == 401


@pytest.mark.parametrize(
    ("origin", "host", "allowed", "may"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000", "", True),
        ("http://localhost:8000", "localhost:8000", "", True),
        ("http://[::1]:8000", "[::1]:8000", "", True),
        ("http://127.0.0.1:9000", "127.0.0.1:8000", "", False),
        ("https://evil.example", "127.0.0.1:8000", "", False),
        ("http://rebound.example:8000", "rebound.example:8000", "", False),
        (
            "https://a.example",
            "b.example",
            "https://c.example, https://a.example",
            True,
        ),
        ("https://a.example.evil", "b.example", "https://a.example", False),
        ("null", "127.0.0.1:8000", "", False),
        ("https://any.example", "b.example", "*", True),
    ],
)
def test_only_own_pages_and_allowed_ones_may_ask(
    origin: str, host: str, allowed: str, may: bool
) -> None:
    assert may_ask(origin, host, allowed) is may


async def test_a_page_of_another_origin_is_refused() -> None:
    async with running_backend(HeldRunner()) as backend:
        foreign = {"Origin": "https://evil.example"}
        status, answer = await backend.post("/complete", BODY, headers=foreign)
        assert (status, answer["error"]["code"]) == (403, "foreign_origin")
        own = {"Origin": backend.url}
        assert (await backend.post("/complete", BODY, headers=own))[0] == 200
        label = 'tabwise_rejected_requests_total{reason="foreign_origin"}'
        assert await backend.metric(label) == 1


async def test_prompts_and_completions_never_reach_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG", logger="tabwise_server")
    runner = HeldRunner()
    async with running_backend(runner) as backend:
        await backend.post("/complete", {"code": "s3cret", "max_tokens": 3})
        await backend.post("/complete", {"code": "s3cret", "max_tokens": -1})
        runner.fail_next = RuntimeError("by the test")
        status, _ = await backend.post("/complete", {"code": "s3cret"})
        assert status == 500
    assert "by the test" in caplog.text
    assert "s3cret" not in caplog.text


async def test_a_key_that_is_not_utf_8_is_refused() -> None:
    async with running_backend(HeldRunner(), api_key="secret") as backend:
        request = (
            b"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\n"
        )
        answer = await raw_exchange(backend.url, request + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 401 ")


async def test_a_body_that_never_comes_is_a_408() -> None:
    async with running_backend(HeldRunner(), body_timeout_s=0.05) as backend:
        request = b"POST /complete HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
        answer = await raw_exchange(backend.url, request)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"slow_body"' in answer
        assert backend.service.places.taken == 0


async def raw_exchange(url: str, data: bytes) -> bytes:
    """Send bytes; what comes back until the body's end."""
    port = int(url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    body = await reader.readexactly(length)
    writer.close()
    await writer.wait_closed()
    return head + body
