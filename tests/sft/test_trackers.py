"""What else a run tells: trackers, the picture, the card."""

import importlib.util
import json
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")
pytest.importorskip("peft", reason="needs peft (extra gpu)")

from tiararodney.sekft.errors import UsageError  # noqa: E402 - torch first, or the whole module is skipped
from tiararodney.sekft.sft.adapter import draw_curve  # noqa: E402
from tiararodney.sekft.sft.config import TrainConfig  # noqa: E402
from tiararodney.sekft.sft.train import train  # noqa: E402

pytestmark = pytest.mark.torch

Configure = Callable[..., TrainConfig]


def curve(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("name", "says"), [("wandb", "wandb"), ("nonsense", "nonsense is not supported")])
def test_a_tracker_that_cannot_be_used_is_refused_first(configure: Configure, name: str, says: str):
    if name == "wandb" and importlib.util.find_spec("wandb") is not None:
        pytest.skip("wandb is installed")
    with pytest.raises(UsageError, match=rf"--report-to {name}: .*{says}"):
        train(configure(report_to=(name,), base=Path("nowhere")))


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="needs tensorboard")
def test_tensorboard_reads_the_run_from_the_folder_beside_the_adapter(configure: Configure, tmp_path: Path):
    config = configure(max_steps=3, report_to=("tensorboard",))
    train(replace(config, out=tmp_path / "before"))  # in the same process, as on a resident
    out = train(config)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(f"{config.out}.tensorboard")
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert [step for step, _ in found] == [1, 2, 3]
    assert [value for _, value in found] == pytest.approx([entry["loss"] for entry in curve(out)])


# ---- the picture


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib (extra gpu)")
def test_the_curve_is_a_picture_of_what_the_run_has(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    plain = train(configure(max_steps=3))
    data = (plain / "curve.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    assert (width, height) == (990, 792), "loss, two accuracies and rate: nothing was validated"
    entries = [*curve(plain), {"step": 3, "validation_loss": 1.0, "validation_too_early": 0.1}]
    from matplotlib.axes import Axes

    labels: list[str] = []
    real = Axes.set_ylabel
    monkeypatch.setattr(Axes, "set_ylabel", lambda axis, text: [labels.append(text), real(axis, text)])
    draw_curve(entries, "title", tmp_path / "more.png")
    assert labels[0] == "loss (nats a token)"
    assert not [label for label in labels if "_" in label]
    assert struct.unpack(">II", (tmp_path / "more.png").read_bytes()[16:24])[1] == 990


def test_a_missing_matplotlib_costs_the_picture_and_not_the_run(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    import logging

    monkeypatch.setattr(logging.getLogger("tiararodney"), "propagate", True)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in [name for name in sys.modules if name.startswith("matplotlib.")]:
        monkeypatch.setitem(sys.modules, name, None)
    out = train(configure(max_steps=1))
    assert not (out / "curve.png").exists()
    assert (out / "adapter_model.safetensors").exists()
    assert any("pip install matplotlib" in message for message in caplog.messages)


# ---- the card


def test_the_card_tells_data_settings_measures_and_contract_and_no_path(configure: Configure, tmp_path: Path):
    out = train(configure(max_steps=2, validation_fraction=0.2, use_rslora=True))
    card = (out / "README.md").read_text()
    record = json.loads((out / "training.json").read_text())
    contract = json.loads((out / "render.json").read_text())
    assert card.startswith("---\nlibrary_name: peft\n")
    assert f"| training examples | {record['data']['training_examples']} |" in card
    assert "| learning_rate | 0.01 |" in card
    assert "| use_rslora | True |" in card
    assert "| lora_r | 4 |" in card
    best = next(entry for entry in curve(out) if "validation_loss" in entry)
    assert f"| probability of ending too early | {best['validation_too_early']:.4f} |" in card
    assert contract["template_sha256"] in card
    assert record["base"]["fingerprint"] in card
    assert str(tmp_path) not in card
    assert str(record["config"]["base"]) not in card


def test_a_card_of_a_run_without_validation_says_that_nothing_was_measured(configure: Configure):
    card = (train(configure(max_steps=1)) / "README.md").read_text()
    assert "There was no validation split." in card


# ---- the hub


def fake_hub(monkeypatch: pytest.MonkeyPatch, *, fails: bool = False) -> list[tuple[str, Any]]:
    """Put a hub in place that takes notes."""
    calls: list[tuple[str, Any]] = []

    class Api:
        def create_repo(self, name: str, **how: Any) -> None:
            calls.append(("create", (name, how)))

        def upload_folder(self, *, repo_id: str, folder_path: Path, **_: Any) -> Any:
            if fails:
                raise OSError("the network is gone")
            calls.append(("upload", (repo_id, sorted(file.name for file in folder_path.iterdir()))))
            return SimpleNamespace(__str__=lambda _: "address")

    monkeypatch.setattr("tiararodney.sekft.sft.adapter.HfApi", Api)
    return calls


@pytest.mark.parametrize("public", [False, True])
def test_the_whole_folder_is_uploaded_and_a_new_repository_is_private_unless_asked(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, public: bool
):
    calls = fake_hub(monkeypatch)
    out = train(configure(max_steps=1, push_to_hub="me/adapter", hub_public=public))
    assert [name for name, _ in calls] == ["create", "upload"], "first of all, and at the end"
    assert calls[0][1] == ("me/adapter", {"token": True, "private": not public, "exist_ok": True})
    name, files = calls[1][1]
    assert name == "me/adapter"
    assert files == sorted(file.name for file in out.iterdir())
    assert {"adapter_model.safetensors", "README.md", "render.json", "chat_template.jinja"} <= set(files)


def test_a_hub_that_refuses_leaves_the_adapter_and_says_how_to_go_on(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
):
    from tiararodney.sekft.errors import RunFailed

    fake_hub(monkeypatch, fails=True)
    config = configure(max_steps=1, push_to_hub="me/adapter")
    with pytest.raises(RunFailed, match=r"the network is gone.*hf upload me/adapter"):
        train(config)
    assert (config.out / "adapter_model.safetensors").exists()


def test_nobody_logged_in_and_no_name_are_refused_before_anything_is_read(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    with pytest.raises(UsageError, match="--push-to-hub no name at all"):
        train(configure(push_to_hub="no name at all", base=Path("nowhere")))
    import huggingface_hub

    monkeypatch.setattr("huggingface_hub.hf_api.get_token", lambda: None, raising=False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(UsageError, match=r"--push-to-hub me/adapter: Token is required.*hf auth login"):
        train(configure(push_to_hub="me/adapter", base=Path("nowhere")))
