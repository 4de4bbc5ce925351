"""What a checker may do: read files. One that runs, sources or looks up what a session could have written is unfit.

A checker judges with more rights than the session had, so a file of the session's must never become a command in it.
Its text is read here: every word where the shell expects a command is a known utility that runs nothing else, and no
argument makes one of these run something. What this reader doesn't understand it refuses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tiararodney.posix_sdc.records.schema import Checker

INTERPRETERS = ("/bin/sh", "/bin/dash", "/usr/bin/sh", "/usr/bin/dash")
_UTILITIES = """
: [ awk base64 basename break cat cd cksum cmp column comm continue cut diff dirname echo exit expr false find
fold grep egrep fgrep gunzip gzip head join local ls md5sum nl od paste printf pwd read readlink realpath
return rev sed seq set sha1sum sha256sum sha512sum shift sort stat strings tac tail tar test tr true uniq
unset wc zcat
"""
UTILITIES = frozenset(_UTILITIES.split())
_RESERVED = frozenset(["!", "{", "}", "if", "then", "elif", "else", "fi", "while", "until", "do", "done"])
_FOLDERS = ("/bin/", "/usr/bin/")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=")
_LOOKS_UP = re.compile(r"PATH|ENV|BASH_ENV|IFS|LD_\w*|TAR_OPTIONS|GZIP|GREP_OPTIONS|POSIXLY_CORRECT|AWKPATH")
# Arguments that make a utility run, write or read a program, by its name.
_REFUSED = {
    "find": re.compile(r"-(exec|execdir|ok|okdir|delete|fprint\w*|fls)"),
    "awk": re.compile(r"(-f|--file|-i|-l|-E|--exec|--load|--include).*|(?s:.*(\bsystem\s*\(|\|\s*getline|\|\s*\").*)"),
    "sed": re.compile(
        r"(-[nErsuz]*[fi]|--file|--in-place).*"
        r"|(?s:.*[^\w\s][gIiMmp0-9]*[ew])|(?s:.*[^\w\s][gIiMmp0-9]*[ew][\s;}].*)|(?s:(.*[;\n{}])?\s*[$0-9]*[ew](\s.*)?)"
    ),
    "tar": re.compile(r"-\w*I.*|--(use-com|to-com|checkpoint-act|info-script|new-volume|rsh|delete|append|update).*"),
    "sort": re.compile(r"-\w*o.*|--(output|compress-program).*"),
}


def unfit(checker: Checker) -> str:
    """Return why a checker may not judge, empty where it may.

    Args:
        checker: of a bundle, from whatever source.
    """
    if checker.interpreter not in INTERPRETERS:
        return f"the checker's interpreter is {checker.interpreter}, expected {INTERPRETERS[0]}"
    try:
        _Reader(checker.script).read()
    except _Refused as found:
        return f"the checker {found}"
    return ""


class _Refused(Exception):
    """Reason why a checker is unfit."""


@dataclass
class _Reader:
    """Reads a script of sh far enough to know every command in it.

    Args:
        text: of the script.
        functions: names that the script defines.
        depth: of command substitutions.
    """

    text: str
    functions: set[str] = field(default_factory=set)
    depth: int = 0
    at: int = 0

    def read(self) -> None:  # noqa: C901 - one branch for each kind of token
        """Read to the end.

        Raises:
            _Refused: it does what a checker may not do.
        """
        self.functions |= set(re.findall(r"(?m)^\s*([A-Za-z_]\w*)\s*\(\s*\)", self.text))
        words: list[str] = []
        cases = 0  # open `case` commands
        while self.at < len(self.text):
            c = self.text[self.at]
            if c == "\\" and self.text[self.at : self.at + 2] == "\\\n":
                self.at += 2
            elif c in " \t":
                self.at += 1
            elif c == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif c in ";&|\n()":
                self._simple(words)
                words = []
                double = self.text[self.at : self.at + 2]
                self.at += 2 if double in (";;", "&&", "||") else 1
                if double == ";;" and cases:
                    self._pattern()
            elif c in "<>" or (c.isdigit() and re.match(r"\d+[<>]", self.text[self.at :])):
                self._redirection()
            else:
                words.append(self._word())
                if words == ["case"]:
                    self._case()
                    words, cases = [], cases + 1
                elif words == ["esac"]:
                    words, cases = [], cases - 1
                elif len(words) == 1 and words[0] in _RESERVED:
                    words = []
                elif words[0] == "for":
                    self._for()
                    words = []
        self._simple(words)

    def _case(self) -> None:
        self._skip_blanks()
        self._word()
        self._skip_blanks()
        if self._word() != "in":
            raise _Refused("has a case that cannot be read")
        self._pattern()

    def _pattern(self) -> None:
        """Skip the patterns of one branch, unless `esac` comes."""
        rest = re.compile(r"[\s;]*").match(self.text, self.at)
        self.at = rest.end() if rest else self.at
        if re.match(r"esac\b", self.text[self.at :]):
            return
        while self.at < len(self.text) and self.text[self.at] != ")":
            if self.text[self.at] in " \t|(\n":
                self.at += 1
            else:
                self._word()
        self.at += 1

    def _for(self) -> None:
        """Skip the name and the words of a loop."""
        while self.at < len(self.text) and self.text[self.at] not in ";\n":
            if self.text[self.at] in " \t":
                self.at += 1
            else:
                self._word()

    def _skip_blanks(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in " \t\n":
            self.at += 1

    def _redirection(self) -> None:
        found = re.compile(r"\d*(<<|<>|>>|>\||[<>]&|[<>])[ \t]*").match(self.text, self.at)
        if found is None or found[1] == "<<":
            raise _Refused("has a here-document, which this gate does not read")
        self.at = found.end()
        target = self._word()
        if ">" in found[1] and found[1] != ">&" and target != "/dev/null":
            raise _Refused(f"writes to {target}")

    def _word(self) -> str:
        """Read one word without its quotes; a ``$`` in it marks a part that is not known beforehand."""
        out: list[str] = []
        start = self.at
        while self.at < len(self.text) and self.text[self.at] not in " \t\n;&|()<>":
            c = self.text[self.at]
            if c == "'":
                end = self.text.find("'", self.at + 1)
                if end < 0:
                    raise _Refused("has a quote that does not end")
                out.append(self.text[self.at + 1 : end])
                self.at = end + 1
            elif c == '"':
                self.at += 1
                while self._character() != '"':
                    out.append(self._expansion())
                self.at += 1
            else:
                out.append(self._expansion())
        if self.at == start:
            raise _Refused(f"cannot be read at {self.text[start : start + 20]!r}")
        return "".join(out)

    def _character(self) -> str:
        if self.at >= len(self.text):
            raise _Refused("has a quote that does not end")
        return self.text[self.at]

    def _expansion(self) -> str:
        """Read one character or one expansion; the commands within it are read too."""
        c = self._character()
        if c == "`":
            raise _Refused("has a backquote: write $(...)")
        if c == "\\":
            self.at += 2
            return self.text[self.at - 1 : self.at]
        if c == "$" and self.text[self.at + 1 : self.at + 2] == "(":
            inside = self._enclosed("(", ")")
            if not (inside.startswith("(") and inside.endswith(")")):  # else it is arithmetic
                _Reader(inside, self.functions, self.depth + 1).read()
            elif "$(" in inside:
                raise _Refused("runs commands in an arithmetic expansion")
            return "$"
        if c == "$" and self.text[self.at + 1 : self.at + 2] == "{":
            if "$(" in self._enclosed("{", "}"):
                raise _Refused("runs commands in a parameter expansion")
            return "$"
        self.at += 1
        return c

    def _enclosed(self, left: str, right: str) -> str:
        """Return the text between the brackets that start after the dollar sign here, and advance past them."""
        start, depth, at = self.at + 2, 1, self.at + 2
        while at < len(self.text):
            c = self.text[at]
            if c == "\\":
                at += 1
            elif c == "'" and left == "(":
                at = self.text.find("'", at + 1)
                if at < 0:
                    break
            elif c == left:
                depth += 1
            elif c == right:
                depth -= 1
                if not depth:
                    self.at = at + 1
                    return self.text[start:at]
            at += 1
        raise _Refused("has a bracket that does not close")

    def _simple(self, words: list[str]) -> None:
        """Judge one simple command."""
        while words and (found := _ASSIGNMENT.match(words[0])):
            if _LOOKS_UP.fullmatch(found[1]):
                raise _Refused(f"sets {found[1]}")
            words = words[1:]
        if not words:
            return
        name, arguments = words[0], words[1:]
        if name in self.functions:
            return
        for folder in _FOLDERS:
            name = name.removeprefix(folder)
        if "$" in name or name not in UTILITIES:
            raise _Refused(f"runs {words[0]!r}, which is not one of the utilities that only look at files")
        refused = _REFUSED.get(name)
        if refused and (bad := next((a for a in arguments if refused.fullmatch(a)), None)) is not None:
            raise _Refused(f"calls {name} with {bad!r}, which runs, reads or writes more than it looks at")
        if name in ("gzip", "gunzip") and not any(re.fullmatch(r"-\w*[ctl]\w*", a) for a in arguments):
            raise _Refused(f"calls {name} without -c, which changes files")
        if name == "tar" and any("x" in a for a in arguments[:1]) and not any("O" in a for a in arguments[:1]):
            raise _Refused("unpacks an archive; print a member with tar xOf")
