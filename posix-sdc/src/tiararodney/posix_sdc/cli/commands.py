"""What each command of ``posix-sdc`` does with its arguments. Returns exit codes; results go to stdout."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc.cli.progress import Progress
from tiararodney.posix_sdc.errors import InfrastructureError, UsageError

if TYPE_CHECKING:
    import argparse

    from tiararodney.posix_sdc.factory.teacher.assignment import Assignment
    from tiararodney.posix_sdc.records.schema import Scenario, Trajectory
    from tiararodney.posix_sdc.sessions.loop import OperatorFactory
    from tiararodney.posix_sdc.support.chat_completions import Endpoint

_DONE, _FAILED = 0, 1
_SPOILT = "infrastructure"  # the outcome of a session that the runtime or the endpoint failed
_HOPELESS = 8  # stop if the first 8 all hit infrastructure errors
_WAITING = 8  # jobs that wait for a model use no processor here


def generate(a: argparse.Namespace) -> int:
    """Write scenario bundles: scripted ones, or a teacher's."""
    from tiararodney.posix_sdc.factory.bundles import dumps
    from tiararodney.posix_sdc.factory.bundles import generate as scripted
    from tiararodney.posix_sdc.records.store import output_folder
    from tiararodney.posix_sdc.support.whole import write_text

    names = [name.strip() for name in a.archetypes.split(",") if name.strip()]
    if a.teacher:
        return _teach(a, names)
    scenarios = scripted(a.n, a.seed, a.split, names, a.course, a.commands, a.held_out)
    folder = output_folder(a.out)
    progress, written = Progress("generate", a.n), 0
    others = {p.stem for p in folder.glob("*.json")}
    strays = sorted(name for name in others if not re.match(rf"{a.split}-{a.seed}-\d+-", name))
    made = {"-".join(name.split("-")[:3]): name for name in sorted(others - {*strays})}
    for scenario in scenarios:
        stray = made.get("-".join(scenario.id.split("-")[:3]), scenario.id)
        if strays or stray != scenario.id:
            raise UsageError(
                f"--out {folder}: found {(strays or [stray])[0]}.json of another run, expected an empty folder or one "
                "that was written with the same flags. Choose another folder."
            )
        path = folder / f"{scenario.id}.json"
        # What an earlier run made stays, with what the gate has found of it.
        if not _made(path, scenario):
            write_text(path, dumps(scenario))
            written += 1
        progress.step()
    before = f", {a.n - written} of them made before" if written < a.n else ""
    print(f"{a.n} scenarios in {folder}{before}")
    return _DONE


def _made(path: Path, scenario: Scenario) -> bool:
    """Return whether a file holds this very scenario, quarantined or not."""
    from tiararodney.posix_sdc.records.schema import Scenario, quarantined

    try:
        return quarantined(Scenario.from_json(_json(path), str(path)), "") == scenario
    except (OSError, ValueError, UsageError):
        return False


def _teach(a: argparse.Namespace, names: list[str]) -> int:
    from tiararodney.posix_sdc.factory.bundles import archetypes_named
    from tiararodney.posix_sdc.factory.teacher.assignment import assignments
    from tiararodney.posix_sdc.factory.teacher.author import REJECTED, Known, author
    from tiararodney.posix_sdc.records.schema import load_scenarios
    from tiararodney.posix_sdc.records.store import count_by, file_name, finished, output_folder, write_record
    from tiararodney.posix_sdc.support.parallel import each
    from tiararodney.posix_sdc.worlds.protocol import abort_worlds

    endpoint = _endpoint("--teacher", a.teacher, a.model, temperature=0.8, max_tokens=8192, timeout=600.0)
    wanted = list(assignments(a.n, a.seed, a.split, archetypes_named(a.split, names)))
    runtime = _runtime(a.runtime)
    folder = output_folder(a.out)
    rejected = output_folder(folder / REJECTED)
    known, done = Known(), finished(folder)
    for scenario in load_scenarios(folder) if done else ():
        known.add(scenario)
    todo = [w for w in wanted if file_name(w.id) not in done]
    progress = Progress("generate", len(todo))

    def one(assignment: Assignment) -> Scenario | None:
        return author(assignment, endpoint, runtime, a.attempts, known, rejected)

    def keep(scenario: Scenario | None) -> None:
        if scenario is not None:
            write_record(folder / file_name(scenario.id), scenario)
        progress.step("given up" if scenario is None else "made")

    _told_before(len(wanted) - len(todo), "scenario")
    each(a.jobs or _WAITING, todo, one, keep, abort_worlds)
    kinds = count_by((_json(p)["kind"] for p in rejected.glob("*.json")), str)
    refused = ", ".join(f"{kind} {n}" for kind, n in kinds.items())
    made, given_up = len(wanted) - progress.outcomes["given up"], progress.outcomes["given up"]
    print(f"{made} of {len(wanted)} scenarios in {folder}, {given_up} given up; refused replies: {refused or 'none'}")
    return _FAILED if given_up else _DONE


