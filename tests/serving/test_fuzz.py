"""A schema fuzzer against the running server, by the document that it serves.

TABWISE_FUZZ_CASES=20000 pytest tests/serving/test_fuzz.py --timeout 7200 -s
"""

import asyncio
import os
import re
import sys
from pathlib import Path

from support.checkpoints import save_tiny
from support.language_server import isolated
from tabwise_server.bench.processes import tabwise_serve
from tabwise_server.serving.apis.openapi import document

CASES = int(os.environ.get("TABWISE_FUZZ_CASES", "120"))
SETTINGS = Path(__file__).with_name("schemathesis.toml")


async def test_no_request_makes_the_server_fail_or_break_its_word(
    tmp_path: Path,
) -> None:
    checkpoint = str(save_tiny(tmp_path / "tiny"))
    environment = isolated(tmp_path, TABWISE_SERVE_CHECKPOINT=checkpoint)
    posts = sum("post" in path for path in document()["paths"].values())
    async with tabwise_serve((), environment) as served:
        fuzzer = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(SETTINGS)),
            *("run", f"{served.url}/openapi.json", "--no-color"),
            *("--phases", "coverage,fuzzing", "--continue-on-failure"),
            *("--max-examples", str(-(-CASES // posts))),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            said = (await fuzzer.communicate())[0].decode()
        finally:
            if fuzzer.returncode is None:
                fuzzer.kill()
                await fuzzer.wait()
        assert served.process.returncode is None, "the server ended"
    print(said)
    assert fuzzer.returncode == 0
    generated = re.search(r"(\d+) generated, \1 passed", said)
    assert generated is not None
    assert int(generated[1]) >= CASES
