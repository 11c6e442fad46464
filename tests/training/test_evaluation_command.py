import argparse
import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.checkpoints import tiny_checkpoint
from tabwise_server.cli import main
from tabwise_server.suggest.levels import PARTS, THRESHOLDS
from tabwise_training import evaluate
from tabwise_training.evaluation import levels
from tabwise_training.evaluation.bodies import (
    Body,
    draw_bodies,
    lines_right,
    measure_bodies,
)
from tabwise_training.evaluation.generate import Completion
from tabwise_training.evaluation.keystrokes import keystrokes_saved, type_line
from tabwise_training.evaluation.metrics import mean_json
from tabwise_training.evaluation.positions import Position
from tabwise_training.evaluation.shown import measure_shown

GOOD = json.dumps({"path": "a.py", "text": "total = first(second)\n" * 9}) + "\n"
SOURCE = inspect.getsource(json.decoder)


def at(prefix: str, truth: str) -> Position:
    return Position(
        kind="next line",
        path="a.py",
        prefix=prefix,
        suffix="\n",
        truth=truth,
        novel=True,
    )


def test_a_right_suggestion_costs_one_key_and_a_wrong_one_none_more() -> None:
    line = at("", "total = 1")
    assert type_line(line, lambda *_: None).keys == 9
    assert type_line(line, lambda *_: "wrong").keys == 9
    assert type_line(line, lambda here: here.truth).keys == 1
    after_three = lambda p: "al = 1" if p.prefix == "tot" else None  # noqa: E731
    assert type_line(line, after_three).keys == 4


def test_a_suggestion_that_goes_on_while_it_is_typed_counts_once() -> None:
    said = {"t": "otals", "to": "tals", "tot": "al", "total": " + 2", "total ": "+ 2"}
    typed = type_line(at("", "total = 1"), lambda here: said.get(here.prefix))
    assert (typed.characters, typed.keys, typed.keys_with) == (9, 8, 5)
    assert typed.suggestions == (False, True, False)


def test_keys_saved_are_counted_over_characters() -> None:
    lines = [at("", "aaaa"), at("", "bbbbbb")]
    suggest = lambda p: None if "b" in p.prefix else "aaaa"  # noqa: E731
    saved = keystrokes_saved([type_line(line, suggest) for line in lines])
    assert saved["value"] == pytest.approx(1 - 7 / 10)
    assert saved["low"] <= saved["value"] <= saved["high"]


def test_a_suggestion_that_breaks_the_code_is_not_shown() -> None:
    positions = [at("x = 1\n", "y = 2"), at("x = 1\n", "y = 2")]
    found = [Completion("y = 2", 0.9), Completion("y = = )2", 0.9)]
    figures = measure_shown(positions, found)
    assert figures["share"]["value"] == 0.5
    assert figures["precision"]["value"] == 1.0
    assert figures["parses"]["value"] == 0.5


def test_a_body_is_what_stands_below_its_header() -> None:
    bodies = draw_bodies([("a.py", SOURCE)], 20, seed=1)
    assert len(bodies) == 20
    for body in bodies:
        header = body.prefix.split("\n")[-2].rstrip()
        assert header.endswith(":")
        start = SOURCE.index(body.prefix) + len(body.prefix)
        assert SOURCE[start:].startswith(body.truth[0])
        assert len(body.prefix.split("\n")[-1]) == body.indent
        indented = [line for line in body.truth[1:] if line.strip()]
        assert all(len(x) - len(x.lstrip()) >= body.indent for x in indented)


def test_lines_count_until_the_first_wrong_one() -> None:
    assert lines_right(["a", "b", "c"], ["a", "x", "c"]) == 1
    body = Body(path="", prefix="", suffix="", indent=4, truth=("a", "    b"))
    found = measure_bodies([body, body], ["a\n    b\n", "a\n    c"])
    assert found["first_line"]["value"] == 1.0
    assert found["whole"]["value"] == 0.5
    assert found["lines_right"]["value"] == 0.75


def test_the_interval_of_a_mean_stays_within_its_bounds() -> None:
    found = mean_json([0.0, 1.0, 1.0, 1.0])
    assert found["value"] == 0.75
    assert found["low"] < 0.75 < found["high"] <= 1.0


