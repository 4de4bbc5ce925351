"""The real thing, small: a random model and adapters of it, in real worlds, and its replies found again by others."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.eval.cli import main
from tiararodney.sekft.eval.contestants import named_adapters
from tiararodney.sekft.eval.episodes import prompt_hash
from tiararodney.sekft.render import canonical_chat_template

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def make_adapter(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make adapters of the tiny base with plain peft, with the contract that sekft-train writes."""

    def make(base: Path = tiny_base, seed: int = 1) -> Path:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        from tiararodney.sekft.render import save_contract
        from tiararodney.sekft.tokenizer import load_tokenizer

        folder = tmp_path_factory.mktemp("adapter") / f"tuned-{seed}"
        torch.manual_seed(seed)
        config = LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", init_lora_weights=False)
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
        model.save_pretrained(folder)
        save_contract(load_tokenizer(base), folder)
        return folder

    return make


@pytest.fixture
def argv(tiny_base: Path, scenarios: Path, tmp_path: Path, memory_worlds: Callable[..., None]) -> list[str]:
    out = str(tmp_path / "out")
    bounds = ["--max-turns", "3", "--max-new-tokens", "8", "--device", "cpu", "--dtype", "float32", "-q"]
    bounds.append("--no-baselines")
    return ["--base", str(tiny_base), "--scenarios", str(scenarios), "--out", out, *bounds]


def episodes(tmp_path: Path) -> list[Any]:
    return [json.loads(line) for line in (tmp_path / "out" / "episodes.jsonl").read_text().splitlines()]


