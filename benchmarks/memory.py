"""Benchmark: the peak memory of reading and of inspecting sessions, as their number grows.

    python benchmarks/memory.py --base BASE [--sessions 10000 100000]

Sessions of two commands, all different, each of its own scenario, in one `.jsonl` file. `read` iterates over them as
training and inspection do, and keeps none; `inspect` is `sekft-train --inspect --json`. Each runs in its own process;
its peak resident set size is reported.

The last line of stdout is one JSON object: `read_mb_N` and `inspect_mb_N` for each number of sessions,
`read_bytes_per_session` and `inspect_bytes_per_session` (the growth from the smallest number of sessions to the
largest, per session), and `inspect_seconds_N`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_READ = """import sys
from tiararodney.sekft.trajectories import Sessions
print(sum(1 for _ in Sessions(sys.argv[1])))
"""
_INSPECT = "import sys; from tiararodney.sekft.sft.cli import main; sys.exit(main(sys.argv[1:]))"
_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes in the unit of ru_maxrss


def write_sessions(path: Path, count: int) -> None:
    """Write `count` sessions."""
    with path.open("w", encoding="utf-8") as file:
        for n in range(count):
            turns = [("system", "A terminal."), ("user", "You have mail.\n$ "), ("assistant", f"cat note-{n}")]
            turns += [("user", f"Write {n} to out.\n$ "), ("assistant", f"echo {n} > out"), ("user", "$ ")]
            turns += [("assistant", "exit")]
            record = {
                "id": f"session-{n:06}",
                "scenario_id": f"scenario-{n:06}",
                "version": "1",
                "archetype": f"kind-{n % 50}",
                "terminal": "exit",
                "split": "train",
                "verified": True,
                "outcome": "exit",
                "operator_model": "reference",
                "keep": True,
                "steps": 3,
                "meta": {"clean": True},
                "turns": [{"role": role, "content": content} for role, content in turns],
            }
            file.write(json.dumps(record) + "\n")


def peak_memory(command: list[str]) -> tuple[int, float, str]:
    """Run a command.

    Returns:
        Its peak resident set size in bytes, the seconds it took, and what it wrote.
    """
    started = time.monotonic()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read().decode()
    if process.returncode:
        sys.exit(f"memory.py: {' '.join(command[:2])} ... ended with {process.returncode}")
    return usage.ru_maxrss * _UNIT, time.monotonic() - started, text


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help="model folder whose tokenizer and chat template are used")
    parser.add_argument(
        "--sessions", type=int, nargs="+", default=[10_000, 100_000], help="how many (default 10000 100000)"
    )
    args = parser.parse_args()
    counts: list[int] = sorted(args.sessions)
    out: dict[str, float] = {}
    sizes: dict[str, dict[int, int]] = {"read": {}, "inspect": {}}
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            data = Path(folder, f"{count}.jsonl")
            write_sessions(data, count)
            size, seconds, text = peak_memory([sys.executable, "-c", _READ, str(data)])
            if int(text) != count:
                sys.exit(f"memory.py: read {text.strip()} sessions, expected {count}")
            sizes["read"][count] = size
            read = f"{count:,} sessions: read in {seconds:.1f} s and {size / 1e6:.1f} MB"
            flags = ["--inspect", "--json", "--data", str(data), "--base", args.base]
            size, seconds, text = peak_memory([sys.executable, "-c", _INSPECT, *flags])
            if json.loads(text)["rendered"] != count:
                sys.exit(f"memory.py: inspected {json.loads(text)['rendered']} sessions, expected {count}")
            sizes["inspect"][count] = size
            out[f"inspect_seconds_{count}"] = round(seconds, 1)
            print(f"{read}, inspected in {seconds:.1f} s and {size / 1e6:.1f} MB")
    for what, by_count in sizes.items():
        out |= {f"{what}_mb_{count}": round(size / 1e6, 1) for count, size in by_count.items()}
        between = counts[-1] - counts[0]
        if between:
            out[f"{what}_bytes_per_session"] = round((by_count[counts[-1]] - by_count[counts[0]]) / between, 1)
    print(json.dumps(out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