def quantized(source: Path, *flags: str) -> Path:
    out = source.with_name(f"{source.name}{len(flags)}")
    assert main(["quantize", str(source), "--out", str(out), *flags]) == 0
    return out


def test_the_command_measures_several_checkpoints(
    tmp_path: Path, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = tmp_path / "test.jsonl"
    document = {"package": "json", "path": "json/decoder.py", "text": SOURCE}
    documents.write_text(json.dumps(document) + "\n")
    parser = argparse.ArgumentParser()
    evaluate.configure(parser)
    plain = tiny_checkpoint(tmp_path / "plain")
    arguments = parser.parse_args(
        [
            str(plain),
            str(quantized(plain)),
            str(quantized(plain, "--bits", "4", "--method", "rtn")),
            *("--documents", str(documents), "--positions", "8", "--runner", "torch"),
            *("--likelihood-bytes", "500", "--bodies", "2", "--keystroke-lines", "1"),
            *("--ngram", str(prepared), "--train-lines", str(documents)),
            *("--pictures", str(tmp_path / "pictures")),
            *("--json", str(tmp_path / "new" / "figures.json")),
        ]
    )
    assert evaluate.run(arguments) == 0
    figures = json.loads((tmp_path / "new" / "figures.json").read_text())
    assert [one["bits"] for one in figures["others"]] == [8, 4]
    exact, *rounded = (
        one["perplexity"]["value"] for one in (figures, *figures["others"])
    )
    assert rounded == pytest.approx([exact, exact], rel=0.05)
    assert exact not in rounded
    assert "untrained" not in figures["with_suffix"]  # every line stands in training
    assert figures["ngram_baseline"]["all"]["exact_match"]["n"] == 8
    names = {file.name for file in (tmp_path / "pictures").iterdir()}
    assert names == {"precision.png", "exact-match.png"}
    said = capsys.readouterr().out
    assert "Keystrokes saved" in said
    assert "| plain0 | 8 |" in said
    assert "| plain4 | 4 |" in said


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        ("", [], "test.jsonl is empty; name another split with --documents"),
        ("[1]\n", [], "test.jsonl holds no documents .*list indices"),
        ("3\n", [], "test.jsonl holds no documents .*not subscriptable"),
        ('{"path": "a.py", "text": 3}\n', [], "path and text must be strings"),
        (GOOD, ["--positions", "0"], "--positions must be at least 1, got 0"),
        (GOOD, ["--positions", "-3"], "--positions must be at least 1, got -3"),
        (GOOD, ["--keystroke-lines", "-1"], "--keystroke-lines must be at least 0"),
        (GOOD, ["--slots", "0"], "--slots must be at least 1, got 0"),
        (GOOD, ["--json", "test.jsonl/x.json"], "cannot make test.jsonl: .*another"),
        (GOOD, ["--json", "."], "is a folder; name a file in it"),
    ],
)
def test_what_cannot_be_measured_is_named_before_any_work(
    tmp_path: Path,
    text: str,
    flags: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluate, "evaluate", None)
    Path("test.jsonl").write_text(text)
    assert main(["evaluate", "--documents", "test.jsonl", *flags]) == 1
    assert re.search(message, capsys.readouterr().err)


