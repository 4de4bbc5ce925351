"""Findings of the gate on disk, so that a killed gate resumes where it stopped.

One line a bundle in a hidden file beside them, appended as judgements come. A line holds for the very bytes that were
judged, on the runtime and by the tests that it names.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

LEDGER = ".judged.jsonl"


class Judged:
    """The findings stored beside bundles.

    Args:
        folder: where the bundles are.
        how: what they are judged by; findings of another way count for nothing.
    """

    def __init__(self, folder: Path, how: str) -> None:
        self._path, self._how = folder / LEDGER, how
        self._found: dict[str, str] = {}
        self._files = ExitStack()

    def __enter__(self) -> Self:
        torn = False
        if self._path.exists():
            text = self._path.read_text(encoding="utf-8", errors="replace")
            torn = bool(text) and not text.endswith("\n")
            for line in text.splitlines():
                self._read(line)
        self._file = self._files.enter_context(self._path.open("a", encoding="utf-8"))
        if torn:  # a run was killed in the middle of its last line
            self._file.write("\n")
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def _read(self, line: str) -> None:
        try:
            entry = json.loads(line)
            if entry["how"] == self._how:
                self._found[entry["sha256"]] = entry["reason"]
        except (ValueError, KeyError, TypeError):
            return  # torn: its bundle is judged again

    def before(self, bundle: Path) -> str | None:
        """Return the finding for a bundle's bytes (empty: fit for use), None if they have not been judged."""
        return self._found.get(_digest(bundle))

    def add(self, bundle: Path, reason: str) -> None:
        """Record the finding for a bundle as it is on disk now."""
        entry = {"sha256": _digest(bundle), "how": self._how, "reason": reason}
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()


def _digest(bundle: Path) -> str:
    return hashlib.sha256(bundle.read_bytes()).hexdigest()