def plain_replies(base: Path, adapter: Path, session: Any, limit: int) -> list[tuple[str, list[int]]]:
    """Return hash of prompt and greedy reply of every turn, by transformers and peft alone."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(adapter)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    out = []
    for turn in session["generations"]:
        ids = tokenizer.apply_chat_template(
            session["messages"][: turn["turn"]], add_generation_prompt=True, return_dict=False, return_tensors="pt"
        )
        with torch.inference_mode():
            reply = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=limit, do_sample=False, pad_token_id=2
            )
        out.append((prompt_hash(ids[0].tolist()), reply[0, ids.shape[1] :].tolist()))
    return out


@pytest.mark.parametrize("batch", [1, 4])
def test_plain_peft_gives_the_recorded_replies_again(
    argv: list[str], make_adapter: Callable[..., Path], tiny_base: Path, tmp_path: Path, batch: int
) -> None:
    """fp32, greedy: in bf16 a batch of more than one may fall the other way where two tokens are nearly as likely."""
    adapter = make_adapter()
    assert main([*argv, "--adapter", str(adapter), "--no-base", "--batch-size", str(batch), "--n", "2"]) == 0
    sessions = episodes(tmp_path)
    assert len(sessions) == 2
    for session in sessions:
        assert len(session["generations"]) == 3
        for turn, (sha, ids) in zip(session["generations"], plain_replies(tiny_base, adapter, session, 8), strict=True):
            assert turn["prompt_sha256"] == sha
            stopped = turn["stop"] == "end"
            assert (ids[:-1] if stopped else ids) == turn["reply_ids"]
            assert session["messages"][turn["turn"]]["role"] == "assistant"


def test_pitfall_17_base_and_adapter_are_different_models_on_the_same_scenarios(
    argv: list[str], make_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    adapters = [make_adapter(seed=1), make_adapter(seed=2)]
    assert main([*argv, "--adapter", str(adapters[0]), "--adapter", str(adapters[1])]) == 0
    played = episodes(tmp_path)
    by_model = {
        m: {e["scenario_id"]: e["messages"] for e in played if e["model"] == m} for m in ("base", "tuned-1", "tuned-2")
    }
    assert {frozenset(sessions) for sessions in by_model.values()} == {frozenset({"s0", "s1", "s2", "s3"})}
    assert by_model["base"] != by_model["tuned-1"] != by_model["tuned-2"]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [(p["first"], p["second"]) for p in report["paired"]] == [("base", "tuned-1"), ("base", "tuned-2")]
    assert [m["contract"] for m in report["models"]] == ["none", "match", "match"]


def test_a_hot_base_gives_the_same_episodes_and_is_left_bit_for_bit_as_it_was(
    argv: list[str], make_adapter: Callable[..., Path], tiny_base: Path, tmp_path: Path
) -> None:
    from tiararodney.sekft.eval.config import parse
    from tiararodney.sekft.eval.run import evaluate
    from tiararodney.sekft.model import load_base
    from tiararodney.sekft.resident.state import probe

    argv += ["--adapter", str(make_adapter())]
    assert main(argv) == 0
    cold = {(e["model"], e["scenario_id"]): e["messages"] for e in episodes(tmp_path)}
    base = load_base(tiny_base, device="cpu", dtype="float32")
    before = probe(base)
    config = parse([a if a != str(tmp_path / "out") else str(tmp_path / "hot" / "out") for a in argv])
    evaluate(config, base)
    assert {(e["model"], e["scenario_id"]): e["messages"] for e in episodes(tmp_path / "hot")} == cold
    assert probe(base) == before
    assert base.adapters.folders == {}


def test_an_adapter_that_changes_nothing_is_refused(
    argv: list[str], make_adapter: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    untrained = tmp_path / "untrained"
    shutil.copytree(make_adapter(seed=1), untrained)
    weights = load_file(untrained / "adapter_model.safetensors")
    for name in weights:
        if "lora_B" in name:
            weights[name].zero_()
    save_file(weights, untrained / "adapter_model.safetensors")
    assert main([*argv, "--adapter", str(untrained)]) == 2
    assert "the base predicts the same with and without it" in capsys.readouterr().err


def test_an_adapter_trained_on_the_scenarios_is_refused_or_noted(
    argv: list[str],
    make_adapter: Callable[..., Path],
    tiny_base: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import shutil

    from tiararodney.sekft.model import base_fingerprint

    seen = tmp_path / "seen"
    shutil.copytree(make_adapter(seed=1), seen)
    base = {"fingerprint": base_fingerprint(tiny_base), "four_bit": True}
    (seen / "training.json").write_text(json.dumps({"data": {"scenario_ids": ["s1", "x"]}, "base": base}))
    argv += ["--adapter", str(seen), "--n", "4"]
    assert main(argv) == 2
    assert "trained on 1 of the 4 scenarios, such as s1" in capsys.readouterr().err
    assert main([*argv, "--allow-seen"]) == 0
    notes = json.loads((tmp_path / "out" / "report.json").read_text())["notes"]
    assert "trained on 1 of the 4 scenarios" in notes[0]
    assert "trained over a 4-bit (NF4) base, evaluated over an unquantised one" in notes[1]


def test_an_adapter_whose_contract_differs_is_refused_before_anything_is_played(
    argv: list[str], make_adapter: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = make_adapter()
    contract = json.loads((adapter / "render.json").read_text())
    contract["template_sha256"] = "0" * 64
    (adapter / "render.json").write_text(json.dumps(contract))
    argv += ["--adapter", str(adapter), "--n", "1"]
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert "the render contract differs (chat template: trained with 000000000000" in err
    assert "--ignore-contract" in err
    assert not (tmp_path / "out").exists()

    assert main([*argv, "--ignore-contract"]) == 0
    assert "Render contract of tuned-1 ignored on request" in capsys.readouterr().out
    assert "Render contract of" in (tmp_path / "out" / "report.html").read_text()


def test_an_adapter_without_a_contract_is_refused_or_rendered_as_its_base(
    argv: list[str], make_adapter: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = make_adapter(seed=3)
    (adapter / "render.json").unlink()
    argv += ["--adapter", str(adapter), "--n", "1"]
    assert main(argv) == 2
    assert "found no render.json" in capsys.readouterr().err
    assert main([*argv, "--ignore-contract"]) == 0
    base, tuned = episodes(tmp_path)
    assert base["generations"][0]["prompt_sha256"] == tuned["generations"][0]["prompt_sha256"]


def test_a_contract_that_goes_away_meanwhile_is_refused(
    argv: list[str],
    make_adapter: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from tiararodney.sekft import model

    adapter = make_adapter(seed=4)
    real = model.attach_adapter

    def attach(*args: Any) -> None:
        real(*args)
        (adapter / "render.json").unlink()

    monkeypatch.setattr(model, "attach_adapter", attach)
    assert main([*argv, "--adapter", str(adapter), "--n", "1"]) == 2
    assert "found no render.json" in capsys.readouterr().err


def test_an_adapter_of_another_base_is_refused_before_anything_is_played(
    argv: list[str],
    make_adapter: Callable[..., Path],
    make_base: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wider = make_adapter(base=make_base(hidden_size=32, intermediate_size=64))
    assert main([*argv, "--adapter", str(wider)]) == 2
    err = capsys.readouterr().err
    assert "the adapter of another base" in err
    assert "Traceback" not in err
    assert (tmp_path / "out" / "episodes.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--base", "{tmp}/nope"], "no such folder"),
        (["--base", "{tmp}"], "not a model folder"),
        (["--adapter", "{tmp}/nope"], "a folder that sekft-train --out wrote"),
        (["--adapter", "{tmp}"], "found no adapter_config.json in it"),
        (["--out", "{base}/config.json"], "config.json is a file, expected a folder"),
        (["--out", "{base}/config.json/out"], "config.json is a file, expected a folder"),
        (["--out", "/proc/out"], "--out /proc/out: cannot write to /proc"),
        (["--device", "cuda:77"], "--device cuda:77"),
    ],
)
def test_folders_and_devices_that_do_not_fit_are_named(
    argv: list[str], flags: list[str], message: str, tmp_path: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*argv, *(flag.format(tmp=tmp_path, base=tiny_base) for flag in flags)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["a/tuned"], ["tuned"]),
        (["a/tuned", "b/tuned"], ["a/tuned", "b/tuned"]),
        (["first=a/tuned", "b/tuned"], ["first", "tuned"]),
        (["a/base"], ["a/base"]),
        (["base"], ["/here/base"]),
        (["tuned=a", "tuned"], ["tuned", "/here/tuned"]),
        (["owner/base"], ["owner/base"]),
    ],
)
def test_adapters_are_named_as_given_or_by_their_folders(
    given: list[str], names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "absolute", lambda self: Path("/here") / self)
    assert [name for name, _ in named_adapters(list(map(Path, given)))] == names


@pytest.mark.parametrize("given", [["a", "a"], ["x=a", "x=b"], ["base=a"]])
def test_names_that_do_not_tell_adapters_apart_are_refused(given: list[str]) -> None:
    with pytest.raises(UsageError, match="--adapter"):
        named_adapters(list(map(Path, given)))


def test_sampling_is_repeatable_by_its_seed(argv: list[str], tmp_path: Path) -> None:
    def play(folder: str, seed: int) -> list[Any]:
        flags = [a if a != str(tmp_path / "out") else str(tmp_path / folder / "out") for a in argv]
        assert main([*flags, "--temperature", "1.5", "--seed", str(seed), "--n", "2"]) == 0
        return sorted((e["scenario_id"], e["messages"]) for e in episodes(tmp_path / folder))

    assert play("a", 1) == play("b", 1) != play("c", 2)


def test_the_adapters_own_template_renders_what_the_recorded_prompt_was(
    make_adapter: Callable[..., Path], tiny_base: Path
) -> None:
    template = (tiny_base / "chat_template.jinja").read_text()
    assert (make_adapter() / "chat_template.jinja").read_text() == canonical_chat_template(template)


@pytest.mark.bwrap
def test_a_model_plays_in_real_worlds(
    tiny_base: Path, scenarios: Path, make_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    from tiararodney.posix_sdc.errors import NoRuntime
    from tiararodney.posix_sdc.world import resolve_runtime

    try:
        resolve_runtime("bwrap")
    except NoRuntime as error:
        pytest.skip(f"bwrap cannot be used here: {error}")
    flags = ["--n", "2", "--max-turns", "2", "--max-new-tokens", "6", "--device", "cpu", "--runtime", "bwrap", "-q"]
    models = ["--base", str(tiny_base), "--adapter", str(make_adapter())]
    assert main([*models, "--scenarios", str(scenarios), "--out", str(tmp_path / "out"), *flags]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["runtime"] == "bwrap"
    assert [(m["n"], m["infrastructure_errors"], m["rates"]["verified"]["k"]) for m in report["models"]] == [
        (2, 0, 0)
    ] * 2
    assert all(e["messages"][1]["content"].startswith("Today: s") for e in episodes(tmp_path))


def test_the_documented_ten_lines_run_as_they_stand(
    argv: list[str],
    make_adapter: Callable[..., Path],
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    adapter = make_adapter()
    (tmp_path / "base").symlink_to(tiny_base)
    (tmp_path / "adapter").symlink_to(adapter)
    (tmp_path / "eval").symlink_to(tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    assert main([*argv, "--adapter", "adapter", "--n", "1", "--batch-size", "1"]) == 0
    page = (Path(__file__).parents[2] / "docs" / "evaluate.md").read_text()
    section = page.split("## A recorded reply")[1].split("\n## ")[0]
    code = "\n".join(line[4:] for line in section.splitlines() if line.startswith("    "))
    assert "assert reply" in code
    names: dict[str, Any] = {}
    exec(code, names)  # the documentation's own lines
    assert len(names["turn"]["reply_ids"]) > 0


def test_an_interrupt_ends_replies_under_way(argv: list[str], monkeypatch: pytest.MonkeyPatch):
    """Else the end of the process waits for all of them: half a minute on a slow processor."""
    from tiararodney.sekft.eval import operators
    from tiararodney.sekft.eval.episodes import EpisodeLog
    from tiararodney.sekft.model import generate

    generators, waiting = [], threading.Event()

    class Slow(generate.Generator):
        def _step(self) -> Any:
            generators.append(self)
            waiting.wait(0.05)  # each token
            return super()._step()

    def interrupt(*_: Any) -> None:
        until = time.monotonic() + 60
        while not generators and time.monotonic() < until:
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr("tiararodney.sekft.model.Generator", Slow)
    monkeypatch.setattr(EpisodeLog, "append", interrupt)  # a baseline's episode is the first
    monkeypatch.setattr(operators, "stop_ids", lambda *_: frozenset())
    argv = [word for word in argv if word != "--no-baselines"]
    argv[argv.index("--max-new-tokens") + 1] = "1000"
    assert main(argv) == 130
    assert generators
    until = time.monotonic() + 60
    while generators[-1]._open and time.monotonic() < until:
        time.sleep(0.01)
    assert time.monotonic() < until
    waiting.set()