def import_tasks(a: argparse.Namespace) -> int:
    """Make scenarios of a benchmark's tasks; those left out are printed with their reasons."""
    from tiararodney.posix_sdc.factory.intercode_alfa.bundle import name_of
    from tiararodney.posix_sdc.factory.intercode_alfa.package import read_package
    from tiararodney.posix_sdc.factory.intercode_alfa.run import Import
    from tiararodney.posix_sdc.factory.intercode_alfa.run import import_tasks as make
    from tiararodney.posix_sdc.records.store import count_by, file_name, output_folder, write_record

    package = read_package()
    runtimes = [_runtime(name) for name in (("bwrap", "docker") if a.runtime == "both" else (a.runtime,))]
    folder = output_folder(a.out)
    names = {file_name(name_of(task, a.form)) for task in package.tasks}
    if strays := sorted(p.name for p in folder.glob("*.json") if p.name not in names):
        raise UsageError(f"--out {folder}: found {strays[0]}, expected an empty folder or an earlier import's.")
    progress = Progress("import", len(package.tasks))

    def keep(scenario: Scenario) -> None:
        write_record(folder / file_name(scenario.id), scenario)

    plan = Import(package, a.form, a.split, runtimes, a.jobs or _processors())
    left_out = make(plan, keep, progress.step)
    for left in left_out:
        name = name_of(left.task, a.form)
        (folder / file_name(name)).unlink(missing_ok=True)
        print(f"{name}: {left.reason}" + (f" ({left.detail})" if left.detail else ""))
    for reason, n in count_by((left.reason for left in left_out), str).items():
        print(f"left out {n}: {reason}")
    made, n = len(package.tasks) - len(left_out), len(package.tasks)
    print(f"{made} of {n} tasks in {folder} ({a.form}, {' and '.join(runtimes)}; icalfa {package.version})")
    return _DONE


def gate(a: argparse.Namespace) -> int:
    """Judge every bundle, and write down of each what was found."""
    from tiararodney.posix_sdc.factory.taxonomy import misplaced
    from tiararodney.posix_sdc.records.schema import load_scenarios, quarantined
    from tiararodney.posix_sdc.records.store import output_folder, sources, write_record
    from tiararodney.posix_sdc.sessions.gate import judge
    from tiararodney.posix_sdc.sessions.gate_ledger import Judged
    from tiararodney.posix_sdc.support.parallel import each
    from tiararodney.posix_sdc.worlds.protocol import abort_worlds

    scenarios = load_scenarios(a.scenarios)
    files = {s.id: Path(source) for s, source in zip(scenarios, sources(a.scenarios), strict=True)}
    for file in files.values():
        if file.suffix != ".json":
            raise UsageError(f"{file}: expected one scenario in a *.json, which the gate writes its finding to.")
    runtime = _runtime(a.runtime)
    folder = a.scenarios if a.scenarios.is_dir() else a.scenarios.parent
    output_folder(folder)
    with Judged(folder, f"{runtime} near-misses={a.near_misses}") as judged:
        before = {} if a.again else {i: found for i, f in files.items() if (found := judged.before(f)) is not None}
        failed = {i: reason for i, reason in before.items() if reason}
        todo = [s for s in scenarios if s.id not in before]
        _told_before(len(before), "bundle judged before (--again judges it anew)")
        progress = Progress("gate", len(todo))

        def one(scenario: Scenario) -> tuple[Scenario, str, str]:
            try:
                return scenario, misplaced(scenario) or judge(scenario, runtime, near_misses=a.near_misses), ""
            except InfrastructureError as fault:
                return scenario, "", str(fault)

        def keep(finding: tuple[Scenario, str, str]) -> None:
            scenario, reason, fault = finding
            if fault:  # nothing is known of it: the next run judges it again
                _spoilt(scenario.id, fault, progress)
                return
            if reason:
                failed[scenario.id] = reason
            if reason != scenario.quarantine:
                write_record(files[scenario.id], quarantined(scenario, reason))
            judged.add(files[scenario.id], reason)
            progress.step("failed" if reason else "passed")

        each(a.jobs or _processors(), todo, one, keep, abort_worlds)
    for name, reason in sorted(failed.items()):
        print(f"{name}: {reason}")
    spoilt = progress.outcomes[_SPOILT]
    unjudged = f"; {spoilt} could not be judged" if spoilt else ""
    passed = len(scenarios) - len(failed) - spoilt
    print(f"{passed} of {len(scenarios)} scenarios pass the gate ({runtime}{unjudged})")
    return _FAILED if failed or spoilt else _DONE


