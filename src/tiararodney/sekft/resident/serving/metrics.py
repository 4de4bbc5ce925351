"""Counts what is served, as Prometheus text.

Home-made, a dict and a loop: the text format is a few lines, prometheus_client would bring a registry of its own.
"""

from __future__ import annotations

from collections import Counter
from threading import Lock


class Metrics:
    """Counters and gauges, safe to be changed from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
        self._help: dict[str, tuple[str, str]] = {}

    def declare(self, name: str, kind: str, text: str) -> None:
        """Describe a metric; `kind` is ``counter`` or ``gauge``."""
        self._help[name] = (kind, text)

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter or gauge."""
        with self._lock:
            self._counts[name, tuple(sorted(labels.items()))] += amount  # type: ignore[assignment]

    def text(self) -> str:
        """Return all of it in Prometheus' text format, version 0.0.4."""
        with self._lock:
            counts = dict(self._counts)
        lines = []
        for name, (kind, text) in self._help.items():
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
            rows = [(labels, value) for (n, labels), value in counts.items() if n == name]
            for labels, value in rows or [((), 0)]:
                shown = ",".join(f'{k}="{_escaped(v)}"' for k, v in labels)
                lines.append(f"{name}{{{shown}}} {value:g}" if shown else f"{name} {value:g}")
        return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
