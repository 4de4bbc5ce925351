"""Processes: programs that run while the session does, and the signals they take.

Each is a script that starts with the session, says who it is in ``NAME.pid`` and how it is in ``NAME.state``. When it
starts it takes a word that a program of root's hands out once, and says that word in what it does on a signal. So what
a process did can't be written down by anybody else: neither its files nor its text hold the word. The checker's probe
asks those that have to live a number (``NAME.ask``, signal USR2), and has it back with the word (``NAME.answer``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.checks import (
    Author,
    Check,
    Request,
    Work,
    absent,
    holds,
    same_lines,
    text_file,
    untouched,
)
from tiararodney.posix_sdc.records.schema import Fixture

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tiararodney.posix_sdc.factory.vocabulary import Draw

_PAUSE = "sleep 1"  # what a person gives a process to answer a signal in
REFUSALS = ("a backup is under way", "two writers are still connected", "its journal is not flushed")


def _keeper(name: str, word: str) -> tuple[Fixture, ...]:
    """Return the program of root's that hands a word out once, to the process when it starts."""
    share, taken = f"/usr/local/share/{name}", f"/var/lib/{name}/taken"
    body = ["#!/bin/sh", f"# Hands out the word of {name}, once: when it starts.", f"if [ -e {taken} ]; then"]
    body += [f"    echo '{name}: the word is taken' >&2; exit 1", "fi", f": > {taken}", f"cat {share}/word"]
    program = "".join(f"{line}\n" for line in body)
    return (
        Fixture(f"/usr/local/libexec/{name}", program, mode="4755", owner="root"),
        Fixture(share, kind="dir", mode="700", owner="root"),
        Fixture(f"{share}/word", f"{word}\n", mode="600", owner="root"),
        Fixture(f"/var/lib/{name}", kind="dir", mode="700", owner="root"),
    )


def _leaves(*names: str) -> tuple[str, ...]:
    return tuple(
        f"{name}.{kind}" for name in names for kind in ("pid", "new", "state", "report", "job", "ask", "answer")
    )


def _alive(name: str, word: str, question: int) -> Check:
    """Return a check that the process answered the probe, see `_asked`."""
    answer = f"grep -qx '{name} {question} {word}' /run/probe"
    return Check(f"{name} is running and answers", answer, (f"kill -KILL {_pid(name)}",))


def _asked(name: str, question: int) -> str:
    """Return the probe's part for one process: a number that nobody could know before, and the signal to answer it."""
    wait = f"while [ ! -s {name}.answer ] && [ $n -lt 60 ]; do sleep 0.05; n=$((n + 1)); done"
    ask = f"rm -f {name}.ask {name}.answer; echo {question} > {name}.ask; read -r p < {name}.pid && kill -USR2 $p"
    return f"{ask} && {{ n=0; {wait}; cat {name}.answer; }}"


def _number(draw: Draw) -> int:
    return draw.number(10**6, 10**7)


def _daemon(
    name: str, traps: Mapping[str, str], *, first: str = "", front: str = "", start: bool = True, says: str = ""
) -> Fixture:
    """Return a script that goes to the background when run, and waits for signals.

    Args:
        name: of the process and its files.
        traps: signal to what it does then, in sh.
        first: what it does before it says that it runs.
        front: what it does before it goes to the background.
        start: it runs when the session begins.
        says: more of its state, behind ``running``.
    """
    lines = ["#!/bin/sh", f"# {name}: runs in the background and waits for signals.", 'if [ "$1" != wait ]; then']
    lines += [f"    {front}"] if front else []
    lines += ['    sh "$0" wait >/dev/null 2>&1 </dev/null &', f"    until [ -s {name}.pid ]; do sleep 0.01; done"]
    lines += ["    exit 0", "fi"]
    lines += [f"word=$(/usr/local/libexec/{name})"]
    answer = f'read -r q < {name}.ask && echo "{name} $q $word" > {name}.answer'
    lines += [f"trap '{act}' {signal}" for signal, act in {**traps, "USR2": answer}.items()]
    lines += [first] if first else []
    lines += [f'echo "running{says}" > {name}.state', f"echo $$ > {name}.new && mv {name}.new {name}.pid"]
    lines += ["sleep 100000 & rest=$!", "while kill -0 $rest 2>/dev/null; do wait $rest; done"]
    script = text_file(f"{name}.sh", lines, "755")
    return replace(script, start=start)


def _end(name: str, word: str) -> str:
    return f"echo {word} > {name}.state; rm -f {name}.pid; kill $rest; exit 0"


def _pid(name: str) -> str:
    return f"$(cat {name}.pid)"


