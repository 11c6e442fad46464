"""The replay of typing: its script, its editor, its figures."""

import json
from pathlib import Path

import pytest

from support.language_server import isolated
from tabwise_server.bench.editor import place_of
from tabwise_server.bench.keystrokes import DEFAULT_FILES
from tabwise_server.bench.outcomes import Outcome, quantile
from tabwise_server.bench.typist import make_script
from tabwise_server.cli import main

SOURCES = [file.read_text() for file in DEFAULT_FILES]


def test_a_script_types_every_passage_back() -> None:
    opened, strokes = make_script(SOURCES, 100_000)
    texts = list(opened)
    for stroke in strokes:
        text = texts[stroke.file]
        assert 0 <= stroke.start <= stroke.end <= len(text)
        assert text[stroke.end :].startswith("\n")  # no code to the right
        texts[stroke.file] = text[: stroke.start] + stroke.text + text[stroke.end :]
    assert texts == SOURCES
    assert opened != SOURCES


def test_a_script_has_all_that_people_do_in_several_files() -> None:
    _, strokes = make_script(SOURCES, 1_000)
    kinds = {stroke.kind for stroke in strokes}
    assert kinds == {"type", "backspace", "paste", "undo", "jump"}
    assert {stroke.file for stroke in strokes} == {0, 1, 2}
    assert make_script(SOURCES, 1_000) == make_script(SOURCES, 1_000)
    assert make_script(SOURCES, 1_000, seed=2)[1] != strokes


def test_places_are_counted_in_utf16() -> None:
    assert place_of("a\n😀b", 4) == (1, 3)


def test_a_percentile_is_that_of_the_answers_where_all_were_answered() -> None:
    outcomes = [Outcome(n / 1000, "answered") for n in range(1, 101)]
    assert (quantile(outcomes, 0.5), quantile(outcomes, 0.95)) == (50, 95)


def test_cancelled_requests_do_not_make_a_server_look_fast() -> None:
    fast = [Outcome(0.010, "answered")] * 50
    given_up = [Outcome(0.100, "cancelled")] * 50
    late = [Outcome(0.300, "answered")]
    assert quantile(fast + given_up, 0.95) is None
    assert quantile(fast + given_up + late, 0.95) == 300
    assert quantile(fast + given_up, 0.5) == 10


def test_a_server_that_refuses_quickly_is_not_fast() -> None:
    answered, refused = Outcome(0.010, "answered"), Outcome(0.001, "failed")
    assert quantile([answered] * 90 + [refused] * 10, 0.95) is None
    assert quantile([answered] * 90 + [refused] * 10, 0.5) == 10
    assert quantile([answered] * 96 + [refused] * 4, 0.95) == 10


@pytest.mark.slow
def test_keystrokes_are_measured_beside_llama_cpp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("xllamacpp")
    for name, value in isolated(tmp_path).items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "keystrokes.json"
    arguments = ["--strokes", "25", "--speed", "4", "--out", str(out)]
    rival = ["--rival", "llamacpp", "--rival-threads", "1"]
    assert main(["bench", "keystrokes", *arguments, *rival]) == 0
    found = json.loads(out.read_text())
    systems = [run["system"] for run in found["runs"]]
    assert systems[0] == "tabwise"
    assert [s.split(",")[0] for s in systems[1:]] == [
        "llama.cpp q8_0",
        "llama.cpp q8_0",
        "llama.cpp fp16",
        "llama.cpp fp16",
    ]
    for run in found["runs"]:
        assert run["strokes"] == 25
        assert run["answered"] + run["cancelled"] + run["failed"] == 25
        assert run["failed"] == 0
    assert 0 <= found["runs"][0]["from_memory"] < 1
    assert found["ratios"].keys() == set(systems[1:])
    assert "times ours" in capsys.readouterr().out
    assert not (tmp_path / "state" / "daemon.json").exists()