def rollout(a: argparse.Namespace) -> int:
    """Let an operator act in every scenario that has no session of it yet."""
    from tiararodney.posix_sdc.records.schema import load_scenarios
    from tiararodney.posix_sdc.records.store import count_by, file_name, finished, output_folder, write_record
    from tiararodney.posix_sdc.sessions.loop import name_of, session_id
    from tiararodney.posix_sdc.sessions.many import play

    factory = _operator_factory(a)
    scenarios = [s for s in load_scenarios(a.scenarios) if not s.quarantine]
    name = name_of(factory(scenarios[0], 0)) if scenarios else ""
    runtime = _runtime(a.runtime)
    folder = output_folder(a.out)
    before = finished(folder)

    jobs = [(s, k) for s in scenarios for k in range(a.samples)]
    todo = [(s, k) for s, k in jobs if file_name(session_id(s, name, k)) not in before]
    _told_before(len(jobs) - len(todo), f"session of {name}")
    outcomes: list[str] = []
    progress = Progress("rollout", len(todo))

    def keep(session: Trajectory) -> None:
        outcomes.append(session.outcome)
        if session.outcome == _SPOILT:  # it is not finished: the next run plays it again
            _spoilt(session.id, str(session.meta.get("reason")), progress)
            return
        if session.outcome == "bad_bundle":
            print(f"posix-sdc: {session.scenario_id}: {session.meta.get('reason')}", file=sys.stderr)
        write_record(folder / file_name(session.id), session)
        progress.step(session.outcome)

    width = a.jobs or (_processors() if a.operator == "reference" else _WAITING)
    play(todo, factory, keep, runtime, max_turns=a.max_turns, width=width)
    kept = outcomes.count("success")
    counts = ", ".join(f"{name} {n}" for name, n in count_by(outcomes, str).items())
    print(f"{kept} of {len(outcomes)} new sessions kept in {folder} ({runtime}" + (f"; {counts})" if counts else ")"))
    return _FAILED if _SPOILT in outcomes else _DONE


def image(a: argparse.Namespace) -> int:
    """Build the world image."""
    import logging

    from tiararodney.posix_sdc.worlds.docker import engine
    from tiararodney.posix_sdc.worlds.docker.image import build

    if a.if_engine:
        reason = engine.unusable()
        if reason is None:
            print(f"the image {engine.IMAGE} is there already")
            return _DONE
        try:
            engine.connect().close()
        except InfrastructureError as error:
            print(f"no image is needed: {error}; worlds are bwrap sandboxes")
            return _DONE
    logging.basicConfig(stream=sys.stderr, format="posix-sdc: %(message)s", level=logging.INFO)
    print(build(a.method, mirror=a.mirror))
    return _DONE


def show(a: argparse.Namespace) -> int:
    """Print sessions as transcripts, scenarios as pages."""
    from tiararodney.posix_sdc.records.files import BOTH, records
    from tiararodney.posix_sdc.records.schema import Scenario, Trajectory, is_session
    from tiararodney.posix_sdc.records.show import page, transcript

    for n, (source, data) in enumerate(records(a.file, BOTH)):
        if n == a.n:
            break
        if is_session(data):
            print(transcript(Trajectory.from_json(data, source), colour=sys.stdout.isatty()))
        else:
            print(page(Scenario.from_json(data, source)))
    return _DONE


def stats(a: argparse.Namespace) -> int:
    """Count what a folder holds."""
    from tiararodney.posix_sdc.records.stats import as_json, statistics, table

    parts = statistics(a.folder)
    print(as_json(parts) if a.json else table(parts))
    return _DONE


