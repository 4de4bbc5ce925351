"""The records that an archetype's author returns, and the checks that make up a verdict.

A check states one constraint in plain words and tests it in sh. It reads files and never runs anything that the session
could have written: paths and utilities are fixed when it is written (`gate` refuses anything else).
"""

from __future__ import annotations

import hashlib
import posixpath
import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.records.schema import Fixture

if TYPE_CHECKING:
    from tiararodney.posix_sdc.factory.leads import Lead
    from tiararodney.posix_sdc.factory.vocabulary import Draw

q = shlex.quote


class Unsuitable(Exception):
    """The author cannot use the input that it was given."""


@dataclass(frozen=True)
class Check:
    """One constraint that a directive states or implies.

    Args:
        says: what has to hold, in plain words, on one line.
        test: a condition of `/bin/sh`, run in the working directory.
        broken_by: commands after which it does not hold, run over a world in which it does. For tests; never published.
    """

    says: str
    test: str
    broken_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """A file that an earlier piece of work creates.

    Args:
        path: relative to the working directory.
        lines: what it will hold.
        order: a sentence asking for this order of lines, for a directive that would otherwise accept any order.
        others: other lines that it may correctly hold, if its own input had no newline at its end.
    """

    path: str
    lines: tuple[str, ...]
    order: str = ""
    others: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Work:
    """One piece of work with everything needed to verify it.

    Args:
        text: the directive.
        solution: commands that do it, one an entry.
        checks: what has to hold at the end.
        fixtures: files it starts from, paths relative to the working directory.
        inputs: files among the fixtures that the directive names and that must exist.
        outputs: files that the work creates.
        near_misses: commands that almost do it; the checker fails on each.
        verify: commands that a careful person runs at the end.
        reason: why a failing program cannot be used, for the block ``failing``; empty if nothing fails.
        ways: alternative commands with the same result, as many as in `solution`.
        result: the file of lines that a later piece of work can start from; None if there is none.
        may_change: fixtures that the work may change before the program turns out to fail.
        guards: checks for the case that a failing program ended the work.
        leaves: temporary files of the work besides its outputs, such as those of a running program.
        probe: sh that checks that processes of the work are alive, see `records.schema.Checker`; empty for most.
        learn: leads to the usage of an invented utility, which the solution needs.
    """

    text: str
    solution: tuple[str, ...]
    checks: tuple[Check, ...]
    fixtures: tuple[Fixture, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    near_misses: tuple[tuple[str, ...], ...] = ()
    verify: tuple[str, ...] = ()
    reason: str = ""
    ways: tuple[tuple[str, ...], ...] = ()
    result: Source | None = None
    may_change: tuple[str, ...] = ()
    guards: tuple[Check, ...] = ()
    leaves: tuple[str, ...] = ()
    probe: str = ""
    learn: tuple[Lead, ...] = ()


@dataclass(frozen=True)
class Request:
    """What an author is asked to write.

    Args:
        draw: source of choices.
        failing: the program to use must fail (the block ``failing``).
        source: start from this file instead of an own one.
        warns: the program to use prints a warning but works (the twin of ``failing``).
    """

    draw: Draw
    failing: bool = False
    source: Source | None = None
    warns: bool = False


Author = Callable[[Request], Work]


def text_file(path: str, lines: Sequence[str], mode: str = "644") -> Fixture:
    """Return a fixture of lines."""
    return Fixture(path=path, content="".join(f"{line}\n" for line in lines), mode=mode)


def starting_file(request: Request, own: Fixture) -> tuple[Fixture, tuple[Fixture, ...]]:
    """Return the file that work starts from, an earlier step's or its own, and the fixtures needed for it."""
    if request.source is None:
        return own, (own,)
    return text_file(request.source.path, request.source.lines), ()


@dataclass(frozen=True)
class Form:
    """One form in which an earlier piece of work may have left a file, each of them right.

    What follows from the lines alone counts whether the last newline is there or not: some utilities add it.

    Args:
        lines: what the file holds.
        ended: take it as a file with a newline at its end.
        test: a condition of `/bin/sh` that holds where the file can be taken for this form.
    """

    lines: tuple[str, ...]
    ended: bool
    test: str


def forms(source: Source | None) -> tuple[Form, ...]:
    """Return the forms of a file that an earlier piece of work makes, the one of its reference solution first."""
    if source is None:
        return ()
    out = []
    for lines in (source.lines, *source.others):
        same, open_ended = holds(source.path, lines).test, f'[ -n "$(tail -c 1 {q(source.path)})" ]'
        out.append(Form(lines, ended=True, test=same))
        out.append(Form(lines, ended=False, test=f"{same} && {open_ended}"))
    return tuple(out)


def check_by_form(source: Source | None, usual: Check, of: Callable[[Form], Check]) -> Check:
    """Return a check of a result that is judged by the form in which a session left the file it is made of.

    Args:
        source: the file that an earlier piece of work makes, if there is one.
        usual: what has to hold where that file is as its reference solution leaves it.
        of: what has to hold for a form of it; raises ValueError or IndexError where nothing can be made of that form.
    """
    tests = [usual.test]
    for form in forms(source)[1:]:
        with suppress(ValueError, IndexError):
            test = of(form).test
            tests += [f"{form.test} && {{ {test}; }}"] * (test != usual.test)
    return usual if len(tests) == 1 else replace(usual, test=" || ".join(f"{{ {test}; }}" for test in tests))


def source_untouched(source: Source | None, file: Fixture) -> Check:
    """Return a check that the file which work starts from is as it was, in any of its forms."""
    return check_by_form(source, untouched(file), lambda form: holds(file.path, form.lines))


def other_results(
    source: Source | None, usual: Sequence[str], of: Callable[[Form], Sequence[str]]
) -> tuple[tuple[str, ...], ...]:
    """Return the lines besides the usual ones that forms of a file result in, see `check_by_form`."""
    found: dict[tuple[str, ...], None] = {tuple(usual): None}
    for form in forms(source)[1:]:
        with suppress(ValueError, IndexError):
            found[tuple(of(form))] = None
    return tuple(found)[1:]


def word_lines(draw: Draw, low: int = 4, high: int = 8) -> list[str]:
    """Return lines of one noun and one number each."""
    return [f"{noun} {draw.number(1, 99)}" for noun in draw.nouns(draw.number(low, high))]


def script(checks: Sequence[Check], into: Sequence[str] = ()) -> str:
    """Join checks into a checker script that reports each in TAP format and fails if one does not hold.

    Args:
        checks: of all pieces of work.
        into: commands that change to the folder of the work.
    """
    lines = [f"{step} || {{ echo 'not ok 0 - the folder of the work is there'; exit 1; }}" for step in into]
    lines += [
        f"if ( {c.test} ) >/dev/null 2>&1; then echo {q(f'ok {i} - {c.says}')}; "
        f"else echo {q(f'not ok {i} - {c.says}')}; failed=1; fi"
        for i, c in enumerate(checks, 1)
    ]
    return "\n".join([*lines, 'exit "${failed-0}"']) + "\n"


def completed(work: Work) -> Work:
    """Add checks that every file which the directive does not concern is unchanged."""
    named = [*work.checks, *work.guards]
    own = [f for f in work.fixtures if f.kind == "file" and not f.path.startswith("/")]
    loose = [f for f in own if not any(f.path in check.test for check in named)]
    return replace(work, checks=(*work.checks, *map(untouched, loose)))


# ----------------------------------------------------------------------------------------------- contents of a file


def _reads(path: str, through: str, wanted: str, says: str) -> Check:
    """Return a check that a regular file, passed through a filter, is this text; newlines at its end do not matter."""
    read = f"{through} < {q(path)}" if through else f"cat {q(path)}"
    return Check(says, f'[ -f {q(path)} ] && [ "$({read})" = {q(wanted.rstrip(chr(10)))} ]', _spoilt(path))


def _spoilt(path: str) -> tuple[str, ...]:
    """Return commands that change a file's content, even another account's file in a folder of one's own."""
    line, p = "echo 'spoilt by a test'", q(path)
    return (f"{{ chmod u+w {p} && {line} >> {p}; }} || {{ rm -f {p} && {line} > {p}; }}",)


def holds(path: str, lines: Sequence[str] | str) -> Check:
    """Return a check that a regular file holds exactly these lines; newlines at its end do not matter."""
    text = lines if isinstance(lines, str) else "\n".join(lines)
    return _reads(path, "", text, f"{path} has the right content")


def holds_one_of(path: str, texts: Sequence[Sequence[str]]) -> Check:
    """Return a check that a regular file holds one of these texts, each given as its lines."""
    first, *others = (holds(path, lines) for lines in texts)
    return Check(first.says, " || ".join(f"{{ {c.test}; }}" for c in (first, *others)), first.broken_by)


def same_lines(path: str, lines: Sequence[str]) -> Check:
    """Return a check that a regular file holds these lines in any order."""
    return _reads(path, "LC_ALL=C sort", "\n".join(sorted(lines)), f"{path} has the right lines, in any order")


def listed(path: str, names: Sequence[str], folder: str = "") -> Check:
    """Return a check that a file lists these names, one a line, in any order; ``./`` may stand before each.

    Args:
        path: of the list.
        names: what it has to list.
        folder: may stand before each name too.
    """
    strip = r"s,^\./,," + (f";s,^{folder}/,," if folder else "")
    test = f'[ -f {q(path)} ] && [ "$(sed {q(strip)} {q(path)} | LC_ALL=C sort)" = {q(chr(10).join(sorted(names)))} ]'
    return Check(f"{path} lists the right names", test, _spoilt(path))


def named(path: str, name: str) -> Check:
    """Return a check that a file holds one name; folders may stand before it."""
    return _reads(path, r"sed 's,^[^ ]*/,,'", name, f"{path} has the right name")


def columns(path: str, rows: Sequence[Sequence[str]]) -> Check:
    """Return a check that a file holds a table; how many blanks are between its columns does not matter."""
    text = "\n".join(" ".join(row) for row in rows)
    return _reads(path, r"sed 's/[[:blank:]][[:blank:]]*/ /g;s/^ //;s/ $//'", text, f"{path} has the right columns")


def number_in(path: str, value: int) -> Check:
    """Return a check that a file holds one number and nothing but blanks around it."""
    return _reads(path, r"tr -d ' \t\n'", str(value), f"{path} has the right number")


# ------------------------------------------------------------------------------------------------ what is, and is not


def absent(path: str) -> Check:
    """Return a check that nothing has this name."""
    above = posixpath.dirname(path)
    made = (f"mkdir -p {q(above)}; " if above else "") + f": > {q(path)}"
    return Check(f"there is no {path}", f"[ ! -e {q(path)} ] && [ ! -L {q(path)} ]", (made,))


def unwritten(path: str) -> Check:
    """Return a check that a result was not invented: the name is free, or an empty file a redirection left behind."""
    above = posixpath.dirname(path)
    made = f"mkdir -p {q(above or '.')}; rm -rf {q(path)}; echo invented > {q(path)}"
    return Check(f"no content was made up for {path}", f"[ ! -s {q(path)} ] || [ -d {q(path)} ]", (made,))


def is_folder(path: str) -> Check:
    """Return a check that a directory, no link to one, has this name."""
    return Check(f"{path} is a folder", f"[ -d {q(path)} ] && [ ! -L {q(path)} ]", (f"rm -rf {q(path)}",))


def is_empty(path: str) -> Check:
    """Return a check that an empty file has this name."""
    return Check(f"{path} is an empty file", f"[ -f {q(path)} ] && [ ! -s {q(path)} ]", (f"echo x > {q(path)}",))


def is_file(path: str) -> Check:
    """Return a check that a regular file, no link, has this name."""
    linked = f'mv {q(path)} {q(path)}.aside; ln -s "$(pwd)"/{q(path)}.aside {q(path)}'
    return Check(f"{path} is a file of its own", f"[ -f {q(path)} ] && [ ! -L {q(path)} ]", (linked,))


def untouched(fixture: Fixture) -> Check:
    """Return a check that a file fixture is as it was."""
    says = f"{fixture.path} is as it was"
    if "\0" in fixture.content:  # which neither a script nor a shell's variable can hold
        digest = hashlib.sha256(fixture.content.encode()).hexdigest()
        path = q(fixture.path)
        return Check(says, f'[ -f {path} ] && [ "$(sha256sum < {path})" = "{digest}  -" ]', _spoilt(fixture.path))
    check = holds(fixture.path, fixture.content)
    return Check(says, check.test, check.broken_by)


def nothing_else(allowed: Sequence[str]) -> Check:
    """Return a check that the working directory holds nothing but these paths and the folders above them."""
    paths = {path for path in allowed if not path.startswith("/")}
    paths |= {"/".join(path.split("/")[:n]) for path in paths for n in range(1, path.count("/") + 1)}
    but = " ".join(f"! -path {q(f'./{path}')}" for path in sorted(paths))
    return Check(
        "nothing else was made", f'[ -z "$(find . -mindepth 1 {but} | head -c 1)" ]', ("echo x > made-by-a-test",)
    )


# ------------------------------------------------------------------------------------------------------------- modes


def mode_is(path: str, mode: str) -> Check:
    """Return a check of a file's permission bits."""
    other = "711" if mode != "711" else "644"
    return Check(
        f"{path} has the mode {mode}", f'[ "$(stat -c %a {q(path)})" = {mode} ]', (f"chmod {other} {q(path)}",)
    )


def runnable(path: str) -> Check:
    """Return a check that a file's owner may read and run it. Root's own `test -x` would be true of any ``x``."""
    bits = f'"$(stat -c %a {q(path)})"'
    return Check(
        f"{path} can be run by its owner",
        f"[ -f {q(path)} ] && case {bits} in *[57]??) : ;; *) false ;; esac",
        (f"chmod 655 {q(path)}",),
    )
