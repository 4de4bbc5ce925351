"""Processes: programs that run while the session does, and the signals they take.

Each is a script that starts with the session, says who it is in ``NAME.pid`` and how it is in ``NAME.state``. What a
signal made of it lies in files, so the checker, which comes when every process is gone, can tell.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.checks import Author, Brief, Work, absent, holds, text_file, untouched

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tiararodney.posix_sdc.records.schema import Fixture

_PAUSE = "sleep 1"  # what a person gives a process to answer a signal in
REFUSALS = ("a backup is under way", "two writers are still connected", "its journal is not flushed")


def _daemon(name: str, traps: Mapping[str, str], *, first: str = "", front: str = "", start: bool = True) -> Fixture:
    """Return a script that goes to the background when run, and waits for signals.

    Args:
        name: of the process and its files.
        traps: signal to what it does then, in sh.
        first: what it does before it says that it runs.
        front: what it does before it goes to the background.
        start: it runs when the session begins.
    """
    lines = ["#!/bin/sh", f"# {name}: runs in the background and waits for signals.", 'if [ "$1" != wait ]; then']
    lines += [f"    {front}"] if front else []
    lines += ['    sh "$0" wait >/dev/null 2>&1 </dev/null &', f"    until [ -s {name}.pid ]; do sleep 0.01; done"]
    lines += ["    exit 0", "fi"]
    lines += [f"trap '{act}' {signal}" for signal, act in traps.items()]
    lines += [first] if first else []
    lines += [f"echo running > {name}.state", f"echo $$ > {name}.new && mv {name}.new {name}.pid"]
    lines += ["sleep 100000 & rest=$!", "while kill -0 $rest 2>/dev/null; do wait $rest; done"]
    script = text_file(f"{name}.sh", lines, "755")
    return replace(script, start=start)


def _end(name: str, word: str) -> str:
    return f"echo {word} > {name}.state; rm -f {name}.pid; kill $rest; exit 0"


def _pid(name: str) -> str:
    return f"$(cat {name}.pid)"


def stop(brief: Brief) -> Work:
    """Let a process end in good order."""
    d = brief.draw
    name, word, why = d.invented(), d.noun(), d.pick(REFUSALS)
    act = f'echo "refused, {why}" > {name}.state' if brief.failing else _end(name, f"stopped, {word} saved")
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
        (script,),
        (),
        (),
        (
            (f"kill -KILL {_pid(name)}", _PAUSE),
            (f"rm {name}.pid",),
            (f"echo stopped > {name}.state; rm {name}.pid",),
        ),
        (f"cat {name}.state", "ls"),
        f"refused, {why}" if brief.failing else "",
        ways=(
            (f"kill -TERM {_pid(name)}", f"{_PAUSE}; cat {name}.state"),
            (f"kill -s TERM {_pid(name)}", f"{_PAUSE}; cat {name}.state"),
        ),
    )


def reload(brief: Brief) -> Work:
    """Change a process's settings and let it read them again."""
    d = brief.draw
    name, key = d.invented(), d.noun()
    old, new = d.nouns(2)
    conf = f"{name}.conf"
    act = f'echo "running, {key} $(sed -n s/^{key}=//p {conf})" > {name}.state'
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
        (holds(f"{name}.state", f"running, {key} {new}"), f"[ -s {name}.pid ]", f"grep -qx {key}={new} {conf}"),
        (script, text_file(conf, [f"{key}={old}", f"place={d.noun()}"])),
        (conf,),
        (),
        ((edit,), (f"kill -HUP {_pid(name)}", _PAUSE), (edit, f"kill {_pid(name)}", _PAUSE)),
        (f"cat {name}.state",),
        ways=((f"sed -i s/{old}/{new}/ {conf}", f"kill -s HUP {_pid(name)}", f"{_PAUSE}; cat {name}.state"),),
    )