def export(a: argparse.Namespace) -> int:
    """Export scenarios or trajectories."""
    from tiararodney.posix_sdc.records.export import Export
    from tiararodney.posix_sdc.records.export import export as write

    if a.harbor:
        return _export_harbor(a)
    if not a.out:
        raise UsageError("found neither --out nor --harbor, expected where to write to.")
    counts = write(Export(a.out, a.scenarios, a.trajectories, everything=a.all, hub=a.hub, chat=a.chat))
    left_out = counts.pop("left_out")
    written = " and ".join(f"{n} {kind}" for kind, n in counts.items() if n)
    print(f"{written} written to {a.out}, {left_out} left out")
    return _DONE


def _export_harbor(a: argparse.Namespace) -> int:
    from tiararodney.posix_sdc.sessions.harbor import export_tasks

    if not a.scenarios or a.trajectories or a.out or a.hub or a.chat:
        raise UsageError("--harbor DIR needs --scenarios, and neither --trajectories, --out, --hub nor --chat.")
    counts = export_tasks(a.scenarios, a.harbor, everything=a.all)
    print(f"{counts['tasks']} tasks written to {a.harbor}, {counts['left_out']} left out")
    return _DONE


# ------------------------------------------------------------------------------------------------- what they share


def _runtime(name: str) -> str:
    from tiararodney.posix_sdc.worlds.protocol import resolve_runtime

    runtime = resolve_runtime(name)
    if name == "auto":
        print(f"posix-sdc: runtime {runtime}", file=sys.stderr)
    return runtime


def _operator_factory(a: argparse.Namespace) -> OperatorFactory:
    """Return what makes the operator of a scenario and a sample."""
    from tiararodney.posix_sdc.support.chat_completions import is_url

    if not is_url(a.operator):
        for flag, value in (("--temperature", a.temperature), ("--max-new-tokens", a.max_new_tokens)):
            if value is not None:
                raise UsageError(f"{flag} is for a model behind an endpoint; found --operator {a.operator}.")
    if a.operator == "reference":
        from tiararodney.posix_sdc.sessions.operators.reference import ReferenceOperator

        return lambda scenario, sample: ReferenceOperator(scenario, a.seed, sample)
    if not is_url(a.operator):
        from tiararodney.posix_sdc.sessions.operators.custom import custom_operator

        make = custom_operator(a.operator)
        return lambda scenario, _: make(scenario)
    from tiararodney.posix_sdc.sessions.operators.endpoint import EndpointOperator

    settings = {"temperature": a.temperature or 0.0}
    if a.max_new_tokens is not None:
        settings["max_tokens"] = a.max_new_tokens
    if a.samples > 1 and not a.temperature:
        raise UsageError(f"--samples {a.samples} at temperature 0 repeats one session: add --temperature 0.7, say.")
    operator = EndpointOperator(_endpoint("--operator", a.operator, a.model, **settings))
    return lambda *_: operator


def _endpoint(flag: str, url: str, model: str | None, **settings: Any) -> Endpoint:
    from tiararodney.posix_sdc.support.chat_completions import Endpoint, is_url

    if not is_url(url):
        raise UsageError(f"{flag}: found {url!r}, expected the URL of a chat-completions endpoint.")
    if not model:
        raise UsageError(f"{flag} URL needs --model NAME: the name under which the endpoint serves the model.")
    return Endpoint(url, model, flags=f"{flag}, --model", **settings)


def _spoilt(name: str, fault: str, progress: Progress) -> None:
    """Tell of one that a fault of ours has spoilt, and give up where that is all there is."""
    print(f"posix-sdc: {name}: {fault}", file=sys.stderr)
    progress.step(_SPOILT)
    if progress.done >= _HOPELESS and progress.outcomes[_SPOILT] == progress.done:
        raise InfrastructureError(
            f"the first {progress.done} sessions failed because of the runtime or endpoint; stopping."
        )


def _processors() -> int:
    return len(os.sched_getaffinity(0))


def _told_before(n: int, what: str) -> None:
    if n:
        noun, _, rest = what.partition(" ")
        print(f"posix-sdc: already on disk: {n} {noun}{'s' * (n > 1)} {rest}".rstrip(), file=sys.stderr)


def _json(path: Path) -> dict[str, Any]:
    import json

    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
