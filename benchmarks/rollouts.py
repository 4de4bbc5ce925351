"""Playing episodes: the evaluation's harness beside the loop that one writes first.

Both play the same scenarios with the same model, adapter, dtype (float32, greedy) and limits. The naive loop plays one
session at a time and puts the whole history through the model at every turn (transformers' `generate`); with
`--runtime docker` it also pays one `docker exec` for each command, beside the same world's own command, so that what
the session sees is the same on both sides. Prints one JSON object as its last line of stdout:

    speedup_vs_naive    episodes per minute of the harness over the naive loop's, median of the rounds
    outcomes_equal      whether every session of both sides has the same commands and the same outcome
    episodes_per_min, tokens_per_second    of both sides, generated tokens

    python benchmarks/rollouts.py --base DIR [--adapter DIR] --scenarios DIR [--n 8] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.eval import worlds
from tiararodney.sekft.eval.config import parse
from tiararodney.sekft.eval.contestants import ADAPTER, BASE, Contestant
from tiararodney.sekft.eval.operators import local_player, local_players
from tiararodney.sekft.model import (
    Base,
    Generated,
    Sampling,
    Token,
    attach_adapter,
    detach_adapter,
    load_base,
    use_adapter,
)
from tiararodney.sekft.render import contract_tokenizer

if TYPE_CHECKING:
    from tiararodney.sekft.eval.episodes import Episode


class Naive:
    """Stands in the generator's place and computes every prompt anew, alone.

    Args:
        base: with the adapter in use.
        docker: a container for a `docker exec` before each reply, or None.
    """

    context = None

    def __init__(self, base: Base, docker: str | None) -> None:
        self.base, self.docker = base, docker

    def submit(self, ids: list[int], sampling: Sampling, **_: Any) -> Future[Generated]:
        """Return the reply, made before this returns."""
        import torch

        if self.docker is not None:
            subprocess.run(["docker", "exec", self.docker, "true"], check=True, capture_output=True)
        prompt, stops = torch.tensor([ids], device=self.base.device), sorted(sampling.stop_ids)
        with torch.inference_mode():
            out = (self.base.adapters.handle or self.base.model).generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=sampling.max_new_tokens,
                do_sample=False,
                eos_token_id=stops,
                pad_token_id=stops[0],
            )
        reply = out[0, len(ids) :].tolist()
        stopped = bool(reply) and reply[-1] in stops
        future: Future[Generated] = Future()
        future.set_result(Generated(tuple(Token(i) for i in (reply[:-1] if stopped else reply)), stopped))
        return future


def played(jobs: list[worlds.Job], player: Any, config: Any, runtime: str) -> tuple[float, list[Episode]]:
    """Play all sessions; return the seconds and the episodes."""
    episodes: list[Episode] = []
    begun = time.perf_counter()
    worlds.play(jobs, {"model": player}, episodes.append, lambda *_: None, runtime, config)
    return time.perf_counter() - begun, episodes


def outcome(episodes: list[Episode]) -> dict[str, Any]:
    """Return what has to be equal: each session's turns and how it was judged."""
    return {e.scenario_id: (e.outcome, [m["content"] for m in e.messages]) for e in episodes}


def tokens(episodes: list[Episode]) -> int:
    """Return how many tokens were generated, stop tokens not counted."""
    return sum(len(g.reply_ids) for e in episodes for g in e.generations)


def container_for_exec(runtime: str) -> str | None:
    """Start a container for the naive side's `docker exec`; None where worlds are sandboxes."""
    if runtime != "docker" or shutil.which("docker") is None:
        return None
    from tiararodney.posix_sdc.worlds.docker.image import IMAGE

    command = ["docker", "run", "-d", "--rm", "--network", "none", IMAGE, "sleep", "3600"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Run both sides in turn and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--scenarios", required=True)
    parser.add_argument("--n", default="8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", default="16")
    parser.add_argument("--max-turns", default="12")
    parser.add_argument("--runtime", default="bwrap")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory() as out:
        argv = ["--base", args.base, "--scenarios", args.scenarios, "--n", args.n, "--out", out, "--dtype", "float32"]
        bounds = ["--max-turns", args.max_turns, "--runtime", args.runtime]
        config = parse([*argv, *bounds, "--concurrency", args.concurrency])
        alone = parse([*argv, *bounds, "--concurrency", "1"])
        runtime = worlds.resolve_runtime(config.runtime)
        selection = worlds.select(config.scenarios, config.n, None)
    jobs = [worlds.Job("model", s, 0) for s in selection.scenarios]
    base = load_base(args.base, dtype="float32")
    kind, path = (ADAPTER, str(args.adapter)) if args.adapter else (BASE, str(args.base))
    contestant = Contestant("model", kind, path, "benchmark")
    tokenizer = contract_tokenizer(base.tokenizer, args.adapter) if args.adapter else base.tokenizer
    container = container_for_exec(runtime)
    ratios, ours, theirs, equal = [], [], [], True
    try:
        for number in range(args.rounds):
            with local_players(config, base, [contestant]) as (players, _):
                seconds, fast = played(jobs, players["model"], config, runtime)
            if args.adapter:
                attach_adapter(base, args.adapter, "naive")
            with use_adapter(base, "naive" if args.adapter else None):
                naive = local_player(None, Naive(base, container), tokenizer, config)
                slow_seconds, slow = played(jobs, naive, alone, runtime)
            if args.adapter:
                detach_adapter(base, "naive")
            ratios.append(slow_seconds / seconds)
            ours.append((len(fast) * 60 / seconds, tokens(fast) / seconds))
            theirs.append((len(slow) * 60 / slow_seconds, tokens(slow) / slow_seconds))
            equal = equal and outcome(fast) == outcome(slow)
            print(f"round {number + 1}: {seconds:.1f} s against {slow_seconds:.1f} s, equal {equal}", file=sys.stderr)
    finally:
        if container is not None:
            subprocess.run(["docker", "rm", "-f", container], capture_output=True, check=False)

    def median(rows: list[tuple[float, float]], i: int) -> float:
        return round(statistics.median(row[i] for row in rows), 1)

    print(
        json.dumps(
            {
                "speedup_vs_naive": round(statistics.median(ratios), 2),
                "outcomes_equal": equal,
                "episodes_per_min": {"sekft": median(ours, 0), "naive": median(theirs, 0)},
                "tokens_per_second": {"sekft": median(ours, 1), "naive": median(theirs, 1)},
                "runtime": runtime,
                "sessions": len(jobs),
            }
        )
    )


if __name__ == "__main__":
    main()
