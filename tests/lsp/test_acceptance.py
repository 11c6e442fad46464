"""What was shown, taken and turned down: ids, counts, the file they are kept in."""

import json
import multiprocessing
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.language_server import URI, language_server
from support.scripted_backend import ScriptedBackend
from tabwise_server.bench.client import LspClient, inline_params
from tabwise_server.lsp.statistics import Key, add, bucket, summarise

Env = dict[str, str]
KEY: Key = ("2026-11-23", "python", "shown")


async def offered(client: LspClient, at: tuple[int, int]) -> Any:
    """The item at a place."""
    params = inline_params(URI, at)
    return (await client.request("textDocument/inlineCompletion", params))[0]


def counted(environment: Env) -> dict[str, Any]:
    """What `tabwise stats` says of Python after the server has ended."""
    command = [sys.executable, "-m", "tabwise_server", "stats", "--json"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    return found[0] if found else {}


async def execute(client: LspClient, command: str, *arguments: Any) -> Any:
    return await client.request(
        "workspace/executeCommand", {"command": command, "arguments": list(arguments)}
    )


async def test_shown_and_accepted_are_counted_once_each(
    environment: Env, backend: ScriptedBackend
) -> None:
    async with language_server(environment) as client:
        client.open(URI, "x = \ny = \n")
        item = await offered(client, (0, 4))
        client.change(URI, 2, "sug", (0, 4))
        rest = await offered(client, (0, 7))  # the same suggestion, typed through
        await offered(client, (1, 4))
        for _ in range(2):
            await execute(client, "tabwise.accepted", rest["command"]["arguments"][0])
        await execute(client, "tabwise.accepted", "no-such-id")
        await execute(client, "tabwise.accepted")
        assert item["command"]["arguments"] != rest["command"]["arguments"]
    found = counted(environment)
    assert (found["shown"], found["accepted"]) == (2, 1)
    assert found["characters"] == len("gested()")
    assert found["p50_ms"] <= found["p95_ms"]


async def test_partial_acceptance_is_cumulative_and_in_utf16_units(
    environment: Env, backend: ScriptedBackend
) -> None:
    backend.answer = lambda request: "f('😀', b)"
    async with language_server(environment) as client:
        client.open(URI, "x = \n")
        item = await offered(client, (0, 4))
        for length in (2, 5, 3, -4, "7"):
            client.notify(
                "textDocument/didPartiallyAcceptCompletion",
                {"item": item, "acceptedLength": length},
            )
        await execute(client, "tabwise.status")
    found = counted(environment)
    assert (found["partly"], found["characters"], found["accepted"]) == (1, 5, 0)
    async with language_server(environment) as client:
        client.open(URI, "x = \n")
        item = await offered(client, (0, 4))
        client.notify(
            "textDocument/didPartiallyAcceptCompletion",
            {"item": item, "acceptedLength": 2},
        )
        await execute(client, "tabwise.accepted", item["command"]["arguments"][0])
    assert counted(environment)["characters"] == 5 + len("f('😀', b)") + 1


async def test_a_client_that_says_what_it_shows_is_believed(
    environment: Env, backend: ScriptedBackend
) -> None:
    async with language_server(environment) as client:
        client.open(URI, "a = \nb = \nc = \n")
        first = await offered(client, (0, 4))
        for _ in range(2):
            client.notify("textDocument/didShowCompletion", {"item": first})
        await offered(client, (1, 4))
        third = await offered(client, (2, 4))
        client.notify("textDocument/didShowCompletion", {"item": third})
        await execute(client, "tabwise.status")
    assert counted(environment)["shown"] == 2


async def test_what_was_turned_down_is_not_offered_there_again(
    environment: Env, backend: ScriptedBackend
) -> None:
    async with language_server(environment) as client:
        client.open(URI, "x = \ny = \n")
        item = await offered(client, (0, 4))
        await execute(client, "tabwise.rejected", item["command"]["arguments"][0], 3)
        assert (await client.inline_completion(URI, (0, 4))).text is None
        assert (await client.inline_completion(URI, (1, 4))).text == "suggested()"
    assert counted(environment)["rejected"] == 1


@pytest.mark.parametrize(
    "params", [None, 3, {}, {"item": 3}, {"item": {"command": {"arguments": [3]}}}]
)
@pytest.mark.parametrize(
    "method", ["didShowCompletion", "didPartiallyAcceptCompletion", "didFocus"]
)
async def test_reports_that_make_no_sense_are_passed_over(
    environment: Env, backend: ScriptedBackend, method: str, params: Any
) -> None:
    async with language_server(environment) as client:
        client.notify(f"textDocument/{method}", params)
        client.open(URI, "x = \n")
        assert (await client.inline_completion(URI, (0, 4))).text == "suggested()"


async def test_switched_off_nothing_is_counted(
    environment: Env, backend: ScriptedBackend
) -> None:
    async with language_server(environment, options={"statistics": False}) as client:
        client.open(URI, "x = \n")
        item = await offered(client, (0, 4))
        await execute(client, "tabwise.accepted", item["command"]["arguments"][0])
    assert counted(environment) == {}


def add_often(file: Path) -> None:
    for _ in range(50):
        add({KEY: 1}, file)


def test_several_servers_add_to_one_file_and_no_count_is_lost(tmp_path: Path) -> None:
    file = tmp_path / "statistics.sqlite3"
    spawn = multiprocessing.get_context("spawn")
    servers = [spawn.Process(target=add_often, args=(file,)) for _ in range(3)]
    for server in servers:
        server.start()
    for server in servers:
        server.join()
    [summary] = summarise(file=file)
    assert summary.shown == 150
    assert file.stat().st_mode & 0o077 == 0


def test_the_file_holds_days_languages_and_counts_alone(tmp_path: Path) -> None:
    file = tmp_path / "statistics.sqlite3"
    add({KEY: 2, ("2026-11-22", "go", bucket(7)): 1}, file)
    rows = sqlite3.connect(file).execute("SELECT * FROM counts").fetchall()
    assert sorted(rows) == [("2026-11-22", "go", "latency <= 10", 1), (*KEY, 2)]
    assert [s.language for s in summarise(since="2026-11-23", file=file)] == ["python"]


def test_percentiles_are_the_bounds_that_so_many_answers_kept(tmp_path: Path) -> None:
    file = tmp_path / "statistics.sqlite3"
    counts = {("2026-11-23", "python", bucket(ms)): n for ms, n in ((3, 90), (150, 10))}
    add(counts, file)
    [summary] = summarise(file=file)
    assert (summary.p50_ms, summary.p95_ms) == (5, 200)


def test_the_table_has_a_line_for_each_language(environment: Env) -> None:
    file = Path(environment["TABWISE_STATE_DIR"]) / "statistics.sqlite3"
    file.parent.mkdir()
    add({("2020-01-01", "python", "shown"): 4}, file)
    add({("2020-01-01", "python", "accepted"): 1}, file)
    command = [sys.executable, "-m", "tabwise_server", "stats"]
    for more, words in (
        ([], ["python", "25%", "shown"]),
        (["--days", "1"], ["nothing was counted"]),
        (["--days", "99999999"], ["python"]),
        (["--clear"], []),
        ([], ["nothing was counted"]),
    ):
        done = subprocess.run(
            [*command, *more],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert all(word in done.stdout for word in words), done.stdout


def test_a_damaged_file_of_counts_is_named_and_cleared(environment: Env) -> None:
    file = Path(environment["TABWISE_STATE_DIR"]) / "statistics.sqlite3"
    file.parent.mkdir()
    file.write_text("no database\n" * 100)
    command = [sys.executable, "-m", "tabwise_server", "stats"]
    for more, status, words in (
        ([], 1, f"cannot read {file}: file is not a database; if it is damaged, tab"),
        (["--clear"], 0, ""),
        ([], 0, ""),
    ):
        done = subprocess.run(
            [*command, *more],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status
        assert words in done.stderr
        assert done.stderr.count("\n") == status
