"""Keys from a file that changes, limits of one key, and TLS."""

import asyncio
import json
import os
import ssl
import sys
from pathlib import Path

import aiohttp
import pytest
import trustme
from aiohttp import web

from support.backend import HeldRunner, RunningBackend, running_backend, until
from tabwise_server.errors import SettingsError
from tabwise_server.serving.admission.callers import read_keys
from tabwise_server.serving.listening import tls_context
from tabwise_server.settings import ServeSettings

ANN, BOB, EVE = "ann-0123456789abcdef", "bob-0123456789abcdef", "eve-0123456789abcdef"
BODY = {"code": "x", "max_tokens": 1}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text(f"# who may ask\nann {ANN}\nbob {BOB}  # on leave\n")
    return file


async def status_of(backend: RunningBackend, key: str) -> int:
    headers = {"Authorization": f"Bearer {key}"}
    return (await backend.post("/complete", BODY, headers=headers))[0]


def rewrite(file: Path, text: str) -> None:
    """A change that shows even on a clock of whole seconds."""
    file.write_text(text)
    later = file.stat().st_mtime + 5
    os.utime(file, (later, later))


async def test_keys_are_taken_and_withdrawn_while_the_server_runs(keys: Path) -> None:
    async with running_backend(
        HeldRunner(), api_key="own-key", api_keys_file=str(keys)
    ) as backend:
        assert [await status_of(backend, k) for k in (ANN, BOB, "own-key", EVE)] == [
            *(200, 200, 200, 401)
        ]
        rewrite(keys, f"ann {ANN}\neve {EVE}\n")
        assert [await status_of(backend, k) for k in (ANN, BOB, EVE)] == [200, 401, 200]
        rewrite(keys, "ann\n")
        assert await status_of(backend, EVE) == 200
        os.unlink(keys)
        assert await status_of(backend, EVE) == 200


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ann", "line 1: write `NAME KEY`"),
        ("\nann short", "line 2: write `NAME KEY`"),
        (f"ann {ANN}\nann {BOB}", "line 2: ann stands there twice"),
    ],
)
def test_a_broken_file_of_keys_is_refused_without_telling_a_key(
    tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(SettingsError, match=said) as refused:
        read_keys(file)
    assert "0123456789abcdef" not in str(refused.value)


async def test_one_keys_flood_is_its_own(keys: Path) -> None:
    runner = HeldRunner()
    async with running_backend(
        runner, api_keys_file=str(keys), max_per_key=2
    ) as backend:
        runner.hold()
        waiting = [asyncio.create_task(status_of(backend, ANN)) for _ in range(2)]
        await until(lambda: backend.service.places.taken == 2)
        headers = {"Authorization": f"Bearer {ANN}"}
        async with backend.http.post(
            backend.url + "/complete", json=BODY, headers=headers
        ) as response:
            assert response.status == 429
            assert int(response.headers["Retry-After"]) >= 1
            assert (await response.json())["error"]["code"] == "too_many"
        other = asyncio.create_task(status_of(backend, BOB))
        await until(lambda: backend.service.places.taken == 3)
        runner.release()
        assert await asyncio.gather(*waiting, other) == [200, 200, 200]
        assert await status_of(backend, ANN) == 200


async def test_tls_with_the_certificate_that_is_set(tmp_path: Path) -> None:
    authority = trustme.CA()
    pem = tmp_path / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(pem)
    )
    context = tls_context(ServeSettings(tls_cert=str(pem)))
    assert context is not None
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with running_backend(HeldRunner()) as backend:
        site = web.TCPSite(backend.runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        port = backend.runner.addresses[-1][1]
        connector = aiohttp.TCPConnector(ssl=trusting)
        async with (
            aiohttp.ClientSession(connector=connector) as http,
            http.get(f"https://127.0.0.1:{port}/health") as response,
        ):
            assert response.status == 200
        assert await image_finds_healthy(port, TABWISE_SERVE_TLS_CERT=str(pem)) == 0
        assert await image_finds_healthy(port) != 0
        plain = int(backend.url.rpartition(":")[2])
        assert await image_finds_healthy(plain) == 0


async def image_finds_healthy(port: int, **more: str) -> int:
    """The exit status of what the Dockerfile checks its server with."""
    text = (Path(__file__).parents[2] / "Dockerfile").read_text()
    check = text[text.index("HEALTHCHECK") :]
    command = json.loads(check[check.index("CMD ") + 4 :].partition("\n")[0])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command[1:],
        env={**os.environ, "TABWISE_SERVE_PORT": str(port), **more},
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await process.wait()


def test_a_certificate_that_is_none_is_named(tmp_path: Path) -> None:
    assert tls_context(ServeSettings()) is None
    file = tmp_path / "cert.pem"
    file.write_text("no certificate")
    with pytest.raises(SettingsError, match=r"tls_cert .*cert\.pem cannot be used"):
        tls_context(ServeSettings(tls_cert=str(file)))
