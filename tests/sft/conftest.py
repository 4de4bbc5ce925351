"""Recorded sessions and configurations for the tests of training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tiararodney.sekft.sft.config import TrainConfig


def session(number: int, commands: tuple[str, ...] = ()) -> dict[str, Any]:
    """One kept trajectory, as `posix-sdc rollout` writes it."""
    commands = commands or ("cat /etc/motd", "tasks --help", f"mkdir -p out/{number}", f"wc -l notes{number}.txt")
    turns = [
        {"role": "system", "content": "You are in a terminal. What you type is run by the shell."},
        {"role": "user", "content": f"Directives are handed out by tasks. {number}\n$ "},
    ]
    for at, command in enumerate(commands):
        turns += [{"role": "assistant", "content": command}, {"role": "user", "content": f"total {at * number}\n$ "}]
    turns.append({"role": "assistant", "content": "exit" if number % 3 else "panic no such provider"})
    return {
        "id": f"session-{number}",
        "scenario_id": f"scenario-{number}",
        "version": "1",
        "archetype": "counting",
        "terminal": "exit" if number % 3 else "panic",
        "split": "train",
        "verified": True,
        "outcome": "success",
        "operator_model": "reference",
        "keep": True,
        "meta": {"clean": True},
        "turns": turns,
    }


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of twelve raw sessions."""
    folder = tmp_path / "trajectories"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number:02}.json").write_text(json.dumps(session(number)))
    return folder


@pytest.fixture
def configure(data: Path, tiny_base: Path, tmp_path: Path) -> Callable[..., TrainConfig]:
    """Make small configurations: `configure(seed=1, ...)`."""

    def make(**values: Any) -> TrainConfig:
        settings: dict[str, Any] = {
            "base": tiny_base,
            "out": tmp_path / "adapter",
            "data": (data,),
            "device": "cpu",
            "dtype": "float32",
            "lora_r": 4,
            "lora_alpha": 8.0,
            "learning_rate": 1e-2,
            "tokens_per_batch": 500,
            "checkpoint_every": 3,
        }
        return TrainConfig(**(settings | values))

    return make


@pytest.fixture(scope="session")
def save_tokenizer() -> Callable[..., None]:
    """Write a tokenizer without a model: `save_tokenizer(folder, corpus, specials, template, **config)`."""

    def save(folder: Path, corpus: str, specials: tuple[str, ...], template: str, **config: str) -> None:
        from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
        backend.train_from_iterator([corpus] * 4, trainer)
        backend.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in specials])
        backend.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        (folder / "chat_template.jinja").write_text(template)

    return save
