"""The adapter names its base so that it loads from anywhere; its card has what the hub reads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tiararodney.sekft.sft.adapter import licence_of
from tiararodney.sekft.sft.config import TrainConfig

pytestmark = pytest.mark.torch
pytest.importorskip("torch", reason="needs torch (extra gpu)")
pytest.importorskip("peft", reason="needs peft (extra gpu)")


def trained(config: TrainConfig) -> tuple[str, dict[str, Any], str]:
    """Train a step; what the adapter calls its base, its card's front matter, and the card."""
    from tiararodney.sekft.sft.train import train

    out = train(config)
    card = (out / "README.md").read_text()
    name = json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"]
    return name, yaml.safe_load(card.split("---\n")[1]), card


def test_a_base_of_the_hub_is_named_by_its_id(
    configure: Callable[..., TrainConfig], tiny_base: Path, tmp_path: Path
) -> None:
    snapshot = tmp_path / "models--somebody--tiny" / "snapshots" / "abc"
    shutil.copytree(tiny_base, snapshot)
    (snapshot / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# tiny\n")
    name, head, card = trained(configure(base=snapshot, max_steps=1))
    assert name == head["base_model"] == "somebody/tiny"
    assert (head["license"], head["pipeline_tag"], head["library_name"]) == ("apache-2.0", "text-generation", "peft")
    assert str(tmp_path) not in card


def test_a_base_of_this_machine_is_named_by_its_absolute_path(
    configure: Callable[..., TrainConfig], tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_base.parent)
    name, head, card = trained(configure(base=Path(tiny_base.name), max_steps=1))
    assert name == str(tiny_base)
    assert not {"base_model", "license", "datasets"} & set(head)
    assert str(tiny_base.parent) not in card


def test_a_name_that_is_given_wins(configure: Callable[..., TrainConfig]) -> None:
    name, head, _ = trained(configure(max_steps=1, base_name="my/base"))
    assert name == head["base_model"] == "my/base"


@pytest.mark.parametrize("text", ["# no front matter", "---\nlanguage: en\n---\nlicense: mit\n", ""])
def test_a_licence_that_is_not_told_is_left_out(tmp_path: Path, text: str) -> None:
    assert licence_of(tmp_path) is None
    (tmp_path / "README.md").write_text(text)
    assert licence_of(tmp_path) is None
