"""The playground in a real browser, on a real backend that asks for a key."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.editors import CLIENTS, ROOT, Served, command, installed
from support.language_server import isolated

HERE = Path(__file__).parent
KEY = "a-key-for-the-playground"
BUNDLE = ROOT / "server" / "tabwise_server" / "serving" / "web" / "playground.js"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(isolated(tmp_path, TABWISE_SERVE_API_KEY=KEY))
    yield served
    served.kill()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_in_a_real_browser(served: Served) -> None:
    """The steps are in page.mjs; their pictures stay in its folder `build`."""
    npm, node = command("npm", "Node.js"), command("node", "Node.js")
    command("chromium", "chromium")
    proof = HERE / "node_modules" / ".package-lock.json"
    installed(HERE, proof, npm, "install", "--no-audit", "--no-fund", "--silent")
    do = {"kill": served.kill, "start": served.start}
    with running([node, "page.mjs", served.url, KEY]) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="")
            if line.strip() in do:
                do[line.strip()]()
                process.stdin.write("done\n")
                process.stdin.flush()
    assert process.returncode == 0


@contextlib.contextmanager
def running(words: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process with pipes, which has ended after the block."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(words, cwd=HERE, stdin=pipe, stdout=pipe, text=True)
    with process:
        try:
            yield process
            process.wait()
        finally:
            process.kill()


@pytest.mark.timeout(200)
def test_the_bundle_is_what_its_source_builds(tmp_path: Path) -> None:
    folder = CLIENTS / "playground"
    npm = command("npm", "Node.js")
    installed(folder, folder / "node_modules" / ".package-lock.json", npm, "ci")
    built = tmp_path / "playground.js"
    subprocess.run(
        [npm, "run", "--silent", "build", "--", f"--outfile={built}"],
        cwd=folder,
        check=True,
    )
    assert built.read_text() == BUNDLE.read_text(), "npm run build, in playground/"
