"""Benchmark: the time a mask takes, against one bare tokenizer pass and against prefix differencing.

Sessions of 10, 40 and 160 turns (commands) with some 80 tokens of output each. The examples are built as training
builds them, with every prompt rendered and every turn checked. The pass encodes the same text once and does nothing
else. Prefix differencing is what many trainers do: for each turn, `apply_chat_template` renders and encodes the session
up to it, with and without the reply. The variants run interleaved in one process; medians of CPU time are reported.

The last line of stdout is one JSON object: `pass_ratio_10`, `pass_ratio_40`, `pass_ratio_160` (time over the pass's),
`prefix_speedup_10`, `prefix_speedup_40` (prefix differencing's time over ours), `lean_prefix_speedup_*` (the same with
our own rendering and encoding in place of `apply_chat_template`, which costs less), `qwen3_pass_ratio_*` (with Qwen3's
longer chat template; missing without the package trl, which publishes it), and versions and settings.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import tempfile
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.render import Message, Tokenizer, build_masked_examples, normalize_for_template
from tiararodney.sekft.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TURNS = (10, 40, 160)
# Words that terminals print.
_WORDS = """
drwxr-xr-x root total 4096 /var/log/syslog error: cannot open file No such file or directory make install config.yaml
Permission denied bytes received 127.0.0.1:8080 [ok] started Nov 23 04:11 inode $HOME ./run.sh
""".split()  # noqa: SIM905 - a list of so many strings is harder to read


def session(turns: int, seed: int, words: int = 25) -> list[Message]:
    """Make a session with `turns` commands."""
    rng = random.Random(seed)
    out = [Message("system", "A terminal."), Message("user", "You have mail.\n$ ")]
    for n in range(turns - 1):
        out.append(Message("assistant", f"grep -n {rng.choice(_WORDS)} notes.txt | head -{n + 1} && echo done"))
        out.append(Message("user", " ".join(rng.choices(_WORDS, k=words)) + "\n$ "))
    return [*out, Message("assistant", "exit")]


def differencing(tok: Tokenizer, messages: Sequence[Message]) -> list[list[int]]:
    """Return the replies' ids as the difference of encoded prefixes, one pair for each turn."""
    turns = normalize_for_template(messages)
    out = []
    for i, message in enumerate(turns):
        if message.role == "assistant":
            before = tok.encode(tok.render_text(turns[:i], add_generation_prompt=True))
            upto = tok.encode(tok.render_text(turns[: i + 1], add_generation_prompt=False))
            out.append(upto[len(before) :])
    return out


def transformers_differencing(tok: Any, messages: Sequence[Message]) -> list[list[int]]:
    """Do the same through a transformers tokenizer, as trainers call it."""
    turns = [dict(m) for m in normalize_for_template(messages)]
    out = []
    for i, message in enumerate(turns):
        if message["role"] == "assistant":
            before = tok.apply_chat_template(turns[:i], add_generation_prompt=True, return_dict=False)
            upto = tok.apply_chat_template(turns[: i + 1], return_dict=False)
            out.append(upto[len(before) :])
    return out


def transformers_tokenizer(tok: Tokenizer) -> Any:
    """Return the same tokenizer as transformers loads it."""
    from transformers import PreTrainedTokenizerFast

    with tempfile.TemporaryDirectory() as folder:
        tok.save(folder)
        return PreTrainedTokenizerFast.from_pretrained(folder)


def qwen3(tok: Tokenizer) -> Tokenizer | None:
    """Return a tokenizer with Qwen3's chat template, None where no package holds it."""
    spec = find_spec("trl")
    file = Path(spec.origin).parent / "chat_templates" / "qwen3.jinja" if spec and spec.origin else None
    return tok.with_template(file.read_text(encoding="utf-8")) if file and file.is_file() else None


def timed(work: Callable[[], object]) -> float:
    """Return the CPU seconds of a call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def measure(tok: Tokenizer, peer: Any, with_qwen3: Tokenizer | None, turns: int, rounds: int) -> dict[str, float]:
    """Time the variants on the same sessions, interleaved, and return the medians in seconds."""
    variants: dict[str, list[float]] = {name: [] for name in ("pass", "ours", "qwen3", "lean", "differencing")}
    for seed in range(-1, rounds):  # the first round warms up
        messages = session(turns, seed)
        text = tok.render_text(normalize_for_template(messages), add_generation_prompt=False)
        times = {
            "pass": timed(lambda text=text: tok.encode(text)),
            "ours": timed(lambda messages=messages: build_masked_examples(tok, messages)),
        }
        if with_qwen3 is not None:
            times["qwen3"] = timed(lambda messages=messages: build_masked_examples(with_qwen3, messages))
        if turns <= TURNS[1]:
            times["lean"] = timed(lambda messages=messages: differencing(tok, messages))
            times["differencing"] = timed(lambda messages=messages: transformers_differencing(peer, messages))
        if seed >= 0:
            for variant, seconds in times.items():
                variants[variant].append(seconds)
    return {variant: statistics.median(values) for variant, values in variants.items() if values}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help="model folder whose tokenizer and chat template are used")
    parser.add_argument("--rounds", type=int, default=25, help="sessions a size (default 25)")
    args = parser.parse_args()
    tok = load_tokenizer(args.base)
    peer, with_qwen3 = transformers_tokenizer(tok), qwen3(tok)
    out: dict[str, object] = {}
    for turns in TURNS:
        tokens = sum(len(e.input_ids) for e in build_masked_examples(tok, session(turns, 0)))
        took = measure(tok, peer, with_qwen3, turns, args.rounds)
        out[f"pass_ratio_{turns}"] = round(took["ours"] / took["pass"], 3)
        line = f"{turns} turns, {tokens} tokens: {took['ours'] * 1e3:.2f} ms, {took['ours'] / took['pass']:.2f} passes"
        out[f"milliseconds_{turns}"] = round(took["ours"] * 1e3, 3)
        out[f"tokens_{turns}"] = tokens
        if "qwen3" in took:
            out[f"qwen3_pass_ratio_{turns}"] = round(took["qwen3"] / took["pass"], 3)
            line += f" ({took['qwen3'] / took['pass']:.2f} with Qwen3's template)"
        if "differencing" in took:
            out[f"prefix_speedup_{turns}"] = round(took["differencing"] / took["ours"], 2)
            out[f"lean_prefix_speedup_{turns}"] = round(took["lean"] / took["ours"], 2)
            line += f", {took['differencing'] / took['ours']:.1f} times faster than prefix differencing"
        print(line)
    libraries = {name: version(name) for name in ("tokenizers", "transformers", "jinja2")}
    out |= {"base": args.base, "rounds": args.rounds, "python": platform.python_version(), "libraries": libraries}
    print(json.dumps(out))


if __name__ == "__main__":
    main()
