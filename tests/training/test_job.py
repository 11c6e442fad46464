"""The cluster's training job: its own command, as two machines on this one."""

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

from tabwise_training.run_state import read_log, steps_on_disk

ROOT = Path(__file__).parents[2]
TINY = {
    "model.block_size": 64,
    "model.n_layer": 2,
    "model.n_head": 2,
    "model.n_kv_head": 1,
    "model.n_embd": 32,
    "model.mlp_hidden": 48,
    "data.shard_tokens": 20_000,
    "run.steps": 4,
    "run.batch_tokens": 512,
    "run.micro_rows": 4,
    "run.eval_every": 4,
    "run.eval_rows": 8,
    "run.save_every": 4,
    "run.log_every": 1,
    "run.threads": 1,
}


def job_command(node: int, port: int, prepared: Path, out: Path) -> list[str]:
    """The job's command with this machine's addresses, paths and one process each."""
    manifests = yaml.safe_load_all((ROOT / "k8s/training/job.yaml").read_text())
    job = next(one for one in manifests if one["kind"] == "Job")
    [container] = job["spec"]["template"]["spec"]["containers"]
    here = {
        "--nproc-per-node=4": "--nproc-per-node=1",
        "--node-rank=$(JOB_COMPLETION_INDEX)": f"--node-rank={node}",
        "--rdzv-endpoint=tabwise-train-0.tabwise-train:29500": (
            f"--rdzv-endpoint=127.0.0.1:{port}"
        ),
        "--config=/opt/tabwise/configs/seed-4gpu.toml": (
            f"--config={ROOT}/training/configs/cpu-7m.toml"
        ),
        "/work/prepared-gpt2": str(prepared),
        "/work/runs/seed-8gpu": str(out),
    }
    words = [*container["command"], *container["args"]]
    assert set(here) <= set(words)
    assert words[0] == "torchrun"
    assert shutil.which("torchrun", path=sysconfig.get_path("scripts"))
    launcher = [sys.executable, "-m", "torch.distributed.run"]
    flags = [text for key, value in TINY.items() for text in (f"--{key}", str(value))]
    return [*launcher, *(here.get(word, word) for word in words[1:]), *flags]


@pytest.mark.slow
def test_the_jobs_command_trains_on_two_machines(
    prepared: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    nodes = [
        subprocess.Popen(
            job_command(node, port, prepared, out),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for node in range(2)
    ]
    try:
        for node in nodes:
            errors = node.communicate(timeout=110)[1]
            assert node.returncode == 0, errors[-3000:]
    finally:
        for node in nodes:
            node.kill()
    assert steps_on_disk(out)
    losses = [float(row["loss"]) for row in read_log(out)]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
