"""The project's own clients against the served base: evaluation, recording, and the training render."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.torch

BOUNDS = ["--max-turns", "3", "--max-new-tokens", "8", "--no-baselines", "-q"]


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    """Return a folder of three bundles."""
    folder = tmp_path / "bundles"
    folder.mkdir()
    for i in range(3):
        bundle = {
            "id": f"s{i}",
            "archetype": "repair",
            "terminal": "exit",
            "split": "holdout",
            "workdir": "/work",
            "provider": {"name": "tasks"},
            "announcement": {"kind": "motd", "text": f"Run tasks {i}."},
            "checker": {"script": "test -e done"},
            "reference_solution": ["touch done"],
        }
        (folder / f"s{i}.json").write_text(json.dumps(bundle))
    return folder


@pytest.fixture
def worlds_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put worlds in memory in place of real ones: every command is not found."""
    from contextlib import contextmanager

    from tiararodney.posix_sdc import world
    from tiararodney.posix_sdc.sessions import loop
    from tiararodney.posix_sdc.world import CommandResult, Verdict

    class World:
        runtime = "bwrap"

        def run(self, command: str) -> CommandResult:
            word = (command.split() or [""])[0]
            ended = word if word in ("exit", "panic") else None
            return CommandResult("" if ended else f"sh: 1: {word}: not found\n", None if ended else 127, ended)

        def check(self) -> Verdict:
            return Verdict(False, "no file done")

        def close(self) -> None:
            pass

    @contextmanager
    def open_world(*_: Any, **__: Any) -> Any:
        yield World()

    monkeypatch.setattr(loop, "open_world", open_world)
    monkeypatch.setattr(world, "resolve_runtime", lambda _: "bwrap")


def messages_of(out: Path) -> dict[str, Any]:
    lines = [json.loads(line) for line in (out / "episodes.jsonl").read_text().splitlines()]
    return {line["scenario_id"]: line["messages"] for line in lines}


@pytest.mark.usefixtures("worlds_in_memory")
def test_evaluation_of_the_endpoint_equals_that_of_the_adapter(
    url: str, server: Any, tiny_base: Path, adapters: Path, bundles: Path, tmp_path: Path
) -> None:
    from tiararodney.sekft.eval.cli import main

    server.attach("one", str(adapters / "one"), in_place=False)
    common = ["--scenarios", str(bundles), *BOUNDS]
    local = ["--base", str(tiny_base), "--adapter", str(adapters / "one"), "--no-base", "--device", "cpu"]
    served = ["--endpoint", url, "--model", "one"]
    ids = [*served, "--tokenizer", str(tiny_base)]
    runs = {"local": [*local, "--dtype", "float32"], "served": served, "ids": ids}
    for name, flags in runs.items():
        assert main([*flags, *common, "--out", str(tmp_path / name)]) == 0
    played = {name: messages_of(tmp_path / name) for name in runs}
    assert len(played["local"]) == 3
    assert played["served"] == played["ids"] == played["local"]
    lines = [json.loads(line) for line in (tmp_path / "ids" / "episodes.jsonl").read_text().splitlines()]
    assert all(g["prompt_sha256"] and g["reply_ids"] for line in lines for g in line["generations"])


@pytest.mark.usefixtures("worlds_in_memory")
def test_posix_sdc_records_sessions_of_the_endpoint(url: str, bundles: Path, tmp_path: Path) -> None:
    from tiararodney.posix_sdc.cli import main

    out = tmp_path / "rollouts"
    argv = ["rollout", "--scenarios", str(bundles), "--out", str(out), "--operator", url, "--model", "tiny"]
    assert main([*argv, "--runtime", "bwrap", "--max-turns", "2", "--max-new-tokens", "4"]) == 0
    assert len(list(out.glob("*.json"))) == 3


def test_served_prompts_equal_the_training_render(client: Any, server: Any, make_session: Callable[..., Any]) -> None:
    """Every trained turn of 100 sessions: what stands before it in training is what the endpoint puts before it."""
    from tiararodney.sekft.render import IGNORED, build_masked_examples

    tokenizer = server.base.tokenizer
    turns = 0
    for number in range(100):
        messages = make_session(number)
        trained = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
        starts: list[list[int]] = []
        for example in build_masked_examples(tokenizer, messages):
            edges = [
                at
                for at in range(1, len(example.labels))
                if example.labels[at] != IGNORED and example.labels[at - 1] == IGNORED
            ]
            starts += [example.input_ids[:at] for at in edges]
        for i, before in zip(trained, starts, strict=True):
            told = client.post("/tokenize", json={"model": "tiny", "messages": messages[:i]}).json()
            assert told["tokens"] == before
            turns += 1
    assert turns > 250


@pytest.fixture
def make_session() -> Callable[[int], list[dict[str, str]]]:
    """Return a maker of sessions: a system turn ahead, some user turns split in two, two to four replies."""

    def make(number: int) -> list[dict[str, str]]:
        out = [
            {"role": "system", "content": "A terminal."},
            {"role": "user", "content": f"You have mail {number}.\n$ "},
        ]
        for turn in range(2 + number % 3):
            out.append({"role": "assistant", "content": f"cat file-{number}-{turn}"})
            shown = [f"line {number}", "$ "] if number % 2 else [f"line {number}\n$ "]
            out += [{"role": "user", "content": text} for text in shown]
        return [*out, {"role": "assistant", "content": "exit"}]

    return make