def stop(request: Request) -> Work:
    """Let a process end in good order."""
    d = request.draw
    name, word, why = d.invented(), d.noun(), d.pick(REFUSALS)
    act = f'echo "refused, {why}" > {name}.state' if request.failing else _end(name, "stopped, $word saved")
    script = _daemon(name, {"TERM": act})
    text = d.wording(
        [
            f"Stop the process {name} with the signal TERM, never with KILL; its pid is in {name}.pid",
            f"{name} is running (see {name}.pid) and has to end: send it TERM. It tells how it is in {name}.state.",
            f"Terminate {name}, whose process id is in {name}.pid, in good order: TERM only, it has something to save.",
        ]
    )
    states = (holds(f"{name}.state", f"stopped, {word} saved"), absent(f"{name}.pid"))
    return Work(
        text,
        (f"kill {_pid(name)}", f"{_PAUSE}; cat {name}.state"),
        (*states, untouched(script)),
        (script, *_keeper(name, word)),
        (),
        (),
        (
            (f"kill -KILL {_pid(name)}; rm {name}.pid; echo 'stopped, all saved' > {name}.state",),
            (f"rm {name}.pid",),
            (f"echo stopped > {name}.state; rm {name}.pid",),
        ),
        (f"cat {name}.state", "ls"),
        f"refused, {why}" if request.failing else "",
        ways=(
            (f"kill -TERM {_pid(name)}", f"{_PAUSE}; cat {name}.state"),
            (f"kill -s TERM {_pid(name)}", f"{_PAUSE}; cat {name}.state"),
        ),
        leaves=_leaves(name),
    )


def reload(request: Request) -> Work:
    """Change a process's settings and let it read them again."""
    d = request.draw
    name, key = d.invented(), d.noun()
    old, new, word, place = d.nouns(4)
    conf, question = f"{name}.conf", _number(d)
    act = f'echo "running, {key} $(sed -n s/^{key}=//p {conf}), read for $word" > {name}.state'
    script = _daemon(name, {"HUP": act, "TERM": _end(name, "stopped")})
    text = d.wording(
        [
            f"Set {key} to {new} in {conf}, then let the process {name} read it again: signal HUP, pid in {name}.pid",
            f"The running process {name} needs {key}={new}. Change {conf} and send HUP to the pid in {name}.pid.",
            f"{name} reads {conf} when it gets HUP (its pid: {name}.pid). Let it run with {key}={new}.",
        ]
    )
    edit = f"sed -i 's/^{key}=.*/{key}={new}/' {conf}"
    return Work(
        text,
        (edit, f"kill -HUP {_pid(name)}", f"{_PAUSE}; cat {name}.state"),
        (
            holds(f"{name}.state", f"running, {key} {new}, read for {word}"),
            _alive(name, word, question),
            same_lines(conf, [f"{key}={new}", f"place={place}"]),
        ),
        (script, text_file(conf, [f"{key}={old}", f"place={place}"]), *_keeper(name, word)),
        (conf,),
        (),
        (
            (edit,),
            (f"kill -HUP {_pid(name)}", _PAUSE),
            (edit, f"kill {_pid(name)}", _PAUSE),
            (edit, f"echo 'running, {key} {new}' > {name}.state"),
        ),
        (f"cat {name}.state",),
        ways=((f"sed -i s/{old}/{new}/ {conf}", f"kill -s HUP {_pid(name)}", f"{_PAUSE}; cat {name}.state"),),
        leaves=_leaves(name),
        probe=_asked(name, question),
    )


def report(request: Request) -> Work:
    """Ask a process for its report and keep it."""
    d = request.draw
    name, out = d.invented(), d.file("txt", "out")
    line, question = " ".join(d.nouns(3)), _number(d)
    why = d.pick(REFUSALS)
    act = f'echo "refused, {why}" > {name}.state' if request.failing else f'echo "$word" > {name}.report'
    script = _daemon(name, {"USR1": act})
    text = d.wording(
        [
            f"Send USR1 to the process {name} (pid in {name}.pid); it writes {name}.report: rename that to {out}",
            f"{name} writes {name}.report when it gets the signal USR1. Let it do so and rename the report {out}.",
            f"{out} should be the report of {name}: signal USR1 to the pid in {name}.pid makes it write {name}.report.",
        ]
    )
    return Work(
        text,
        (f"kill -USR1 {_pid(name)}", f"{_PAUSE}; cat {name}.state", f"mv {name}.report {out}"),
        (holds(out, line), absent(f"{name}.report"), _alive(name, line, question), untouched(script)),
        (script, *_keeper(name, line)),
        (),
        (out,),
        (
            (f"kill -USR1 {_pid(name)}", _PAUSE),
            (f"kill -KILL {_pid(name)}", f"touch {out}"),
            (f"grep echo {name}.sh > {out}",),
        ),
        (f"cat {out}",),
        f"refused, {why}" if request.failing else "",
        ways=((f"kill -s USR1 {_pid(name)}", f"{_PAUSE}; cat {name}.state", f"mv {name}.report {out}"),),
        leaves=_leaves(name),
        probe=_asked(name, question),
    )


