"""Rules by promtool; every query by a real Prometheus that scraped a real backend."""

import asyncio
import contextlib
import inspect
import itertools
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tabwise_server.backends.http import Endpoint
from tabwise_server.backends.tabwise import TabwiseBackend
from tabwise_server.capacity.fleet import free_port, running_fleet
from tabwise_server.capacity.typists import Typing, type_all

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "k8s" / "monitoring"
GUIDE = ROOT / "docs" / "monitoring.md"
VARIABLES = {"$__rate_interval": "1m", "$price": "1.00"}
SOURCE = inspect.getsource(asyncio.base_events)

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="prometheus is not installed (Debian: apt-get install prometheus)",
)


def groups() -> list[dict[str, Any]]:
    text = (MONITORING / "rules.yaml").read_text(encoding="utf-8")
    found: list[dict[str, Any]] = yaml.safe_load(text)["spec"]["groups"]
    return found


def rules() -> Iterator[dict[str, Any]]:
    return itertools.chain.from_iterable(group["rules"] for group in groups())


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def write_rules(folder: Path) -> Path:
    """The operator's rules as Prometheus itself reads them."""
    file = folder / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": groups()}), encoding="utf-8")
    return file


def queries() -> Iterator[tuple[str, str]]:
    """(where, PromQL) of each panel, recording rule and adapter metric."""
    for file in sorted((MONITORING / "dashboards").glob("*.json")):
        board = json.loads(file.read_text(encoding="utf-8"))
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield f"{file.stem}: {panel['title']}", target["expr"]
    for rule in rules():
        if "record" in rule:
            yield rule["record"], rule["record"]
    adapter = yaml.safe_load((MONITORING / "adapter.yaml").read_text(encoding="utf-8"))
    for rule in adapter["rules"]:
        if not rule["name"]["as"].startswith("vllm"):
            expr = rule["metricsQuery"].replace("<<.LabelMatchers>>", 'instance!=""')
            yield rule["name"]["as"], expr.replace("<<.GroupBy>>", "instance")


@needs_prometheus
def test_every_rule_does_what_its_test_says(tmp_path: Path) -> None:
    write_rules(tmp_path)
    tests = (MONITORING / "rules_test.yaml").read_text(encoding="utf-8")
    file = tmp_path / "tests.yml"
    file.write_text(f"rule_files: [rules.yml]\n{tests}", encoding="utf-8")
    command = ["promtool", "test", "rules", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_and_has_its_line_in_the_runbook() -> None:
    tests = (MONITORING / "rules_test.yaml").read_text(encoding="utf-8")
    guide = GUIDE.read_text(encoding="utf-8")
    for alert in alerts():
        assert f"alertname: {alert['alert']}\n" in tests
        assert f"### {alert['alert']}\n" in guide
        anchor = alert["annotations"]["runbook_url"].rpartition("#")[2]
        assert anchor == alert["alert"].lower()


@needs_prometheus
def test_prometheus_reads_the_example_configuration(tmp_path: Path) -> None:
    write_rules(tmp_path).rename(tmp_path / "rules.generated.yml")
    (tmp_path / "api-key").write_text("secret")
    shutil.copy(MONITORING / "prometheus.yml", tmp_path)
    command = ["promtool", "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@contextlib.asynccontextmanager
async def prometheus(folder: Path, targets: list[str]) -> AsyncIterator[str]:
    """A Prometheus that scrapes `targets` every second; its address."""
    text = await asyncio.to_thread((MONITORING / "prometheus.yml").read_text, "utf-8")
    settings = yaml.safe_load(text)
    settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    settings["rule_files"] = [str(await asyncio.to_thread(write_rules, folder))]
    [scrape] = settings["scrape_configs"]
    scrape["static_configs"] = [{"targets": targets}]
    del scrape["authorization"]
    await asyncio.to_thread((folder / "p.yml").write_text, yaml.safe_dump(settings))
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *("prometheus", f"--config.file={folder}/p.yml"),
        *(f"--storage.tsdb.path={folder}/data", "--log.level=warn"),
        f"--web.listen-address=127.0.0.1:{port}",
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()


async def ask(http: aiohttp.ClientSession, url: str, query: str) -> list[Any]:
    """The samples of an instant query that are numbers; NaN is no data."""
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    async with http.get(f"{url}/api/v1/query", params={"query": query}) as answer:
        if answer.status == 503:  # Prometheus is starting
            return []
        body = await answer.json()
    assert body["status"] == "success", f"{query}: {body}"
    return [s for s in body["data"]["result"] if s["value"][1] != "NaN"]


@needs_prometheus
@pytest.mark.slow
async def test_every_panel_shows_data_of_a_backend_under_load(tmp_path: Path) -> None:
    flags = ("--threads", "1", "--max-queue", "4")
    async with contextlib.AsyncExitStack() as stack:
        [one] = await stack.enter_async_context(running_fleet(1, *flags))
        target = one.url.removeprefix("http://")
        url = await stack.enter_async_context(prometheus(tmp_path, [target]))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        enough = asyncio.Event()
        typing = Typing(users=12, keystrokes=900, pause_s=0.2)
        load = asyncio.create_task(
            type_all(lambda: TabwiseBackend(Endpoint(one.url)), SOURCE, typing, enough)
        )
        try:
            empty = dict(queries())
            async with asyncio.timeout(60):
                while empty:  # until Prometheus has scraped and evaluated enough
                    for where, query in list(empty.items()):
                        with contextlib.suppress(aiohttp.ClientConnectorError):
                            if await ask(http, url, query):
                                del empty[where]
                    await asyncio.sleep(0.5)
        except TimeoutError:
            pytest.fail(f"no data: {empty}")
        finally:
            enough.set()
            await load


def test_the_seeds_panels_are_there_by_name_and_query() -> None:
    file = MONITORING / "dashboards" / "code-assistant.json"
    board = json.loads(file.read_text(encoding="utf-8"))
    assert board["title"] == "Code Assistant Metrics"
    shown = {p["title"]: p["targets"][0]["expr"] for p in board["panels"]}
    assert shown["Requests per second"] == "rate(code_completion_requests_total[1m])"
    assert shown["Tokens per second"] == "rate(tokens_generated_total[1m])"
    assert shown["Active requests"] == "active_requests"
    assert re.match(r"histogram_quantile\(0\.95, ", shown["P95 latency"])
