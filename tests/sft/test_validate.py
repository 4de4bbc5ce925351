"""What validation says: commands and terminals apart, ends that come too early or too late."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")
pytest.importorskip("peft", reason="needs peft (extra gpu)")

from tiararodney.sekft.errors import UsageError  # noqa: E402 - torch first, or the whole module is skipped
from tiararodney.sekft.model import attach_adapter, load_base, use_adapter  # noqa: E402
from tiararodney.sekft.sft.config import TrainConfig  # noqa: E402
from tiararodney.sekft.sft.data import read_examples  # noqa: E402
from tiararodney.sekft.sft.train import train  # noqa: E402
from tiararodney.sekft.sft.validate import ending_tokens  # noqa: E402
from tiararodney.sekft.tokenizer import load_tokenizer  # noqa: E402

pytestmark = pytest.mark.torch

Configure = Callable[..., TrainConfig]


def validations(folder: Path) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    return [entry for entry in entries if "validation_loss" in entry]


def test_the_rates_are_those_of_full_logits_turn_by_turn(configure: Configure):
    config = configure(max_steps=4, epochs=4.0, validation_fraction=0.3, terminal_weight=2.0)
    out = train(config)
    base = load_base(config.base, device="cpu", dtype="float32")
    examples = read_examples(config, load_tokenizer(config.base))
    endings = ending_tokens([*examples.training, *examples.validation])
    words = {"exit", "panic no such provider"}
    assert set(endings) == {base.tokenizer.encode(word)[0] for word in words}
    attach_adapter(base, out, "tuned")
    early, late, hits, losses = [], [], {False: [], True: []}, []
    with use_adapter(base, "tuned"), torch.no_grad():
        for example in examples.validation:
            chances = base.model(input_ids=torch.tensor([example.input_ids])).logits[0].softmax(-1)
            for span in example.spans:
                last = span == example.spans[-1]
                mass = float(chances[span[0] - 1, list(endings)].sum())
                (late if last else early).append(1 - mass if last else mass)
                for at in range(*span):
                    hits[last].append(int(chances[at - 1].argmax()) == example.input_ids[at])
                    losses.append((2.0 if last else 1.0, -float(chances[at - 1, example.input_ids[at]].log())))
    found = validations(out)[-1]
    assert found["step"] == json.loads((out / "training.json").read_text())["result"]["best_step"]

    def mean(values: list[Any]) -> float:
        return sum(values) / len(values)

    assert found["validation_too_early"] == pytest.approx(mean(early), rel=1e-3)
    assert found["validation_too_late"] == pytest.approx(mean(late), rel=1e-3)
    assert found["validation_command_accuracy"] == pytest.approx(mean(hits[False]))
    assert found["validation_terminal_accuracy"] == pytest.approx(mean(hits[True]))
    assert found["validation_accuracy"] == pytest.approx(mean(hits[False] + hits[True]))
    assert found["validation_loss"] == pytest.approx(
        sum(count * loss for count, loss in losses) / sum(count for count, _ in losses), rel=1e-3
    )


def test_training_brings_both_errors_of_ending_down(configure: Configure):
    found = validations(train(configure(epochs=12.0, validation_fraction=0.2)))
    assert found[-1]["validation_too_late"] < 0.5 < found[0]["validation_too_late"]
    assert found[-1]["validation_too_early"] < 0.2
    assert found[-1]["validation_command_accuracy"] > found[0]["validation_command_accuracy"]


@pytest.mark.parametrize(("by", "key"), [("scenario", "scenario_id"), ("archetype", "archetype")])
def test_what_is_held_back_is_held_back_whole(configure: Configure, data: Path, by: str, key: str):
    for number, file in enumerate(sorted(data.iterdir())):
        session = json.loads(file.read_text()) | {
            "archetype": f"kind-{number % 3}",
            "scenario_id": f"world-{number // 2}",
        }
        file.write_text(json.dumps(session))
    config = configure(validation_fraction=0.34, validation_by=by)
    examples = read_examples(config, load_tokenizer(config.base))
    held_back = set(examples.counts["held_back"])
    assert len(held_back) == {"scenario": 2, "archetype": 1}[by]
    of = [json.loads(file.read_text())[key] for file in sorted(data.iterdir())]
    assert len(examples.validation) == sum(name in held_back for name in of)
    assert len(examples.training) == sum(name not in held_back for name in of)
    other = read_examples(configure(validation_fraction=0.34, validation_by=by, seed=4), load_tokenizer(config.base))
    assert set(other.counts["held_back"]) != held_back, "the seed draws"


def test_one_archetype_cannot_be_trained_and_held_back(configure: Configure):
    config = configure(validation_fraction=0.5, validation_by="archetype")
    with pytest.raises(UsageError, match="found 1 archetype in the data, expected at least 2"):
        read_examples(config, load_tokenizer(config.base))
