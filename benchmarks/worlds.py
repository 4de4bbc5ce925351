"""What worlds cost: start, command, close and worlds per minute, beside the naive way.

The naive way is what one writes first: `docker run -d` for a world, one `docker exec` for each command, `docker rm -f`.
It is measured with Docker's own command-line client. A world's cost (`bwrap_world_speedup`) is that of its start, of a
session of four commands and of its close; `bwrap_empty_world_speedup` leaves the commands out.
Prints one JSON object as its last line of stdout.

    python benchmarks/worlds.py [--worlds 8] [--commands 20]
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from tiararodney.posix_sdc.records.schema import Scenario
from tiararodney.posix_sdc.sessions.loop import ahead_of, run_session
from tiararodney.posix_sdc.sessions.operators.reference import ScriptedOperator
from tiararodney.posix_sdc.worlds.docker.engine import IMAGE
from tiararodney.posix_sdc.worlds.protocol import Limits, _start, _unusable

SCENARIO = Scenario.from_json(
    {
        "id": "benchmark",
        "archetype": "benchmark",
        "terminal": "exit",
        "provider": {"name": "board"},
        "announcement": {"kind": "motd", "text": "hello"},
        "fixtures": [{"path": f"/work/{i}.txt", "content": "line\n" * 100} for i in range(10)],
        "checker": "test -e done",
    }
)
COMMAND = "ls -l > /dev/null"
SESSION = ("ls", "cat 1.txt", "touch done", "exit")


def median_ms(seconds: list[float]) -> float:
    """Return the median in milliseconds."""
    return round(1000 * statistics.median(seconds), 3)


def timed(action: Any, *args: Any) -> tuple[float, Any]:
    """Return how long a call took, in seconds, and what it gave."""
    start = time.perf_counter()
    value = action(*args)
    return time.perf_counter() - start, value


def ours(runtime: str, worlds: int, commands: int, jobs: int) -> dict[str, float]:
    """Time worlds one after the other, then whole sessions one and `jobs` at a time, the next worlds open meanwhile."""
    start, command, close = [], [], []
    _start(runtime, SCENARIO, Limits()).close()  # what is loaded once is no world's cost
    for _ in range(worlds):
        seconds, world = timed(_start, runtime, SCENARIO, Limits())
        start.append(seconds)
        world.run(":")
        command += [timed(world.run, COMMAND)[0] for _ in range(commands)]
        close.append(timed(world.close)[0])

    one, many = sessions_per_minute(runtime, worlds, 1), sessions_per_minute(runtime, 2 * worlds, jobs)
    return {
        "start_ms": median_ms(start),
        "command_ms": median_ms(command),
        "close_ms": median_ms(close),
        "worlds_per_min": round(many, 1),
        "worlds_per_min_one_job": round(one, 1),
        "scaling": round(many / one, 2),
    }


def sessions_per_minute(runtime: str, n: int, jobs: int) -> float:
    """Play whole sessions, `jobs` at a time, as `posix-sdc rollout` does."""
    scenarios = [replace(SCENARIO, id=str(i)) for i in range(n)]
    with ahead_of(scenarios, runtime, None, jobs) as ahead:

        def session(scenario: Scenario) -> None:
            operator = ScriptedOperator(SESSION)
            played = run_session(scenario, operator, runtime, ahead=ahead)
            assert played.outcome == "success", played.meta

        with ThreadPoolExecutor(jobs) as pool:
            seconds, _ = timed(lambda: list(pool.map(session, scenarios)))
    return 60 * n / seconds


def naive(worlds: int, commands: int) -> dict[str, float]:
    """Time `docker run`, `docker exec` for each command and `docker rm -f`."""

    def docker(*args: str) -> str:
        done = subprocess.run(["docker", *args], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    start, command, close = [], [], []
    for _ in range(worlds):
        seconds, name = timed(docker, "run", "-d", "--network", "none", IMAGE, "sleep", "1000")
        start.append(seconds)
        command += [timed(docker, "exec", name, "sh", "-c", COMMAND)[0] for _ in range(commands)]
        close.append(timed(docker, "rm", "-f", name)[0])
    return {"start_ms": median_ms(start), "command_ms": median_ms(command), "close_ms": median_ms(close)}


def world_ms(found: dict[str, float], commands: int = len(SESSION)) -> float:
    """Return what a world costs from start to close, with the commands of a short session."""
    return found["start_ms"] + commands * found["command_ms"] + found["close_ms"]


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=8, help="worlds for each measurement (default 8)")
    parser.add_argument("--commands", type=int, default=20, help="commands in each world (default 20)")
    parser.add_argument("--jobs", type=int, default=2, help="worlds at a time for the rate (default 2)")
    args = parser.parse_args(argv)
    report: dict[str, Any] = dict.fromkeys(
        (
            "docker_command_speedup",
            "bwrap_world_speedup",
            "docker_command_ms",
            "bwrap_command_ms",
            "worlds_per_min_docker",
            "worlds_per_min_bwrap",
        )
    )
    for runtime in ("bwrap", "docker"):
        reason = _unusable(runtime)
        if reason is not None:
            print(f"{runtime}: {reason}", file=sys.stderr)
            continue
        found = ours(runtime, args.worlds, args.commands, args.jobs)
        print(runtime, found, file=sys.stderr)
        report[f"{runtime}_command_ms"] = found["command_ms"]
        report[f"worlds_per_min_{runtime}"] = found["worlds_per_min"]
        report[runtime] = found
    if "docker" in report and shutil.which("docker"):
        plain = naive(max(args.worlds // 2, 2), max(args.commands // 4, 2))
        print("naive", plain, file=sys.stderr)
        report["naive"] = plain
        report["docker_command_speedup"] = round(plain["command_ms"] / report["docker"]["command_ms"], 1)
        if "bwrap" in report:
            report["bwrap_world_speedup"] = round(world_ms(plain) / world_ms(report["bwrap"]), 1)
            report["bwrap_empty_world_speedup"] = round(world_ms(plain, 0) / world_ms(report["bwrap"], 0), 1)
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
