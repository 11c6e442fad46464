"""What the audit of dependencies makes of pip-audit's answer."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "audit.py"
FINE: dict[str, Any] = {"name": "attrs", "version": "1", "vulns": []}
SKIPPED: dict[str, Any] = {"name": "ours", "skip_reason": "not found"}
BAD: dict[str, Any] = {
    "name": "torch",
    "version": "2",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}],
}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("found", "required", "status", "words"),
    [
        ([FINE], False, 0, "1 dependencies without"),
        ([FINE, SKIPPED], False, 0, "not looked up: ours"),
        ([FINE, BAD], False, 1, "torch 2 is vulnerable: PYSEC-1, fixed in 3"),
        ([SKIPPED], False, 0, "NOT DONE"),
        ([], True, 1, "NOT DONE"),
    ],
)
def test_a_vulnerability_fails_and_silence_is_not_taken_for_safety(
    script: ModuleType, found: Any, required: bool, status: int, words: str
) -> None:
    got, said = script.verdict(found, required)
    assert got == status
    assert words in "\n".join(said)


def test_the_lock_files_that_are_audited_exist(script: ModuleType) -> None:
    for lock in script.LOCKS:
        assert (SCRIPT.parents[1] / lock).is_file()
