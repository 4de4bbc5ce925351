"""The command ``posix-sdc``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc.errors import InfrastructureError, PosixSdcError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tiararodney.posix_sdc.schema import Scenario, Trajectory

_DONE, _FAILED, _USAGE, _INTERRUPTED = 0, 1, 2, 130
_HOPELESS = 8  # so many sessions that all failed through a fault of ours end a rollout


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; stdout carries results, stderr messages and progress.

    Returns:
        0 done, 1 the run failed, 2 bad usage or input, 130 interrupted.
    """
    parser = _parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except UsageError as error:
        print(f"posix-sdc: {error}", file=sys.stderr)
        return _USAGE
    except PosixSdcError as error:
        print(f"posix-sdc: {error}", file=sys.stderr)
        return _FAILED
    except BrokenPipeError:
        # The reader of stdout went away (`| head`): nothing more to say, and no noise at shutdown.
        sys.stderr.close()
        return _DONE
    except KeyboardInterrupt:
        print(
            "posix-sdc: interrupted; what is finished is on disk, the same command goes on from there", file=sys.stderr
        )
        return _INTERRUPTED


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number of at least 1")
    return value


def _parser() -> argparse.ArgumentParser:
    show = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(
        prog="posix-sdc", description="Scenarios, worlds and recorded sessions for models that operate a POSIX shell."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int], what: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=what, description=what, formatter_class=show)
        sub.set_defaults(command=run)
        return sub

    def worlds(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--runtime", choices=("auto", "docker", "bwrap"), default="auto", help="what worlds are made with"
        )
        sub.add_argument("--jobs", type=_positive, default=2, help="worlds at a time")

    sub = add("generate", _generate, "write scenario bundles, the same bytes for the same seed")
    sub.add_argument("--n", type=_positive, required=True, help="how many")
    sub.add_argument("--seed", type=int, default=0, help="of everything")
    sub.add_argument("--out", type=Path, required=True, help="folder, one *.json a scenario")
    sub.add_argument("--split", choices=("train", "holdout"), default="train", help="which archetypes")
    sub.add_argument(
        "--archetypes", default="", help="only these, separated by commas, evenly (default: all of the split)"
    )

    sub = add("gate", _gate, "play every bundle's reference solution and quarantine those whose checker is wrong")
    sub.add_argument(
        "--scenarios", type=Path, required=True, help="folder of bundles; a failing one is rewritten with its reason"
    )
    sub.add_argument("--near-misses", action="store_true", help="also play the near misses that bundles name")
    worlds(sub)

    sub = add("rollout", _rollout, "let an operator act in every scenario and record the sessions")
    sub.add_argument("--scenarios", type=Path, required=True, help="folder of bundles")
    sub.add_argument(
        "--out", type=Path, required=True, help="folder, one *.json a session; sessions it holds already are skipped"
    )
    sub.add_argument("--operator", default="reference", help="'reference', or the URL of a chat-completions endpoint")
    sub.add_argument("--model", default="", help="the endpoint's model")
    sub.add_argument("--seed", type=int, default=0, help="of the reference operator's variety")
    sub.add_argument("--max-turns", type=_positive, default=30, help="commands after which a session is stopped")
    worlds(sub)

    sub = add("image", _image, "build the image that Docker worlds are made of")
    sub.add_argument(
        "--if-engine", action="store_true", help="do nothing where no engine answers or the image is there"
    )
    sub.add_argument(
        "--method", choices=("auto", "dockerfile", "debootstrap"), default="auto", help="what it comes from"
    )
    sub.add_argument("--mirror", default="", help="Debian mirror for debootstrap (default: this machine's own)")

    sub = add("show", _show, "print sessions as terminal transcripts, scenarios as pages")
    sub.add_argument("file", type=Path, help="a trajectory or a scenario, *.json or *.jsonl, or a folder")
    sub.add_argument("--n", type=_positive, default=None, help="at most so many")

    sub = add("stats", _stats, "count what a folder holds")
    sub.add_argument("folder", type=Path, help="of scenarios or trajectories")
    sub.add_argument("--json", action="store_true", help="one line of JSON instead of a table")

    sub = add("export", _export, "write scenarios or kept sessions as .jsonl, parquet or a data set folder")
    sub.add_argument("--trajectories", type=Path, help="folder of sessions")
    sub.add_argument("--scenarios", type=Path, help="folder of bundles")
    sub.add_argument(
        "--out", type=Path, required=True, help="a file *.jsonl or *.parquet, or a folder for one .jsonl a split"
    )
    sub.add_argument(
        "--hub", action="store_true", help="make --out a Hugging Face data set folder: parquet inside and a card"
    )
    sub.add_argument("--all", action="store_true", help="rejected sessions and quarantined bundles too")
    return parser


