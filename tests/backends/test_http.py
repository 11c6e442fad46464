"""Addresses, keys, certificates, proxies."""

import asyncio
import re
import ssl
from pathlib import Path

import pytest
import trustme

from support.replies import answer, read_request, reply_server
from tabwise_server.backends.addresses import proxy_for
from tabwise_server.backends.choose import open_backend, open_clients
from tabwise_server.backends.http import Endpoint, Tls
from tabwise_server.backends.keys import read_key
from tabwise_server.backends.protocol import ConnectionLost, Status
from tabwise_server.errors import BackendUnavailable, SettingsError, Unauthorized
from tabwise_server.settings import BackendSettings
from tabwise_server.settings_sources import load_settings

OK = answer({"status": "healthy", "model_loaded": True})
SECRET = "sk-very-secret"
NO_ADDRESSES = ("host:8000", "ftp://host", "http://", "/v1")
NO_PORTS = ("http://[::1:8000", "http://host:99999", "http://host:abc", "http://host:0")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return str(tmp_path / "ca.pem")


def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


async def test_a_custom_authority_is_trusted(
    authority: trustme.CA, ca_file: str
) -> None:
    async with reply_server(OK, server_context(authority)) as server:
        endpoint = Endpoint(server.url, SECRET, tls=Tls(ca_file=ca_file))
        assert (await endpoint.call("GET", "/health", None, 5))["model_loaded"]
        assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"
        await endpoint.close()


async def test_an_unknown_authority_is_refused_and_the_remedy_named(
    authority: trustme.CA,
) -> None:
    async with reply_server(OK, server_context(authority)) as server:
        endpoint = Endpoint(server.url)
        with pytest.raises(BackendUnavailable, match=r"backend\.ca_file"):
            await endpoint.call("GET", "/health", None, 5)
        assert server.requests == []
        await endpoint.close()


