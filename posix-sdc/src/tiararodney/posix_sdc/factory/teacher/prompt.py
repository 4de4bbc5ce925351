"""The prompt of a teacher: how to write a world, what it must prove, and the assignment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiararodney.posix_sdc.sessions.checkers import UTILITIES

if TYPE_CHECKING:
    from tiararodney.posix_sdc.factory.teacher.assignment import Assignment

SYSTEM = """\
You write small worlds for a terminal. In each one somebody lands at a shell prompt without being told what to do, \
finds a notice that names a program, learns that program's calls from its own documentation, gets directives from it, \
carries them out, and leaves.

Answer with one JSON object and nothing else. Its fields:
"provider": the program that hands out directives.
  "name": what is typed.
  "files": what it is made of, each {"path", "content", "mode"}. The program itself is a POSIX sh script, \
/usr/local/bin/NAME with mode "755"; data may lie below /usr/local/share/NAME. All of it is root's and cannot be \
written by the user.
  "verbs": the calls as typed, {"list": "NAME ...", "show": "NAME ...", "done": "NAME ..."}. Give "list" and "show" \
where directives have ids: the list prints each id, and "show" followed by an id prints its text. Give only "show" \
where one call prints everything. Give "done" only if the program has it.
"announcement": {"text"} that names the program in words and gives no work away; also "variable" where it is an \
environment variable, "path" where it is a file.
"directives": each {"id", "text", "solution", "inputs", "verify"}: the exact text that the program prints, the list of \
commands that do it, the files it begins with, and one or two commands that look at the result.
"fixtures": what lies there at the start, each {"path", "content", "mode", "owner", "kind", "target"}; paths are \
absolute, the owner is "user" or "root", the kind "file", "dir" or "symlink".
"checker": a POSIX sh script that runs in the working directory as root after the session, and ends with status 0 if \
and only if the work was done. It judges files and their content, never what was typed, and prints one line \
"ok 1 - WHAT HOLDS" or "not ok 1 - WHAT HOLDS" for every constraint of the directives. It only looks: it redirects \
nowhere but to /dev/null, has no here-documents and no backquotes, and calls no commands but these: UTILITIES.
"near_misses": three or more lists of commands that a careless person might type instead. The checker must fail on \
each of them.
"reason": only where the work cannot be done, why, in a few words.

Everything has to be true in a real shell: your solution is run and must satisfy your checker, the untouched world and \
every near miss must not. There are the usual programs of a small Debian system and no network. Use the same result \
whatever the day is: no dates, no random numbers, no process numbers. Keep files short. Write directives as a busy \
colleague would, in plain words, with every name and every detail that the checker looks at."""

SYSTEM = SYSTEM.replace("UTILITIES", " ".join(sorted(UTILITIES)))

REFUSED = "That world was tried and refused. Answer with the whole corrected JSON object. The reason: "

_DOCUMENTATION = {
    "help": "`NAME --help` prints its documentation, every call in full as it is typed",
    "man": "the documentation is the file /usr/local/share/man/NAME.txt, which `man NAME` prints; it shows every call "
    "in full as it is typed",
    "usage": "called without arguments it prints its usage, every call in full as it is typed",
}
_BLOCKS = {
    "missing": "A file that the directive names is not there, and nothing else can stand in for it.",
    "denied": 'A file that the work needs belongs to "root" with mode "600", so the user cannot read it.',
    "contradiction": "The directive wants a thing and forbids it in the same breath.",
    "failing": "A program that the directive says to use always fails with a message, whatever one does.",
}


def request(assignment: Assignment) -> str:
    """Return what is wanted this time."""
    a = assignment
    notice = {
        "env": "an environment variable (give its name as variable)",
        "file": f"a file in {a.workdir} (give its path)",
    }.get(a.announcement, f"a {a.announcement}, printed at login")
    lines = [
        f"The work: {a.archetype.name.replace('_', ': ')}, about {a.archetype.steps} command(s).",
        f"The program: a {a.provider}; {_DOCUMENTATION[a.documentation]}.",
        f"The announcement: {notice}.",
        f"The working directory: {a.workdir}. It is the user's; the user is agent, whose home is /home/agent.",
        f"Call the program {a.words[0]}. Words you may use for calls and files: {', '.join(a.words[1:])}.",
    ]
    if a.block:
        lines.append(
            f"This work cannot be done. {_BLOCKS[a.block]} Whoever sees that says so and leaves everything as it was: "
            "the checker must pass on the untouched world and fail on every near miss, each of which makes up a result "
            'or changes something. "solution" is what one would try.'
        )
    else:
        lines.append("This work can be done with what is there.")
    return "\n".join(lines)
