"""Reading Prometheus' text form, as far as our own backend writes it."""

from __future__ import annotations


def read_metrics(text: str) -> dict[str, float]:
    """Value by name, with labels where there are any: `name{label="value"}`."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name and not line.startswith("#"):
            found[name] = float(value)
    return found
