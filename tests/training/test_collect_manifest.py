"""The package manifest: what it may say, and what it is told when it is wrong."""

from pathlib import Path

import pytest

from tabwise_training.corpus.manifest import load_manifest, with_hashes
from tabwise_training.errors import ManifestError

CONFIGS = Path(__file__).parents[2] / "training" / "configs"
ENTRY = """
[[package]]
name = "{name}"
version = "1.0"
licence = "{licence}"
family = "{family}"
split = "{split}"
"""


def entry(
    name: str = "one", licence: str = "MIT", family: str = "f", split: str = "train"
) -> str:
    return ENTRY.format(name=name, licence=licence, family=family, split=split)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cap_gb = 1\n", "cap_gb"),
        ("cap_mb = 0\n", "cap_mb"),
        ("this is not toml", "is not TOML"),
        (entry(split="holdout"), "split"),
        (entry(licence="GPL-3.0-only"), "one has licence 'GPL-3.0-only'"),
        (entry(licence="MIT AND GPL-3.0-only"), "has licence"),
        (entry() + entry(), "one is listed twice"),
        (
            entry() + entry("two", split="test"),
            "family 'f' is in train and, with two, in test",
        ),
        (entry(split="time"), "no earlier release"),
    ],
)
def test_a_wrong_manifest_is_refused_by_name(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "packages.toml"
    file.write_text(text)
    with pytest.raises(ManifestError, match=message) as caught:
        load_manifest(file)
    assert "packages.toml" in str(caught.value)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"cannot read .*nowhere"):
        load_manifest(tmp_path / "nowhere.toml")


def test_a_later_release_goes_with_its_earlier_one(tmp_path: Path) -> None:
    file = tmp_path / "packages.toml"
    file.write_text(entry() + entry(split="time").replace("1.0", "2.0"))
    manifest = load_manifest(file)
    assert manifest.earlier(manifest.package[1]) == manifest.package[0]


def test_hashes_are_filled_in_and_all_else_is_kept() -> None:
    text = (
        "# about\ncap_mb = 1.0\n"
        + entry()
        + "\n# the second\n"
        + entry("two").rstrip()
        + '\nsha256 = "old"\n\n[stdlib]\ncap_mb = 2.0\n'
    )
    filled = with_hashes(text, {("one", "1.0"): "aa", ("two", "1.0"): "bb"})
    lines = [line for line in filled.splitlines() if line not in text.splitlines()]
    assert lines == ['sha256 = "aa"', 'sha256 = "bb"']
    gone = [line for line in text.splitlines() if line not in filled.splitlines()]
    assert gone == ['sha256 = "old"']
    assert with_hashes(filled, {("one", "1.0"): "aa", ("two", "1.0"): "bb"}) == filled


@pytest.mark.parametrize("name", ["corpus.toml", "corpus-gpu.toml"])
def test_a_shipped_manifest_is_pinned_and_holds_whole_families_out(name: str) -> None:
    manifest = load_manifest(CONFIGS / name)
    assert all(package.sha256 for package in manifest.package)
    families = {
        split: {p.family for p in manifest.package if p.split == split}
        for split in ("train", "val", "test")
    }
    assert len(families["train"]) >= 30
    assert len(families["val"]) >= 2
    assert len(families["test"]) >= 5
    assert not families["test"] & (families["train"] | families["val"])


def test_both_shipped_manifests_hold_out_the_same_code() -> None:
    held = [
        [p for p in load_manifest(CONFIGS / name).package if p.split == "test"]
        for name in ("corpus.toml", "corpus-gpu.toml")
    ]
    assert held[0] == held[1]
