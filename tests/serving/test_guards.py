import asyncio
import json
import re

import pytest

from support.backend import HeldRunner, running_backend
from tabwise_server.serving.admission.origins import may_ask
from tabwise_server.serving.observing.logs import JsonLines, TextLines
from tabwise_server.serving.question import Question

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
        ("http://[", "127.0.0.1:8000", "", False),
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


async def test_a_page_that_is_allowed_is_told_so_by_each_answer() -> None:
    page = {"Origin": "https://ide.example"}
    async with running_backend(
        HeldRunner(), api_key="secret", allowed_origins=page["Origin"]
    ) as backend:
        asked = {"Access-Control-Request-Method": "POST"}
        url = f"{backend.url}/complete"
        async with backend.http.options(url, headers=page | asked) as answer:
            assert answer.status == 204
            assert answer.headers["Access-Control-Allow-Origin"] == page["Origin"]
            assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
        key = {"Authorization": "Bearer secret"}
        for headers, status in ((page | key, 200), (page, 401)):
            async with backend.http.post(url, json=BODY, headers=headers) as answer:
                assert answer.status == status
                assert answer.headers["Access-Control-Allow-Origin"] == page["Origin"]
        async with backend.http.post(url, json=BODY, headers=key) as answer:
            assert "Access-Control-Allow-Origin" not in answer.headers


async def test_no_page_is_allowed_unless_told() -> None:
    async with running_backend(HeldRunner()) as backend:
        headers = {
            "Origin": "https://ide.example",
            "Access-Control-Request-Method": "POST",
        }
        async with backend.http.options(
            f"{backend.url}/complete", headers=headers
        ) as answer:
            assert answer.status == 403
            assert "Access-Control-Allow-Origin" not in answer.headers


async def test_an_answer_carries_its_requests_id() -> None:
    async with running_backend(HeldRunner()) as backend:

        async def id_of(given: dict[str, str], path: str = "/complete") -> str:
            async with backend.http.post(
                backend.url + path, json=BODY, headers=given
            ) as answer:
                return answer.headers["X-Request-Id"]

        assert await id_of({"X-Request-Id": "build-17.a"}) == "build-17.a"
        assert await id_of({"X-Request-Id": "build-17"}, "/nowhere") == "build-17"
        made = {await id_of({}), await id_of({"X-Request-Id": "a b"}), await id_of({})}
        assert len(made) == 3
        assert all(re.fullmatch(r"[0-9a-f]{8}-\d+", one) for one in made)


async def test_the_log_has_a_line_for_each_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="tabwise_server")
    async with running_backend(HeldRunner()) as backend:
        await backend.post("/complete", BODY, headers={"X-Request-Id": "first"})
        await backend.post("/complete", {}, headers={"X-Request-Id": "second"})
        await backend.post("/s3cret", {}, headers={"X-Request-Id": "third"})
    found = [r.notes for r in caplog.records if hasattr(r, "notes")]
    assert [(n["request_id"], n["route"], n["status"]) for n in found] == [
        ("first", "/complete", 200),
        ("second", "/complete", 422),
        ("third", "unknown", 404),
    ]
    assert (found[0]["caller"], found[0]["tokens"]) == ("anyone", 1)
    assert found[1]["error"] == "bad_request"
    line = json.loads(JsonLines().format(caplog.records[0]))
    assert (line["message"], line["request_id"]) == ("answered", "first")
    assert line["time"].endswith("Z")
    assert "request_id=first" in TextLines().format(caplog.records[0])


async def test_what_is_not_http_is_refused_and_not_quoted_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running_backend(HeldRunner()) as backend:
        wrong = [b"POST /complete s3cret\r\n\r\n", b"s3cret " * 3_000 + b"\r\n\r\n"]
        wrong.append(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"s" * 9_000 + b"\r\n\r\n")
        wrong.append(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: 1\r\n" * 70 + b"\r\n")
        for data in wrong:
            answer = await raw_exchange(backend.url, data)
            assert answer.split(b" ")[1] == b"400"
        assert (await backend.post("/complete", BODY))[0] == 200
    assert caplog.records
    assert "s3cret" not in caplog.text


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
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(backend.service, "answer", quote)
            status, answer = await backend.post("/complete", {"code": "s3cret"})
        assert (status, answer["error"]["code"]) == (500, "internal_error")
        assert "s3cret" not in str(answer)
        assert "s3cret" not in (await backend.get("/metrics"))[1]
    assert "by the test" in caplog.text
    assert "KeyError in POST /complete" in caplog.text
    assert "s3cret" not in caplog.text


async def quote(question: Question, *_: object) -> None:
    """A defect whose text quotes the request."""
    raise KeyError(question.about)


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