def report(brief: Brief) -> Work:
    """Ask a process for its report and keep it."""
    d = brief.draw
    name, out = d.invented(), d.file("txt", "out")
    line = " ".join(d.nouns(3))
    why = d.pick(REFUSALS)
    act = f'echo "refused, {why}" > {name}.state' if brief.failing else f'echo "{line}" > {name}.report'
    script = _daemon(name, {"USR1": act})
    text = d.wording(
        [
            f"Send USR1 to the process {name} (pid in {name}.pid); it writes {name}.report: rename that to {out}",
            f"{name} writes {name}.report when it gets the signal USR1. Let it do so and rename the report {out}.",
            f"{out} is to be the report of {name}: signal USR1 to the pid in {name}.pid makes it write {name}.report.",
        ]
    )
    return Work(
        text,
        (f"kill -USR1 {_pid(name)}", f"{_PAUSE}; cat {name}.state", f"mv {name}.report {out}"),
        (holds(out, line), absent(f"{name}.report"), f"[ -s {name}.pid ]", untouched(script)),
        (script,),
        (),
        (out,),
        (
            (f"kill -USR1 {_pid(name)}", _PAUSE),
            (f"kill -KILL {_pid(name)}", f"touch {out}"),
            (f"grep echo {name}.sh > {out}",),
        ),
        (f"cat {out}",),
        f"refused, {why}" if brief.failing else "",
        ways=((f"kill -s USR1 {_pid(name)}", f"{_PAUSE}; cat {name}.state", f"mv {name}.report {out}"),),
    )


def start(brief: Brief) -> Work:
    """Start a process that is down, after what stopped it is removed."""
    d = brief.draw
    name, why = d.invented(), d.pick(REFUSALS)
    lock = f"{name}.lock"
    front = (
        f"echo '{name}: cannot run, {why}' >&2; exit 4"
        if brief.failing
        else f"[ ! -e {lock} ] || {{ echo '{name}: {lock} is there' >&2; exit 3; }}"
    )
    script = _daemon(name, {"TERM": _end(name, "stopped")}, front=front, start=False)
    text = d.wording(
        [
            f"{name} is down and left {lock} behind: delete {lock}, then start it with sh {name}.sh",
            f"Start the process {name} with sh {name}.sh once its old lock file {lock} is gone.",
            f"Remove {lock} and run sh {name}.sh; it goes to the background by itself.",
        ]
    )
    files = (script, text_file(lock, [str(d.number(2000, 9000))]), text_file(f"{name}.state", ["down"]))
    return Work(
        text,
        (f"rm {lock}", f"sh {name}.sh", f"cat {name}.state"),
        (holds(f"{name}.state", "running"), absent(lock), f'[ "$(cat {name}.pid)" -gt 1 ]'),
        files,
        (),
        (),
        ((f"rm {lock}",), (f"sh {name}.sh",), (f"rm {lock}", f"echo running > {name}.state")),
        (f"kill -0 {_pid(name)} && echo alive",),
        f"cannot run, {why}" if brief.failing else "",
        ways=((f"rm -f {lock}", f"./{name}.sh", f"cat {name}.state"),),
        spoils=(lock,),
        guards=(holds(f"{name}.state", "down"),),
    )


def one_of(brief: Brief) -> Work:
    """Stop the one process, of several, that holds a job."""
    d = brief.draw
    names = [d.invented() for _ in range(3)]
    all_of = ", ".join(names)
    jobs = dict(zip(names, d.nouns(3), strict=True))
    target, why = d.pick(names), d.pick(REFUSALS)
    acts = {n: _end(n, "stopped") for n in names}
    if brief.failing:
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
            holds(f"{target}.state", "stopped"),
            absent(f"{target}.pid"),
            *(holds(f"{n}.state", "running") for n in others),
        ),
        tuple(scripts),
        (),
        (),
        (
            (f"kill $(cat {' '.join(f'{n}.pid' for n in names)})", _PAUSE),
            (f"kill {_pid(others[0])}", _PAUSE),
            (f"kill -9 {_pid(target)}", _PAUSE),
        ),
        ("cat *.state",),
        f"refused, {why}" if brief.failing else "",
        guards=tuple(holds(f"{n}.state", "running") for n in others),
        ways=((f"grep {jobs[target]} *.job", f"kill -TERM {_pid(target)}", f"{_PAUSE}; cat {target}.state"),),
    )


AUTHORS: dict[str, Author] = {
    "process_stop": stop,
    "process_reload": reload,
    "process_report": report,
    "process_start": start,
    "process_one": one_of,
}
