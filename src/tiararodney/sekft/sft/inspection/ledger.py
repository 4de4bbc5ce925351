"""What has to be remembered of every session to find duplicates and leaks: on disk, so that memory stays flat."""

from __future__ import annotations

import hashlib
import sqlite3
import weakref
from typing import TYPE_CHECKING

from tiararodney.sekft.errors import RunFailed

if TYPE_CHECKING:
    from collections.abc import Iterable

_SET_UP = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -4096;
CREATE TABLE sessions (digest BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE splits (kind TEXT, name BLOB, split BLOB, PRIMARY KEY (kind, name, split)) WITHOUT ROWID;
BEGIN
"""
"""Four megabytes are held in memory; the rest is in an unnamed temporary file."""


class Ledger:
    """Texts of sessions, and the splits that names occur in.

    Raises:
        RunFailed: (any method) there is no room for the temporary file.
    """

    def __init__(self) -> None:
        # One thread at a time asks it, but it is closed by whichever collects it.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._database.close)
        self._database.executescript(_SET_UP)

    def is_new(self, text: str) -> bool:
        """Record a text; tell whether it is the first time."""
        digest = hashlib.blake2b(_bytes(text), digest_size=16).digest()
        return self._do("INSERT OR IGNORE INTO sessions VALUES (?)", (digest,)).rowcount == 1

    def note(self, kind: str, name: str, split: str) -> None:
        """Record that a name of some kind occurs in a split."""
        self._do("INSERT OR IGNORE INTO splits VALUES (?, ?, ?)", (kind, _bytes(name), _bytes(split)))

    def leaks(self, kind: str) -> list[str]:
        """Return the names of a kind that occur in more than one split, in order."""
        found = self._do("SELECT name FROM splits WHERE kind = ? GROUP BY name HAVING count(*) > 1", (kind,))
        return sorted(bytes(name).decode(errors="surrogatepass") for (name,) in found)

    def _do(self, statement: str, values: Iterable[object]) -> sqlite3.Cursor:
        try:
            return self._database.execute(statement, tuple(values))
        except sqlite3.OperationalError as error:
            raise RunFailed(
                f"--inspect: found no room for a temporary file ({error}), expected a folder that can be written. "
                "Name one by SQLITE_TMPDIR."
            ) from None


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")  # names may hold halves of characters: JSON can
