"""Facts of a world that a session has to see before a command may use them, and which command would show them.

The reference operator looks until its next command uses shown facts only. `sessions.provenance` checks recorded
sessions for the same rule without any of this code.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.worlds.filesystem import USER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tiararodney.posix_sdc.records.schema import Fixture, Scenario

_FILE = re.compile(r"[\w-]+(?:\.[\w-]+)+")
_WORD = re.compile(r"[A-Za-z_]\w+|\d+")
_SEGMENT = re.compile(r"\$\(|[|;&\n(){}`]+|\b(?:do|then|while)\b")
# Numbers that are part of the syntax: fields, options, line numbers, descriptors, sizes to wait or to show.
_SYNTAX = re.compile(
    r"\[:\w+:\]|[aA]-[zZ]|0-9|\$\d+|-n \+2\b|-[A-Za-z]+ ?\d+|\\\d|NR *[=<>!&]+ *\d+|\d*[<>]&?\d*|\b[01]\b|\bsleep \d+"
)
_MODE = re.compile(r"(?<![\w.])[-/]?0?[0-7]{3}(?![\w.])|(?<!\S)[ugoa]*[-+=][rwxX,ugoa=+-]*")
_OPTION = re.compile(r"(?<!\S)-(?:-?[A-Za-z][\w-]*|\d(?!\S))")  # a level such as -9 too
_COMMON = frozenset(
    """print printf echo begin end next length substr nr nf fs ofs toupper tolower sum total cat ls sh sort wc head tail
    grep sed awk find mv cp rm chmod tar tr cut paste home path pwd user if then else exit for in do done null dev swap
    tmp term kill hup usr1 not name type file sleep while read etc var usr bin share local lib mail spool opt srv root
    home cron args motd proc""".split()  # noqa: SIM905 - a list of words
)
_SPELLED = (
    *("zero", "one first", "two second", "three third", "four fourth", "five fifth", "six sixth", "seven seventh"),
    *("eight eighth", "nine ninth", "ten tenth", "eleven eleventh", "twelve twelfth"),
)


class Facts:
    """The facts of one world, and which of them its session has shown.

    Args:
        scenario: the world.
        place: where its work lies; paths are relative to it.
    """

    def __init__(self, scenario: Scenario, place: str) -> None:
        # Invented programs: nobody knows what they take.
        files = (*scenario.fixtures, *scenario.provider.files)
        self._programs = {f.path.rpartition("/")[2] for f in files if f.path.startswith("/usr/local/bin/")}
        self._programs.add(scenario.provider.name)
        self._files: dict[str, Fixture] = {}
        for fixture in scenario.fixtures:
            self._files[fixture.path.removeprefix(place.rstrip("/") + "/")] = fixture
        names = {w for path in self._files for w in _words(path)}
        self._content = {path: set(_words(f.content)) for path, f in self._files.items() if "\0" not in f.content}
        self._facts = names.union(*self._content.values()) if self._content else names
        self._facts |= {w for d in scenario.directives for w in _words(d.id)} | {*self._programs, USER}
        self._facts |= {w for text in scenario.environment.values() for w in _words(text)}
        # Archives are bytes, among which the names of their members stand.
        self._archives = {p: set(_words(f.content)) for p, f in self._files.items() if p.endswith((".tar", ".tgz"))}
        self._facts = self._facts.union(*self._archives.values()) - _COMMON
        self._text, self._shown = "", set[str]()

    def show(self, text: str) -> None:
        """Record what the terminal has shown."""
        self._text += text + "\n"
        self._shown |= set(_words(text)) | set(re.findall(r"[a-z]+", text.lower()))

    def knows(self, text: str) -> bool:
        """Return whether the terminal has shown a text verbatim."""
        return text in self._text

    def find(self, pattern: str) -> str:
        """Return the first text that a pattern finds in what was shown.

        Raises:
            LookupError: nothing shown matches.
        """
        found = re.search(pattern, self._text)
        if not found:
            raise LookupError(f"nothing shown matches {pattern}")
        return found.group()

    def missing(self, command: str) -> list[str]:
        """Return what a command uses that nothing has shown yet."""
        text = self._text.lower()
        names = (name.lower() for name in _FILE.findall(command))
        out = [name for name in names if name not in text and not set(_words(name)) <= _COMMON]
        for segment in _SEGMENT.split(command):
            first, _, rest = segment.strip().partition(" ")
            if first in self._programs:
                call = _SYNTAX.sub(" ", segment)
                out += [w for w in _words(call) if w != "help" and not self._has(w)]
            else:
                arguments = _OPTION.sub(" ", _SYNTAX.sub(" ", rest))
                if first in ("chmod", "find", "mkdir"):
                    arguments = _MODE.sub(" ", arguments)
                out += [w for w in _words(arguments) if w in self._facts and not self._has(w)]
        return out

    def _has(self, word: str) -> bool:
        if word.isdecimal() and int(word) < len(_SPELLED):
            return not self._shown.isdisjoint((word, *_SPELLED[int(word)].split()))
        return word in self._shown

    def lines(self, path: str) -> int | None:
        """Return the number of lines of an initial text file; None for anything else."""
        found = self._files.get(path)
        return found.content.count("\n") if found and found.kind == "file" and "\0" not in found.content else None

    def is_folder(self, path: str) -> bool:
        """Return whether a path was initially a folder."""
        inside = f"{path.rstrip('/')}/"
        return any(p.startswith(inside) or (p == path and f.kind == "dir") for p, f in self._files.items())

    def within(self, folder: str) -> list[str]:
        """Return the initial text files directly in a folder."""
        return [p for p in self._content if p.rpartition("/")[0] == folder and self._files[p].kind == "file"]

    def looks(self, words: list[str]) -> Iterator[str]:
        """Yield commands that show one of these words, the likeliest first; each uses only what was shown."""
        wanted = {w for word in words for w in _words(word)}
        for path in self._files:
            folder, _, name = path.rpartition("/")
            if wanted & set(_words(name)) and not path.startswith("/"):
                yield f"ls {folder}" if folder else "ls"
        for path, content in self._content.items():
            if wanted & content and not path.startswith("/"):
                yield f"cat {path}"
        for path, content in self._archives.items():
            if wanted & content:
                yield f"tar tf {path}"
        yield "ls"


def _words(text: str) -> Iterator[str]:
    return (w.lower() for w in _WORD.findall(text) if len(w) > 1 or w.isdecimal())