def start(request: Request) -> Work:
    """Start a process that is down, after what stopped it is removed."""
    d = request.draw
    name, word, why = d.invented(), d.noun(), d.pick(REFUSALS)
    lock, question = f"{name}.lock", _number(d)
    front = (
        f"echo '{name}: cannot run, {why}' >&2; exit 4"
        if request.failing
        else f"[ ! -e {lock} ] || {{ echo '{name}: {lock} is there' >&2; exit 3; }}"
    )
    script = _daemon(name, {"TERM": _end(name, "stopped")}, front=front, start=False, says=" for $word")
    text = d.wording(
        [
            (
                f"{name} is down and left {lock} behind: (delete|remove) {lock}, then (start it|launch "
                f"it|let it run) (with|by) sh {name}.sh"
            ),
            f"Start the process {name} with sh {name}.sh once its old lock file {lock} is gone.",
            f"Remove {lock} and run sh {name}.sh; it goes to the background by itself.",
        ]
    )
    old = (text_file(lock, [str(d.number(2000, 9000))]), text_file(f"{name}.state", ["down"]))
    files = (script, *old, *_keeper(name, word))
    return Work(
        text,
        (f"rm {lock}", f"sh {name}.sh", f"cat {name}.state"),
        (holds(f"{name}.state", f"running for {word}"), absent(lock), _alive(name, word, question)),
        files,
        (),
        (),
        (
            (f"rm {lock}",),
            (f"sh {name}.sh",),
            (f"rm {lock}", f"echo running > {name}.state", f"echo 2 > {name}.pid"),
            (f'rm {lock}; echo "running for $(/usr/local/libexec/{name})" > {name}.state; echo $$ > {name}.pid',),
        ),
        (f"kill -0 {_pid(name)} && echo alive",),
        f"cannot run, {why}" if request.failing else "",
        ways=((f"rm -f {lock}", f"./{name}.sh", f"cat {name}.state"),),
        may_change=(lock,),
        leaves=_leaves(name),
        probe=_asked(name, question),
        guards=(holds(f"{name}.state", "down"),),
    )


def one_of(request: Request) -> Work:
    """Stop the one process, of several, that holds a job."""
    d = request.draw
    names = [d.invented() for _ in range(3)]
    all_of = ", ".join(names)
    jobs = dict(zip(names, d.nouns(3), strict=True))
    target, why = d.pick(names), d.pick(REFUSALS)
    acts = {n: _end(n, "stopped, $word saved") for n in names}
    words = dict(zip(names, d.nouns(3), strict=True))
    questions = {n: _number(d) for n in names}
    if request.failing:
        acts[target] = f'echo "refused, {why}" > {target}.state'
    scripts = [_daemon(n, {"TERM": acts[n]}, first=f"echo {jobs[n]} > {n}.job") for n in names]
    text = d.wording(
        [
            f"One of {all_of} works on {jobs[target]} (see NAME.job): stop that one with TERM (NAME.pid), no other",
            f"Find out which of {all_of} has the job {jobs[target]} (NAME.job) and send TERM to its pid (NAME.pid).",
            f"Stop the process that works on {jobs[target]}. What {all_of} do is in NAME.job, their pids in NAME.pid.",
        ]
    )
    others = [n for n in names if n != target]
    return Work(
        text,
        (f"grep -l {jobs[target]} *.job", f"kill {_pid(target)}", f"{_PAUSE}; cat {target}.state"),
        (
            holds(f"{target}.state", f"stopped, {words[target]} saved"),
            absent(f"{target}.pid"),
            *(holds(f"{n}.state", "running") for n in others),
            *(_alive(n, words[n], questions[n]) for n in others),
        ),
        (*scripts, *(f for n in names for f in _keeper(n, words[n]))),
        (),
        (),
        (
            (f"kill $(cat {' '.join(f'{n}.pid' for n in names)})", _PAUSE),
            (f"kill {_pid(others[0])}", _PAUSE),
            (f"kill -9 {_pid(target)}; rm {target}.pid; echo stopped > {target}.state",),
        ),
        ("cat *.state",),
        f"refused, {why}" if request.failing else "",
        guards=tuple(holds(f"{n}.state", "running") for n in others),
        ways=((f"grep {jobs[target]} *.job", f"kill -TERM {_pid(target)}", f"{_PAUSE}; cat {target}.state"),),
        leaves=_leaves(*names),
        probe="\n".join(_asked(n, questions[n]) for n in others),
    )


AUTHORS: dict[str, Author] = {
    "process_stop": stop,
    "process_reload": reload,
    "process_report": report,
    "process_start": start,
    "process_one": one_of,
}
