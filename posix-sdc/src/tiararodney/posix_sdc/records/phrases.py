"""Which phrases of directives, announcements and documentation recur from world to world."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tiararodney.posix_sdc.records.schema import Scenario

LENGTHS = (3, 4, 5)  # words
_MOST = 5000  # worlds that are looked at: enough for a share, and little memory
_HERE_DOCUMENT = re.compile(r"<<'END'\n(.*?)^END$", re.DOTALL | re.MULTILINE)
_BREAK = re.compile(r"[.;:!?()\[\]\n\t]+(?:\s|$)|\n|  +")  # no phrase goes over the end of a sentence or a cell
_WORD = re.compile(r"[^\s,]+")
_LETTERS = re.compile(r"[A-Za-z]?[a-z']+|[AI]")  # and no METAVARIABLE


def texts(scenario: Scenario) -> Iterator[str]:
    """Yield what people wrote in a world: directives, the announcement, and what programs say of themselves."""
    yield scenario.announcement.text
    for directive in scenario.directives:
        yield directive.text
    for file in (*scenario.provider.files, *scenario.fixtures):
        if file.path.startswith("/usr/local/share/man/") or file.path.endswith("/doc"):
            yield file.content
        elif file.path.startswith("/usr/local/bin/"):
            yield from _HERE_DOCUMENT.findall(file.content)


def phrases(text: str) -> set[str]:
    """Return the word n-grams of a text, lower case; words are those of letters, and no n-gram goes past another."""
    found: set[str] = set()
    for part in _BREAK.split(text):
        words = [w.lower() if _LETTERS.fullmatch(w) else "" for w in _WORD.findall(part)]
        for n in LENGTHS:
            found.update(" ".join(g) for g in zip(*(words[i:] for i in range(n)), strict=False) if all(g))
    return found


class PhraseCounter:
    """Counts in how many worlds each phrase occurs."""

    def __init__(self) -> None:
        self.worlds = 0
        self._counts: Counter[str] = Counter()

    def add(self, scenario: Scenario) -> None:
        """Count one world's phrases, each once."""
        if self.worlds < _MOST:
            self.worlds += 1
            self._counts.update(set().union(*map(phrases, texts(scenario))))

    def most(self, n: int = 20) -> dict[str, int]:
        """Return the most frequent phrases with their worlds; a phrase within a longer one as frequent is left out."""
        found: dict[str, int] = {}
        for phrase, count in sorted(self._counts.items(), key=lambda kv: (-kv[1], -len(kv[0]), kv[0])):
            if not any(count == found[longer] and phrase in longer for longer in found):
                found[phrase] = count
            if len(found) == n:
                break
        return found
