"""Plays everything that a verdict has to tell apart, in whole worlds of the full course.

    python posix-sdc/tests/factory/acceptance.py --n 2000 --log acceptance.jsonl

In each world: the gate with its near misses; the reference solution with each constraint broken alone, which fails that
constraint's check; two other answers in place of the solution (in a panic world two other reasons), which succeed; and
sessions that do nothing, which are neither verified nor a success. A line of the log is one world; a run that was
stopped goes on with the worlds that the log lacks. The last line of stdout is one JSON object with the totals.
"""

import argparse
import json
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from alternatives import answers

from tiararodney.posix_sdc.errors import InfrastructureError
from tiararodney.posix_sdc.factory import bundles
from tiararodney.posix_sdc.factory.checks import Check, script
from tiararodney.posix_sdc.records.schema import Scenario, Split
from tiararodney.posix_sdc.sessions.gate import handing_out, judge
from tiararodney.posix_sdc.sessions.loop import ATTEMPTS, run_session
from tiararodney.posix_sdc.sessions.operators.scripted import ScriptedOperator
from tiararodney.posix_sdc.support.parallel import each
from tiararodney.posix_sdc.worlds.protocol import open_world

ANSWERS = 2  # other than the reference solution, of each world
NOTHING = {
    "exit at once": ["exit"],
    "panic at once": ["panic"],
    "prose": ["I have looked at everything and the work is done.", "exit"],
}
OUT_OF_REACH = "out of reach"
# Words of commands that name no file, and commands that reach further than the names in them.
_SHELL = {
    *(
        "chmod",
        "echo",
        "rm",
        "mkdir",
        "mv",
        "ln",
        "cat",
        "sed",
        "sort",
        "pwd",
        "dirname",
        "spoilt",
        "by",
        "test",
        "made",
    ),
    *("invented", "aside", "u", "w", "p", "f", "s", "rf"),
}
_WIDE = re.compile(r"\*|\bfind\b|\bcd\b|\bkill\b|\$\((?!pwd|dirname)|`|\beval\b|\bsh\b")
_LOOKS_WIDE = re.compile(r"\bfind\b|/\*")
# What people say who give up, by what stops them; {0} is the file that it is about.
REASONS = {
    "missing": ("I cannot find {0} anywhere", "{0}: No such file or directory"),
    "denied": ("{0} cannot be read: Permission denied", "I am not allowed to open {0}"),
    "contradiction": ("the directive asks for {0} and forbids it", "{0} has to be made and must not exist"),
    "failing": ("the program fails", "it stops with an error and does nothing"),
}


@dataclass(frozen=True)
class World:
    """A scenario with the constraints that its checker is made of.

    Args:
        number: which of the run it is.
        scenario: as it is published.
        checks: in the order in which the checker names them.
    """

    number: int
    scenario: Scenario
    checks: tuple[Check, ...]

    @property
    def into(self) -> list[str]:
        """The commands that go where the work lies, where no solution says them."""
        places = [d.extra["place"]["path"] for d in self.scenario.directives if "place" in d.extra]
        return [] if self.scenario.reference_solution else [f"cd {path}" for path in places[:1]]


def worlds(n: int, seed: int, split: Split = "train", course: str = "full") -> Iterator[World]:
    """Yield the scenarios of a run of `generate`, with the commands that break each constraint."""
    made: list[Sequence[Check]] = []

    def noted(checks: Sequence[Check], into: Sequence[str] = ()) -> str:
        made.append(checks)
        return script(checks, into)

    original, bundles.script = bundles.script, noted
    try:
        for number, scenario in enumerate(bundles.generate(n, seed, split, course=course)):
            yield World(number, scenario, tuple(made[-1]))
    finally:
        bundles.script = original


def works(scenario: Scenario) -> list[dict[str, Any]]:
    """Return the pieces of work that can be done, in their order: those before a blocked one, or all."""
    out = []
    for work in (work for directive in scenario.directives for work in directive.extra["works"]):
        if work["block"]:
            break
        out.append(work)
    return out


