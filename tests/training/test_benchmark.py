"""How much of a machine training uses, beside the plain way, alone and in two."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("processes", [1, 2])
def test_both_ways_are_measured_by_the_same_rate(
    processes: int, recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "figures.json"
    command = [sys.executable, "-m"]
    if processes > 1:
        command += ["torch.distributed.run", "--standalone"]
        command += [f"--nproc_per_node={processes}", "-m"]
    command += ["tabwise_server", "bench-train", "--config", str(recipe)]
    command += ["--steps", "3", "--json", str(out)]
    command += ["--run.dtype", "bfloat16", "--run.micro_rows", "2"]
    ran = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, timeout=100
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("Matrix rate:") == 1  # the leader's word alone
    figures = json.loads(out.read_text())
    assert figures["matrix_rate"] > 1e9
    ours, plain = figures["ours"], figures["plain"]
    for way in (ours, plain):
        assert 0 < way["mfu"] < 1
        assert 0 <= way["data_wait"] < 1
    assert ours["mfu"] / plain["mfu"] == pytest.approx(
        ours["tokens_per_s"] / plain["tokens_per_s"]
    )
    assert not (tmp_path / "run").exists()
