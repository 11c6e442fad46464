"""Weights of copies that are fitted: more for copies that are right."""

import argparse
import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from support.checkpoints import tiny_checkpoint
from tabwise_model.copy_gates import GATES, features, read_gates
from tabwise_training import fit_copying
from tabwise_training.errors import TrainingError
from tabwise_training.gate_fitting import Network, Observed, fit, networks_of


def observed(right_from: int, tokens: int = 400) -> Observed:
    """Copies that are right where the text agrees over so many tokens, and else wrong;
    a model that thinks little of either."""
    rng = np.random.default_rng(1)
    rows = []
    for agreement in rng.integers(1, 17, tokens).tolist():
        said = features(agreement, 1, 0.6, 0.1, 0.3)
        share = 0.6 if agreement >= right_from else 0.0
        rows.append({"model": 0.1, "text": (said, share)})
    return Observed.of(rows)


def test_copies_weigh_where_they_were_right() -> None:
    seen = observed(right_from=5)
    gates = fit([seen])
    short, long = (
        float(gates["text"](torch.tensor([features(n, 1, 0.6, 0.1, 0.3)])).detach())
        for n in (2, 12)
    )
    assert short < 0.1 < 0.8 < long
    assert seen.nats(gates) < seen.nats(networks_of()) < seen.nats(None)


def test_a_network_is_the_gate_that_serves() -> None:
    rng = np.random.default_rng(2)
    for gate in (GATES.text, GATES.remembered):
        said = np.array(rng.normal(size=gate.hidden.shape[1]), np.float32)
        fitted = float(Network.of(gate)(torch.from_numpy(said)[None]).detach())
        assert gate.weight(said.tolist()) == pytest.approx(fitted, rel=1e-5)


def test_what_is_fitted_can_be_read(tmp_path: Path) -> None:
    networks = fit([observed(right_from=9, tokens=50)])
    file = tmp_path / "gates.json"
    file.write_text(json.dumps({k: one.to_json() for k, one in networks.items()}))
    said = features(9, 2, 0.5, 0.2, 0.4)
    fitted = float(networks["text"](torch.tensor([said])).detach())
    assert read_gates(file).text.weight(said) == pytest.approx(fitted, abs=1e-3)


@pytest.mark.slow
def test_the_command_fits_to_packages_and_says_what_is_won(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = inspect.getsource(json.decoder)
    documents = tmp_path / "val.jsonl"
    with documents.open("w") as lines:
        for package in ("a", "b"):
            for n in range(12):
                text = f"# {package} {n}\n{source[:2_000]}"
                entry = {"package": package, "path": f"{package}/{n}.py", "text": text}
                lines.write(json.dumps(entry) + "\n")
    parser = argparse.ArgumentParser()
    fit_copying.configure(parser)
    out = tmp_path / "gates.json"
    common = ["--checkpoint", str(tiny_checkpoint(tmp_path / "tiny"))]
    common += ["--documents", str(documents), "--out", str(out)]
    few = ["--positions", "8", "--steps", "2"]
    assert fit_copying.run(parser.parse_args([*common, *few])) == 0
    table = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith(("| a |", "| b |"))
    ]
    assert [row[:2] for row in table] == [
        [package, how]
        for package in "ab"
        for how in ("as it is", "tuned", "tuned, on other code")
    ]
    for row in table:  # a package's files repeat each other; other code does not
        alone, _, fitted = map(float, row[2:])
        assert fitted < alone or "other" in row[1]
    assert read_gates(out).remembered.hidden.shape == (8, 6)


def test_one_package_cannot_be_left_out(tmp_path: Path) -> None:
    documents = tmp_path / "val.jsonl"
    with pytest.raises(TrainingError, match="is not there; run `tabwise collect`"):
        fit_copying.read_packages(documents)
    documents.write_text('{"package": "a", "path": "a.py", "text": "x"}\n')
    with pytest.raises(TrainingError, match="holds 1 packages; at least 2"):
        fit_copying.read_packages(documents)