async def test_a_certificate_for_another_name_is_refused(
    authority: trustme.CA, ca_file: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("elsewhere.example").configure_cert(context)
    async with reply_server(OK, context) as server:
        endpoint = Endpoint(server.url, tls=Tls(ca_file=ca_file))
        with pytest.raises(BackendUnavailable, match="certificate"):
            await endpoint.call("GET", "/health", None, 5)
        await endpoint.close()


async def test_a_server_that_asks_who_we_are_is_shown_our_certificate(
    authority: trustme.CA, ca_file: str, tmp_path: Path
) -> None:
    context = server_context(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    ours = authority.issue_cert("someone@example.org")
    ours.private_key_and_cert_chain_pem.write_to_path(tmp_path / "me.pem")
    async with reply_server(OK, context) as server:
        known = Endpoint(
            server.url, tls=Tls(ca_file=ca_file, client_cert=str(tmp_path / "me.pem"))
        )
        assert (await known.call("GET", "/health", None, 5))["model_loaded"]
        await known.close()
        unknown = Endpoint(server.url, tls=Tls(ca_file=ca_file))
        with pytest.raises(BackendUnavailable):
            await unknown.call("GET", "/health", None, 5)
        await unknown.close()


@pytest.mark.parametrize("name", ["ca_file", "client_cert"])
def test_a_certificate_file_that_is_none_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("not a certificate")
    for file in (tmp_path / "x.pem", tmp_path / "absent.pem"):
        with pytest.raises(SettingsError, match=name):
            Endpoint("https://host", tls=Tls(**{name: str(file)}))


async def test_a_proxy_of_the_environment_is_used_for_other_machines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with reply_server(OK) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "skipped.example")
        endpoint = Endpoint("http://models.example:8000")
        assert (await endpoint.call("GET", "/health", None, 5))["model_loaded"]
        assert proxy.requests[0].target == "http://models.example:8000/health"
        await endpoint.close()
    assert proxy_for("http://skipped.example") is None


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8000",
        "http://127.0.0.1:8000",
        "http://127.8.8.8",
        "http://[::1]:8000",
        "https://app.localhost",
    ],
)
def test_loopback_never_goes_through_a_proxy(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://proxy.example:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    assert proxy_for(url) is None
    assert proxy_for("https://models.example") == "http://proxy.example:3128"


def test_a_proxy_that_is_not_spoken_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for proxy in ("socks5://proxy.example", "http://[::1:3128"):
        monkeypatch.setenv("https_proxy", proxy)
        with pytest.raises(SettingsError, match=r"environment's proxy .*(socks5|::1)"):
            Endpoint("https://models.example")


@pytest.mark.parametrize(("answered", "connections"), [(1, 2), (0, 2)])
async def test_a_kept_connection_that_is_gone_is_replaced_once(
    answered: int, connections: int
) -> None:
    """The first connection ends at its second request without an answer, the second
    one answers; or none of them ever does."""
    opened = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        for turn in range(2):
            await read_request(reader)
            if turn or not answered:
                break
            writer.write(OK.replace(b"Connection: close\r\n", b""))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        endpoint = Endpoint(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        if answered:
            for _ in range(2):
                found = await endpoint.call("POST", "/x", {}, 5)
                assert found["model_loaded"]
        else:
            with pytest.raises(ConnectionLost):
                await endpoint.call("POST", "/x", {}, 5)
        assert opened == connections
        await endpoint.close()


async def test_a_redirect_is_not_followed() -> None:
    async with reply_server(OK) as elsewhere:
        moved = answer({}, "307 Temporary Redirect", Location=elsewhere.url)
        async with reply_server(moved) as server:
            endpoint = Endpoint(server.url, SECRET)
            with pytest.raises(BackendUnavailable, match="sends on to"):
                await endpoint.call("POST", "/x", {"prefix": "private"}, 5)
            assert elsewhere.requests == []
            await endpoint.close()


async def test_a_key_is_in_no_error_and_no_repr(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TABWISE_BACKEND_API_KEY", SECRET)
    monkeypatch.setenv("TABWISE_SERVE_API_KEY", SECRET)
    assert SECRET not in repr(load_settings())
    refused = answer({"error": {"message": "who?"}}, "401 Unauthorized")
    async with reply_server(refused) as server:
        endpoint = Endpoint(server.url, SECRET)
        assert SECRET not in repr(endpoint)
        with pytest.raises(
            Unauthorized, match=r"refuses the key \(who\?\); check backend\.api_key"
        ) as told:
            await endpoint.call("GET", "/health", None, 5)
        assert SECRET not in str(told.value)
        await endpoint.close()
    with pytest.raises(SettingsError, match="not shown") as told_too:
        Endpoint("http://host", f"{SECRET}\r\nX-Evil: 1")
    assert SECRET not in str(told_too.value)


@pytest.mark.parametrize(
    ("host", "said"), [("host", "no user or password"), ("host:abc", "got 'host:abc'")]
)
def test_a_key_in_the_address_is_refused_without_being_repeated(
    host: str, said: str
) -> None:
    with pytest.raises(SettingsError, match=said) as told:
        Endpoint(f"https://me:{SECRET}@{host}")
    assert SECRET not in str(told.value)


@pytest.mark.parametrize(
    "url", ["host:8000", "ftp://host", "http://", "/v1", *NO_PORTS]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="url must be an address"):
        Endpoint(url)


def test_a_key_comes_from_the_environment_or_a_keyring(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keyring = pytest.importorskip("keyring")
    assert read_key("env:MY_KEY", {"MY_KEY": f"{SECRET}\n"}) == SECRET
    assert read_key(SECRET) == SECRET
    assert read_key(None) is None
    with pytest.raises(SettingsError, match="MY_KEY is not set"):
        read_key("env:MY_KEY", {})

    kept = {("tabwise", "me"): SECRET}
    monkeypatch.setattr(keyring, "get_password", lambda *place: kept.get(place))
    assert read_key("keyring:tabwise/me") == SECRET
    with pytest.raises(SettingsError, match="keyring set tabwise you"):
        read_key("keyring:tabwise/you")
    with pytest.raises(SettingsError, match="SERVICE/USER"):
        read_key("keyring:tabwise")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://host", "model must be set"),
        (NO_PORTS[0], r"backend\.url must be an address"),
    ],
)
async def test_settings_that_cannot_work_are_told_as_a_status(
    url: str, said: str
) -> None:
    seen: list[Status] = []
    settings = BackendSettings(url=url, kind="openai")
    backend = open_backend(settings, seen.append)
    await backend.start()
    assert [status.state for status in seen] == ["offline"]
    assert re.search(said, str(seen[0].reason))
    with pytest.raises(SettingsError, match=said):
        await backend.health()
    await backend.close()


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="tabwise, openai, llamacpp"):
        BackendSettings(kind="magic")


async def test_each_address_of_a_list_gets_a_client() -> None:
    settings = BackendSettings(url="http://a:1, http://b:2 http://a:1")
    assert list(open_clients(settings)) == ["http://a:1", "http://b:2"]
