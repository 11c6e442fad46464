"""The images' own files, run as a cluster would: not root, nothing writable but /tmp.

Builds take minutes, so they are another command's: `docker/build` first, then

    TABWISE_IMAGES=1 pytest tests/deploy/test_image.py -rP
"""

import asyncio
import contextlib
import json
import os
import shlex
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tabwise_server.bench.client import LspClient
from tabwise_server.capacity.fleet import free_port

STORE = os.environ | {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}
# the image's files read-only, its user and no other rights, none to be had
JAIL = """
set -e
mount --bind "$0" "$0"
mount --bind /proc "$0/proc"
mount --bind /dev "$0/dev"
mount -o remount,ro,bind "$0"
mount -t tmpfs tmpfs "$0/tmp"
exec chroot --userspec=10001:10001 --groups= "$0" /usr/bin/setpriv \
  --no-new-privs "$@"
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        "TABWISE_IMAGES" not in os.environ, reason="TABWISE_IMAGES is not set"
    ),
]


class Image:
    """One built image: its files at `root`, its settings."""

    def __init__(self, name: str) -> None:
        self.container = buildah("from", "--pull-never", f"code-assistant:v1-{name}")
        self.root = Path(buildah("mount", self.container))
        text = buildah("inspect", self.container)
        self.settings: dict[str, Any] = json.loads(text)["Docker"]["config"]

    def command(self, *arguments: str, **more: str) -> list[str]:
        """What runs `arguments` in the image, as its user, with its environment."""
        env = [*self.settings["Env"], *(f"{k}={v}" for k, v in more.items())]
        inside = ["/usr/bin/env", "-i", *env, *arguments]
        return ["unshare", "--mount", "bash", "-c", JAIL, str(self.root), *inside]

    def start(self, **more: str) -> list[str]:
        """What the image does when it is started."""
        settings = self.settings
        return self.command(*settings["Entrypoint"], *settings["Cmd"], **more)


def buildah(*arguments: str) -> str:
    done = subprocess.run(
        ["buildah", *arguments], env=STORE, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@contextlib.contextmanager
def opened(name: str) -> Iterator[Image]:
    image = Image(name)
    try:
        yield image
    finally:
        buildah("rm", image.container)


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.asynccontextmanager
async def serving(image: Image, port: int) -> AsyncIterator[str]:
    command = image.start(TABWISE_SERVE_PORT=str(port))
    process = await asyncio.create_subprocess_exec(
        *command, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(60):
            while line := (await process.stderr.readline()).decode():
                if "http://" in line:
                    break
            else:
                raise AssertionError("the image ended without listening")
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        assert await process.wait() == 0


async def test_the_cpu_image_serves_and_calls_itself_healthy() -> None:
    port = free_port()
    with opened("cpu") as image:
        assert image.settings["User"] == "10001:10001"
        check = image.settings["Healthcheck"]["Test"]
        assert check[0] == "CMD"
        async with serving(image, port) as url, aiohttp.ClientSession() as http:
            body = {"code": "def add(a, b):\n    return ", "max_tokens": 4}
            async with http.post(f"{url}/complete", json=body) as answer:
                assert answer.status == 200
            command = image.command(*check[1:], TABWISE_SERVE_PORT=str(port))
            await asyncio.to_thread(run, command)


async def test_the_language_servers_image_speaks_lsp_and_has_no_model() -> None:
    with opened("lsp") as image:
        command = image.start(TABWISE_BACKEND_URL="http://127.0.0.1:9", HOME="/tmp")
        client = await LspClient.start(command)
        answer = await client.initialize()
        assert "inlineCompletionProvider" in answer["capabilities"]
        assert await client.stop() == 0
        packages = image.root / "opt/tabwise/lib/python3.11/site-packages"
        there = {path.name for path in packages.iterdir()}
        assert not {"torch", "numpy", "tabwise_model", "tabwise_training"} & there


@pytest.mark.parametrize("name", ["lsp", "cpu"])
def test_an_image_lists_what_is_in_it_and_holds_no_tools(name: str) -> None:
    with opened(name) as image:
        bill = json.loads((image.root / "opt/tabwise/sbom.cdx.json").read_text())
        listed = {part["name"].lower() for part in bill["components"]}
        assert {"tabwise", "aiohttp", "pygls"} <= listed
        assert not list((image.root / "usr/bin").glob("g++*"))
        whoami = run(image.command("python", "-c", "import os; print(os.getuid())"))
        assert whoami.strip() == "10001"
        touch = "open('/opt/tabwise/x', 'w')"
        with pytest.raises(AssertionError, match=r"Read-only|Permission"):
            run(image.command("python", "-c", touch))
        size = run(["du", "-sm", f"{image.root}/opt/tabwise"]).split()[0]
        print(f"{name}: {size} MB in /opt/tabwise; {shlex.join(image.settings['Cmd'])}")
