"""Look every locked dependency of the images up among the known vulnerabilities.

pip-audit asks the package index for its advisories. Exit status 1 for a vulnerable
dependency. Where no advisories can be had, it says NOT DONE and passes, but for
TABWISE_AUDIT=required. `scripts/check` runs it.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LOCKS = [
    Path("docker") / f"{name}.txt" for name in ("build", "lsp", "cpu", "gpu", "train")
]
COMMAND = "-m pip_audit --no-deps --disable-pip --format json --progress-spinner off"
TIMEOUT_S = 10

Found = list[dict[str, Any]]


def main() -> int:
    found = audit(LOCKS) if advisories_can_be_had() else []
    status, said = verdict(found, os.environ.get("TABWISE_AUDIT") == "required")
    print("\n".join(f"audit: {line}" for line in said))
    return status


def verdict(found: Found, required: bool) -> tuple[int, list[str]]:
    """Exit status, and what to say, of pip-audit's list of dependencies."""
    known = [one for one in found if "vulns" in one]
    if not known:
        return int(required), ["NOT DONE: no advisories can be had here"]
    bad = [
        f"{one['name']} {one['version']} is vulnerable: {vuln['id']}, fixed in "
        + (", ".join(vuln["fix_versions"]) or "no release")
        for one in known
        for vuln in one["vulns"]
    ]
    said = bad or [f"{len(known)} dependencies without a known vulnerability"]
    unknown = sorted(one["name"] for one in found if one not in known)
    if unknown:
        said.append(f"not looked up: {', '.join(unknown)}")
    return int(bool(bad)), said


def advisories_can_be_had() -> bool:
    """Whether one dependency is known: without an answer to that there is no need for
    a hundred more questions."""
    lines = Path("docker/lsp.txt").read_text(encoding="utf-8").splitlines()
    with tempfile.TemporaryDirectory() as folder:
        one = Path(folder) / "one.txt"
        one.write_text(next(line for line in lines if line.startswith("aiohttp==")))
        return any("vulns" in dependency for dependency in audit([one]))


def audit(files: list[Path]) -> Found:
    """What pip-audit says of each requirement; nothing where it fails."""
    named = [part for file in files for part in ("-r", str(file))]
    done = subprocess.run(
        [sys.executable, *COMMAND.split(), "--timeout", str(TIMEOUT_S), *named],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        found: Found = json.loads(done.stdout)["dependencies"]
    except ValueError:
        return []
    return found


if __name__ == "__main__":
    sys.exit(main())
