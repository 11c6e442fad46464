"""`tabwise status`: whether the shared daemon runs, and how it is."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import Any

from tabwise_server.backends.daemon import client_of, process_exists
from tabwise_server.daemon_state import DaemonState, read_state
from tabwise_server.errors import TabwiseError
from tabwise_server.metrics_text import read_metrics
from tabwise_server.settings import BackendSettings

NOT_RUNNING = 3  # as service managers say it


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(arguments: argparse.Namespace) -> int:
    report = asyncio.run(describe(read_state()))
    if arguments.json:
        print(json.dumps(report))
    else:
        for name, value in report.items():
            print(f"{name.replace('_', ' ') + ':':<20}{value}")
    return 0 if report["running"] else NOT_RUNNING


async def describe(state: DaemonState | None) -> dict[str, Any]:
    """What can be said of the daemon in `state`; always has `running`."""
    if state is None or not process_exists(state.pid):
        return {"running": False}
    client = client_of(state, BackendSettings())
    try:
        health = await client.health()
        metrics = read_metrics(await client.metrics())
    except TabwiseError as error:
        return {"running": False, "pid": state.pid, "problem": str(error)}
    finally:
        await client.close()
    prompt = metrics.get("tabwise_engine_prompt_tokens_total", 0.0)
    cached = metrics.get("tabwise_engine_cached_tokens_total", 0.0)
    return {
        "running": health.pid == state.pid,
        "ready": health.ready,
        "pid": state.pid,
        "address": state.url,
        "model": health.model,
        "device": health.device,
        "version": state.version,
        "uptime_s": round(time.time() - state.started),
        "requests": round(
            sum(v for k, v in metrics.items() if k.startswith(_REQUESTS))
        ),
        "tokens_generated": round(metrics.get("tokens_generated_total", 0.0)),
        "remembered_tokens": round(metrics.get("tabwise_remembered_tokens", 0.0)),
        "cached_share": round(cached / prompt, 3) if prompt else None,
    }


_REQUESTS = "code_completion_requests_total"