def other_sessions(world: World) -> list[list[str]]:
    """Return the commands of other right sessions: other answers to each piece of work, or other reasons."""
    scenario, number, todo = world.scenario, world.number, works(world.scenario)
    if scenario.terminal == "exit":
        into = [c for c in scenario.reference_solution[:1] if c.startswith("cd ")]
        chained = [w["chained"] for w in todo[1:]] + [False]
        right = [
            answers(w["archetype"], w["solution"], in_order=goes_on, aside=f"aside-{i}")
            for i, (w, goes_on) in enumerate(zip(todo, chained, strict=True))
        ]
        picks = [[found[(number + k) % len(found)] for found in right] for k in range(ANSWERS)]
        return [[*into, *(f"(\n{answer}\n)" for answer in picked), "exit"] for picked in picks]
    blocked = next(w for d in scenario.directives for w in d.extra["works"] if w["block"])
    about = {"contradiction": "outputs", "failing": "archetype"}.get(blocked["block"], "inputs")
    name = blocked[about][0].rpartition("/")[2]
    before = [*handing_out(scenario), *scenario.reference_solution]
    return [[*before, f"panic {shlex.quote(text.format(name))}"] for text in REASONS[blocked["block"]]]


def apart(checks: Sequence[Check]) -> list[list[int]]:
    """Return the places of checks in groups whose members can be broken in one session.

    The commands that break one name no file, nor a folder of one, that another looks at. What reaches further than the
    names in it has a session of its own.
    """
    groups: list[list[int]] = []
    alone = {at for at, c in enumerate(checks) if _WIDE.search(" ".join(c.broken_by)) or _LOOKS_WIDE.search(c.test)}
    breaks = [_named(" ".join(check.broken_by)) for check in checks]
    looks = [_named(check.test) for check in checks]
    for at in range(len(checks)):
        fitting = (
            group
            for group in groups
            if not alone & {at, *group}
            and not any(_meet(breaks[at], looks[x]) or _meet(breaks[x], looks[at]) for x in group)
        )
        group = next(fitting, None)
        if group is None:
            groups.append([at])
        else:
            group.append(at)
    return groups


def _named(text: str) -> set[str]:
    """Return the words of a command that may name files."""
    words = {word.removeprefix("./") for word in re.findall(r"[\w./-]+", text)}
    return {word for word in words if not word.startswith("-")} - _SHELL


def _meet(breaks: set[str], looks: set[str]) -> bool:
    """Say whether a name is in both, or a folder in one of what is in the other."""
    return any(a == b or a.startswith(f"{b}/") or b.startswith(f"{a}/") for a in breaks for b in looks)


def broken(world: World, places: Sequence[int]) -> dict[int, str]:
    """Break constraints over the reference solution; return what is wrong with the verdict on each.

    Nothing is wrong where its check fails. A constraint that the session's user has no right to break, which the
    status of the last command tells, is ``out of reach``.
    """
    trouble = ""
    for _ in range(ATTEMPTS):
        try:
            with open_world(world.scenario, "bwrap") as opened:
                for command in (*world.into, *world.scenario.reference_solution):
                    opened.run(command)
                status = {at: [opened.run(c).status for c in world.checks[at].broken_by][-1:] for at in places}
                verdict = opened.check()
        except InfrastructureError as error:
            trouble = str(error)
            continue
        found = {at: verdict.checks[at] if len(verdict.checks) == len(world.checks) else None for at in places}
        holds = {
            at: f"{world.checks[at]}: {verdict.detail}" for at, check in found.items() if check is None or check.passed
        }
        return {at: OUT_OF_REACH if status[at] != [0] else text for at, text in holds.items()}
    return dict.fromkeys(places, f"infrastructure: {trouble}")


