"""What a resident saves: K rounds of training and evaluating on one loaded base, beside K fresh processes.

A round trains an adapter of rank 16 for some steps and plays it in some worlds. A fresh process does the same after it
has imported torch and loaded the base. Rounds of both sides alternate. The last line of stdout is one JSON object:

    switch_ms           switch from one attached adapter of rank 16 to another, median
    first_token_ms      from asking the adapter that was not in use to its first token, median
    base_loads          loads of the base in the resident's process
    base_load_seconds   of one load
    job_overhead        seconds of the resident's jobs over those of a fresh process after its load, less 1; median
    speedup_vs_fresh    wall time of the fresh processes over the resident's, its load included
    unchanged           whether weights and logits are the same after all of it

    posix-sdc generate --n 32 --course first --out worlds
    posix-sdc rollout --scenarios worlds --out sessions
    python benchmarks/resident.py --base DIR --data sessions --scenarios worlds [--rounds 3] [--steps 6] [--n 4]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SWITCHES = 20


def flags(args: argparse.Namespace, out: Path, number: int) -> tuple[list[str], list[str]]:
    """Return the flags of a round's training and evaluation."""
    adapter = out / f"adapter-{number}"
    train = ["--data", args.data, "--out", str(adapter), "--max-steps", str(args.steps), "--lora-r", "16"]
    play = ["--adapter", str(adapter), "--no-base", "--no-baselines", "--scenarios", args.scenarios, "--n", str(args.n)]
    limits = ["--max-turns", "4", "--max-new-tokens", "24", "--runtime", args.runtime, "--allow-seen"]
    play += [*limits, "--out", str(out / f"eval-{number}")]
    return [*train, "--seed", str(number), "--tokens-per-batch", str(args.tokens)], play


def fresh(args: argparse.Namespace) -> None:
    """Do one round in this process, and print the seconds after the load."""
    from tiararodney.sekft.eval.cli import run as evaluate
    from tiararodney.sekft.model import load_base
    from tiararodney.sekft.sft.cli import run as train

    base = load_base(args.base, dtype="float32")
    training, playing = flags(args, Path(args.child), args.number)
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        train(training, base, "train")
        evaluate(playing, base, "eval")
    print(json.dumps(time.perf_counter() - began))


def switches(resident: Any, names: list[str]) -> tuple[float, float]:
    """Return the median milliseconds of a switch, and of a switch up to the first token."""
    from tiararodney.sekft.model import Sampling
    from tiararodney.sekft.model.adapters import switch_adapter

    base, generator = resident.base, resident.generator
    bare, whole = [], []
    for number in range(SWITCHES):
        with base.lock:
            began = time.perf_counter()
            switch_adapter(base, names[number % 2])
            bare.append(time.perf_counter() - began)
    for number in range(SWITCHES):
        began = time.perf_counter()
        prompt = [number % 50 + 5] * 32
        generator.submit(prompt, Sampling(max_new_tokens=1), adapter=names[number % 2]).result()
        whole.append(time.perf_counter() - began)
    return statistics.median(bare) * 1000, statistics.median(whole) * 1000


def main() -> None:
    """Run both sides in turn and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--base", "--data", "--scenarios"):
        parser.add_argument(name, required=True)
    for name, default in (("--rounds", 3), ("--steps", 6), ("--n", 4), ("--tokens", 512), ("--number", 0)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--runtime", default="bwrap")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    if args.child:
        fresh(args)
        return
    from tiararodney.sekft import model
    from tiararodney.sekft.model import attach_adapter
    from tiararodney.sekft.resident import cli, state
    from tiararodney.sekft.resident.commands import run_words

    loads = []
    real = model.load_base

    def counted(*given: Any, **more: Any) -> Any:
        began = time.perf_counter()
        base = real(*given, **more)
        loads.append(time.perf_counter() - began)
        return base

    model.load_base = counted
    began = time.perf_counter()
    resident = cli.start(cli.ResidentConfig(base=Path(args.base), dtype="float32"))
    hot, cold, ratios = time.perf_counter() - began, 0.0, []
    with tempfile.TemporaryDirectory() as folder:
        out, there = Path(folder) / "resident", Path(folder) / "fresh"
        out.mkdir()
        there.mkdir()
        for number in range(args.rounds):
            began = time.perf_counter()
            jobs = []
            for name, given in zip(("train", "eval"), flags(args, out, number), strict=True):
                jobs.append(resident.new_job(name))
                with contextlib.redirect_stdout(io.StringIO()):
                    assert run_words(resident, jobs[-1], [name, *given]) == 0
            hot += time.perf_counter() - began
            command = [sys.executable, __file__, *sys.argv[1:], "--child", str(there), "--number", str(number)]
            began = time.perf_counter()
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            cold += time.perf_counter() - began
            ratios.append(sum(job.seconds for job in jobs) / json.loads(done.stdout.splitlines()[-1]))
            print(f"round {number + 1}: resident {hot:.1f} s, fresh {cold:.1f} s in all", file=sys.stderr)
        names = ["one", "two"]
        for number, name in enumerate(names):
            attach_adapter(resident.base, out / f"adapter-{number % args.rounds}", name)
        switch, first = switches(resident, names)
    unchanged = state.probe(resident.base).agrees(resident.fingerprint)
    print(
        json.dumps(
            {
                "switch_ms": round(switch, 2),
                "first_token_ms": round(first, 2),
                "base_loads": len(loads),
                "base_load_seconds": round(statistics.mean(loads), 2),
                "job_overhead": round(statistics.median(ratios) - 1, 4),
                "speedup_vs_fresh": round(cold / hot, 2),
                "unchanged": unchanged,
                "rounds": args.rounds,
                "device": resident.base.device,
            }
        )
    )


if __name__ == "__main__":
    main()