class _Progress:
    """A line on stderr: rewritten on a terminal, every ten per cent elsewhere."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total, self.started, self.done = what, total, time.monotonic(), 0

    def step(self) -> None:
        """One more is done."""
        self.done += 1
        done = self.done
        rate = done / max(time.monotonic() - self.started, 1e-9)
        line = f"{self.what} {done}/{self.total}, {rate:.1f} a second"
        if sys.stderr.isatty():
            print(f"\r{line}", end="\n" if done == self.total else "", file=sys.stderr, flush=True)
        elif done == self.total or done % max(1, self.total // 10) == 0:
            print(line, file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------------------------------- commands


def _generate(a: argparse.Namespace) -> int:
    from tiararodney.posix_sdc.generate import dumps, generate
    from tiararodney.posix_sdc.record import output_folder, write_text

    names = [name.strip() for name in a.archetypes.split(",") if name.strip()]
    scenarios = generate(a.n, a.seed, a.split, names)
    folder = output_folder(a.out)
    for scenario in scenarios:
        write_text(folder / f"{scenario.id}.json", dumps(scenario))
    print(f"{a.n} scenarios in {folder}")
    return _DONE


def _log_to_stderr() -> None:
    import logging

    logging.basicConfig(stream=sys.stderr, format="posix-sdc: %(message)s", level=logging.INFO)


def _runtime(name: str) -> str:
    from tiararodney.posix_sdc.world import resolve_runtime

    runtime = resolve_runtime(name)
    if name == "auto":
        print(f"posix-sdc: runtime {runtime}", file=sys.stderr)
    return runtime


def _gate(a: argparse.Namespace) -> int:
    from tiararodney.posix_sdc.gate import judge
    from tiararodney.posix_sdc.record import each, sources, write_record
    from tiararodney.posix_sdc.schema import load_scenarios, quarantined

    scenarios = load_scenarios(a.scenarios)
    files = {s.id: Path(source) for s, source in zip(scenarios, sources(a.scenarios), strict=True)}
    for file in files.values():
        if file.suffix != ".json":
            raise UsageError(f"{file}: expected one scenario in a *.json, which the gate writes its finding to.")
    runtime = _runtime(a.runtime)
    failed: list[str] = []
    progress = _Progress("gate", len(scenarios))

    def one(scenario: Scenario) -> tuple[Scenario, str]:
        return scenario, judge(scenario, runtime, near_misses=a.near_misses)

    def keep(finding: tuple[Scenario, str]) -> None:
        scenario, reason = finding
        if reason:
            failed.append(f"{scenario.id}: {reason}")
        if reason != scenario.quarantine:
            write_record(files[scenario.id], quarantined(scenario, reason))
        progress.step()

    each(a.jobs, scenarios, one, keep)
    for line in sorted(failed):
        print(line)
    print(f"{len(scenarios) - len(failed)} of {len(scenarios)} scenarios pass the gate ({runtime})")
    return _FAILED if failed else _DONE


def _operator_factory(a: argparse.Namespace) -> Callable[[Scenario], Any]:
    from tiararodney.posix_sdc.operators import ReferenceOperator

    if a.operator == "reference":
        return lambda scenario: ReferenceOperator(scenario, a.seed)
    if not a.operator.startswith(("http://", "https://")):
        raise UsageError(
            f"--operator: found {a.operator!r}, expected 'reference' or the URL of a chat-completions endpoint."
        )
    if not a.model:
        raise UsageError("--operator URL needs --model NAME: the name under which the endpoint serves the model.")
    from tiararodney.posix_sdc.endpoint import EndpointOperator

    return lambda _: EndpointOperator(a.operator, a.model)


def _rollout(a: argparse.Namespace) -> int:
    from tiararodney.posix_sdc.record import count_by, each, file_name, finished, output_folder, write_record
    from tiararodney.posix_sdc.rollout import run_session
    from tiararodney.posix_sdc.schema import load_scenarios

    scenarios = [s for s in load_scenarios(a.scenarios) if not s.quarantine]
    factory = _operator_factory(a)
    runtime = _runtime(a.runtime)
    folder = output_folder(a.out)
    done = finished(folder)
    todo = [s for s in scenarios if file_name(s.id) not in done]
    if len(todo) < len(scenarios):
        print(f"posix-sdc: {len(scenarios) - len(todo)} sessions are on disk already", file=sys.stderr)
    outcomes: list[str] = []
    progress = _Progress("rollout", len(todo))

    def one(scenario: Scenario) -> Trajectory:
        return run_session(scenario, factory(scenario), runtime, max_turns=a.max_turns)

    def keep(session: Trajectory) -> None:
        outcomes.append(session.outcome)
        if session.outcome != "infrastructure":
            write_record(folder / file_name(session.scenario_id), session)
        else:  # spoilt by a fault of ours it is not finished: the next run plays it again
            print(f"posix-sdc: {session.scenario_id}: {session.meta.get('reason')}", file=sys.stderr)
            if len(outcomes) >= _HOPELESS and set(outcomes) == {"infrastructure"}:
                raise InfrastructureError(
                    f"the first {len(outcomes)} sessions all failed through faults of ours: giving up."
                )
        progress.step()

    each(a.jobs, todo, one, keep)
    kept = outcomes.count("success")
    counts = ", ".join(f"{name} {n}" for name, n in count_by(outcomes, str).items())
    print(f"{kept} of {len(outcomes)} new sessions kept in {folder} ({runtime}" + (f"; {counts})" if counts else ")"))
    return _FAILED if "infrastructure" in outcomes else _DONE


def _image(a: argparse.Namespace) -> int:
    from tiararodney.posix_sdc import dashdocker
    from tiararodney.posix_sdc.image import IMAGE, build

    if a.if_engine:
        reason = dashdocker.unusable()
        if reason is None:
            print(f"the image {IMAGE} is there already")
            return _DONE
        try:
            dashdocker.connect().close()
        except InfrastructureError as error:
            print(f"no image is needed: {error}; worlds are bwrap sandboxes")
            return _DONE
    _log_to_stderr()
    print(build(a.method, mirror=a.mirror))
    return _DONE


def _show(a: argparse.Namespace) -> int:
    from tiararodney.posix_sdc.files import BOTH, records
    from tiararodney.posix_sdc.schema import Scenario, Trajectory, is_session
    from tiararodney.posix_sdc.show import page, transcript

    for n, (source, data) in enumerate(records(a.file, BOTH)):
        if n == a.n:
            break
        if is_session(data):
            print(transcript(Trajectory.from_json(data, source), colour=sys.stdout.isatty()))
        else:
            print(page(Scenario.from_json(data, source)))
    return _DONE


def _stats(a: argparse.Namespace) -> int:
    from tiararodney.posix_sdc.stats import as_json, statistics, table

    parts = statistics(a.folder)
    print(as_json(parts) if a.json else table(parts))
    return _DONE


def _export(a: argparse.Namespace) -> int:
    from tiararodney.posix_sdc.export import Export, export

    counts = export(Export(a.out, a.scenarios, a.trajectories, everything=a.all, hub=a.hub))
    left_out = counts.pop("left_out")
    written = " and ".join(f"{n} {kind}" for kind, n in counts.items() if n)
    print(f"{written} written to {a.out}, {left_out} left out")
    return _DONE