def all_broken(world: World) -> dict[int, str]:
    """Break every constraint of a world once; what does not fail beside others is tried alone."""
    found: dict[int, str] = {}
    for group in apart(world.checks):
        wrong = broken(world, group)
        found |= wrong if len(group) == 1 else {at: text for w in wrong for at, text in broken(world, [w]).items()}
    return found


def tried(world: World) -> dict[str, Any]:
    """Return what one world's verdicts came to: the findings of each kind, none where all is right."""
    scenario = world.scenario
    gate = ""
    for _ in range(ATTEMPTS):
        try:
            gate = judge(scenario, "bwrap", near_misses=True)
            break
        except InfrastructureError as error:
            gate = f"infrastructure: {error}"
    breaks = all_broken(world)
    others, nothing = [], []
    for commands in other_sessions(world):
        played = run_session(scenario, ScriptedOperator(commands), "bwrap", max_turns=len(commands))
        if not played.keep:
            others.append(f"{played.outcome}: {commands}: {played.meta.get('detail') or played.meta.get('reason')}")
    for name, commands in NOTHING.items():
        played = run_session(scenario, ScriptedOperator(commands), "bwrap")
        if played.verified or played.keep or played.outcome in ("infrastructure", "bad_bundle"):
            nothing.append(f"{name}: {played.outcome}")
    return {
        "number": world.number,
        "id": scenario.id,
        "gate": gate,
        "constraints": len(world.checks),
        "unbroken": [text for text in breaks.values() if text != OUT_OF_REACH],
        "out_of_reach": [world.checks[at].says for at, text in breaks.items() if text == OUT_OF_REACH],
        "others": ANSWERS,
        "refused": others,
        "nothing": nothing,
    }


def totals(lines: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Add up the lines of a log."""
    return {
        "worlds": len(lines),
        "gate_passed": sum(not x["gate"] for x in lines),
        "constraints": sum(x["constraints"] for x in lines),
        "constraints_out_of_reach": sum(len(x["out_of_reach"]) for x in lines),
        "constraints_not_failing": sum(len(x["unbroken"]) for x in lines),
        "other_answers": sum(x["others"] for x in lines),
        "other_answers_refused": sum(len(x["refused"]) for x in lines),
        "doing_nothing": len(NOTHING) * len(lines),
        "doing_nothing_earned": sum(len(x["nothing"]) for x in lines),
    }


def run(chosen: Sequence[World], log: Path, jobs: int) -> dict[str, int]:
    """Try every world that a log lacks, and return the log's totals."""
    known = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    names = {x["id"] for x in known}
    with log.open("a") as out:

        def keep(line: dict[str, Any]) -> None:
            known.append(line)
            out.write(json.dumps(line) + "\n")
            out.flush()

        each(jobs, [w for w in chosen if w.scenario.id not in names], tried, keep)
    return totals(known)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; return 1 where a verdict was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--n", type=int, default=2000, help="number of worlds (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the worlds (default: %(default)s)")
    parser.add_argument("--split", default="train", choices=["train", "holdout"], help="of the worlds (default: train)")
    parser.add_argument("--first", type=int, default=0, help="leave out the worlds before this one")
    parser.add_argument("--only", default="", help="comma-separated numbers of worlds")
    parser.add_argument("--log", type=Path, required=True, help="file that each world's findings are appended to")
    parser.add_argument("--jobs", type=int, default=4, help="worlds side by side (default: %(default)s)")
    chosen = parser.parse_args(argv)
    made = list(islice(worlds(chosen.n, chosen.seed, chosen.split), chosen.first, None))
    if chosen.only:
        wanted = {int(x) for x in chosen.only.split(",")}
        made = [w for w in made if w.number in wanted]
    found = run(made, chosen.log, chosen.jobs)
    print(json.dumps(found))
    wrong = ("constraints_not_failing", "other_answers_refused", "doing_nothing_earned")
    return int(found["gate_passed"] < found["worlds"] or any(found[key] for key in wrong))


if __name__ == "__main__":
    raise SystemExit(main())