def test_a_study_shows_what_copying_and_search_are_worth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that knows nothing, at cursors in a text that only repeats itself."""
    documents, figures = tmp_path / "test.jsonl", tmp_path / "figures.json"
    text = "".join(f"total_{n % 3} = first + second\n" for n in range(90))
    document = {"package": "a", "path": "a.py", "text": text}
    documents.write_text(json.dumps(document) + "\n")
    parser = argparse.ArgumentParser()
    evaluate.configure(parser)
    common = [
        str(tiny_checkpoint(tmp_path / "one")),
        *("--documents", str(documents), "--positions", "12", "--runner", "torch"),
        *("--slots", "8", "--json", str(figures)),
    ]
    assert evaluate.run(parser.parse_args([*common, "--study", "decoding"])) == 0
    exact = {
        row["variant"]: row["all"]["exact_match"]["value"]
        for row in json.loads(figures.read_text())
    }
    assert exact["greedy"] == exact["search, 4 lines"] == 0
    assert exact["search, 4 lines, copying"] > 0.2
    assert "| search, 8 lines, copying |" in capsys.readouterr().out


@pytest.fixture
def study(tmp_path: Path) -> Callable[[str], list[dict[str, Any]]]:
    """Runs one over a file of ours, and reads its figures."""
    text = Path(evaluate.__file__).read_text()
    document = {"package": "a", "path": "a.py", "text": text}
    (tmp_path / "test.jsonl").write_text(json.dumps(document) + "\n")
    figures = tmp_path / "figures.json"

    def run(name: str) -> list[dict[str, Any]]:
        parser = argparse.ArgumentParser()
        evaluate.configure(parser)
        flags = ["--documents", str(tmp_path / "test.jsonl"), "--positions", "24"]
        flags += ["--study", name, "--json", str(figures)]
        assert evaluate.run(parser.parse_args(["default", *flags])) == 0
        rows: list[dict[str, Any]] = json.loads(figures.read_text())
        return rows

    return run


def test_a_study_shows_what_each_level_shows(
    study: Callable[[str], list[dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = study("levels")
    levels = [row["level"] for row in rows]
    assert levels == ["quiet", "quiet", "balanced", "balanced", "eager", "eager"]
    for alone, both in zip(rows[::2], rows[1::2], strict=True):
        assert (alone["whole"], alone["part"]) == (both["whole"], None)
        assert both["part"] == PARTS[both["level"]]
        assert both["shown"]["value"] >= alone["shown"]["value"]
        assert both["saved"]["value"] >= alone["saved"]["value"]
    assert rows[3]["saved"]["value"] > rows[2]["saved"]["value"]
    whole, part = THRESHOLDS["balanced"], PARTS["balanced"]
    assert f"| balanced | {whole:g} | {part:g} |" in capsys.readouterr().out


def test_a_study_chooses_the_levels_thresholds(
    study: Callable[[str], list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(levels, "WHOLE", (0.3, 0.8))
    monkeypatch.setattr(levels, "BEYOND", (0.0, 0.1))
    rows = study("thresholds")
    pairs = [(row["whole"], row["part"]) for row in rows]
    assert pairs == [(0.3, 0.3), (0.3, 0.4), (0.8, 0.8), (0.8, 0.9)]
    assert rows[0]["with"]["value"] > rows[3]["with"]["value"]
    said = capsys.readouterr().out
    for level, row in levels.choose_thresholds(rows).items():
        assert f"{level}, {levels.TARGETS[level]:.0%}: {row['whole']:g} | " in said


def test_chosen_is_what_saves_most_among_those_that_are_right_often_enough() -> None:
    rows = [
        {"suggestions": {"value": right}, "saved": {"value": saved}}
        for right, saved in ((0.95, 0.1), (0.91, 0.2), (0.8, 0.3), (0.7, 0.25))
    ]
    chosen = levels.choose_thresholds(rows)
    assert chosen == {"quiet": rows[1], "balanced": rows[2], "eager": rows[2]}
    assert levels.choose_thresholds(rows[2:]).keys() == {"balanced", "eager"}


def test_a_study_shows_what_remembering_a_workspace_is_worth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of one package each file stands twice, of the other no two are alike."""
    documents = tmp_path / "test.jsonl"
    ours = [getattr(json, name) for name in ("decoder", "encoder")]
    files = {f"twins/{m.__name__}{n}.py": m for m in ours for n in (1, 2)}
    files |= {f"others/{module.__name__}.py": module for module in ours}
    documents.write_text(
        "".join(
            json.dumps({"path": path, "text": inspect.getsource(module)}) + "\n"
            for path, module in files.items()
        )
    )
    parser = argparse.ArgumentParser()
    evaluate.configure(parser)
    words = ["default", "--documents", str(documents), "--positions", "40"]
    assert evaluate.run(parser.parse_args([*words, "--workspaces"])) == 0
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in capsys.readouterr().out.splitlines()[2:]
    ]
    names = [row[0] for row in rows]
    right = {
        row[0]: tuple(map(int, row[2].split(" of ")[0].split(","))) for row in rows
    }
    assert names == ["others", "twins", "all"]
    assert right["twins"][1] > right["twins"][0] + 5
    assert abs(right["others"][1] - right["others"][0]) <= 2
    pairs = zip(right["others"], right["twins"], strict=True)
    assert right["all"] == tuple(map(sum, pairs))
