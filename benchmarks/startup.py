"""Time `--help` of every console script, beside a bare interpreter.

    python benchmarks/startup.py [--runs 7]

The last line of stdout is one JSON object: seconds (median) per script, and `python`, the bare interpreter.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time

SCRIPTS = ("sekft-train", "sekft-eval", "sekft-resident", "posix-sdc")


def seconds(command: list[str]) -> float:
    """Return the wall time of one run of a command."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> int:
    """Interleave the commands, so that a stall of the machine hits all of them alike."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="counted runs of each command (default: %(default)s)")
    runs = parser.parse_args().runs
    commands: dict[str, list[str]] = {"python": [sys.executable, "-c", "pass"]}
    for name in SCRIPTS:
        path = shutil.which(name)
        if path is None:
            sys.exit(f"startup.py: {name} is not on PATH. Install both distributions first (see README).")
        commands[name] = [path, "--help"]
    for command in commands.values():
        seconds(command)
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            times[name].append(seconds(command))
    medians = {name: round(statistics.median(values), 3) for name, values in times.items()}
    for name, value in medians.items():
        print(f"{name:15} {value:.3f} s")
    print(json.dumps(medians))
    return 0


if __name__ == "__main__":
    sys.exit(main())
