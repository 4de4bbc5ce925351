"""Whole runs on the tiny model: what comes out, and what a run leaves behind however it ends."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")
pytest.importorskip("peft", reason="needs peft (extra gpu)")

from safetensors.torch import load_file  # noqa: E402 - torch first, or the whole module is skipped

from tiararodney.sekft.errors import RunFailed, UsageError  # noqa: E402
from tiararodney.sekft.model import (  # noqa: E402
    Generator,
    attach_adapter,
    fourbit,
    load_base,
    use_adapter,
)
from tiararodney.sekft.render import check_contract, render_prompt  # noqa: E402
from tiararodney.sekft.sft import sizing, trainer  # noqa: E402
from tiararodney.sekft.sft.callbacks import Judge, is_diverging, loss_limit  # noqa: E402
from tiararodney.sekft.sft.checkpoint import checkpoint_folder, newest_checkpoint  # noqa: E402
from tiararodney.sekft.sft.config import TrainConfig  # noqa: E402
from tiararodney.sekft.sft.train import train  # noqa: E402
from tiararodney.sekft.sft.trainer import row_loss  # noqa: E402

pytestmark = pytest.mark.torch

Configure = Callable[..., TrainConfig]
PROMPT = [{"role": "system", "content": "You are in a terminal."}, {"role": "user", "content": "total 4\n$ "}]


def weights(folder: Path) -> dict[str, Any]:
    return load_file(folder / "adapter_model.safetensors")


def same_bits(one: Path, other: Path) -> bool:
    left, right = weights(one), weights(other)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def curve(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]


def beside(config: TrainConfig) -> set[str]:
    """What lies where `--out` is written, besides the data."""
    return {path.name for path in config.out.parent.iterdir()} - {"trajectories"}


def test_the_loss_falls_and_the_folder_tells_all_of_the_run(configure: Configure):
    config = configure(epochs=4)
    out = train(config)
    losses = [entry["loss"] for entry in curve(out)]
    assert losses[-1] < 0.5 * losses[0]
    record = json.loads((out / "training.json").read_text())
    assert record["schema_version"] == 2
    assert record["config"]["learning_rate"] == 1e-2
    assert record["seed"] == 0
    assert record["data"]["training_examples"] == 12
    assert record["result"]["step"] == len(losses)
    assert set(record["versions"]) >= {"torch", "transformers", "peft", "python"}
    assert record["base"]["fingerprint"].startswith("sha256:")
    assert beside(config) == {"adapter"}, "nothing else is left behind"
    assert check_contract(out, load_base(config.base, device="cpu").tokenizer)


def test_plain_peft_and_transformers_load_it_and_reply_the_same(configure: Configure):
    config = configure(epochs=2)
    out = train(config)
    base = load_base(config.base, device="cpu", dtype="float32")
    attach_adapter(base, out, "tuned")
    ids = render_prompt(base.tokenizer, PROMPT)
    stop = base.tokenizer.control_tokens[base.tokenizer.eos_token]
    generator = Generator(base)
    plain = generator.generate([ids], {stop}, max_new_tokens=16)[0].ids
    with use_adapter(base, "tuned"):
        ours = generator.generate([ids], {stop}, max_new_tokens=16)[0].ids

    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    model = AutoPeftModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(out)
    prompt = tokenizer.apply_chat_template(PROMPT, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    assert prompt["input_ids"][0].tolist() == ids, "the template in the folder normalises by itself"
    reply = model.generate(**prompt, max_new_tokens=16, do_sample=False)[0, len(ids) :].tolist()
    assert ours == [token for token in reply if token != stop]
    assert ours != plain


def test_the_same_seed_gives_the_same_bits_and_another_seed_another_adapter(configure: Configure, tmp_path: Path):
    config = configure(max_steps=4)
    one = train(config)
    two = train(replace(config, out=tmp_path / "two"))
    three = train(replace(config, out=tmp_path / "three", seed=1))
    assert same_bits(one, two)
    assert not same_bits(one, three)


def test_rows_are_a_matter_of_memory_and_not_of_the_result(configure: Configure, tmp_path: Path):
    """The mean over all trained tokens of a step, in however many rows it is computed."""
    config = configure(max_steps=3, max_grad_norm=1e9)
    whole = curve(train(replace(config, tokens_per_row=10_000)))
    parts = curve(train(replace(config, out=tmp_path / "two", tokens_per_row=1)))
    for one, other in zip(whole, parts, strict=True):
        assert one["trained_tokens"] == other["trained_tokens"]
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)


@pytest.mark.parametrize("four_bit", [False, True])
def test_a_hot_base_is_bit_for_bit_as_before(configure: Configure, tiny_base: Path, four_bit: bool, tmp_path: Path):
    if four_bit:
        pytest.importorskip("bitsandbytes", reason="needs bitsandbytes (extra gpu)")
    base = load_base(
        tiny_base, four_bit=four_bit, device="cpu", dtype="bfloat16", dequantise=False if four_bit else None
    )
    ids = torch.tensor([list(range(5, 60))])
    with torch.no_grad():
        before = base.model(input_ids=ids).logits
    config = configure(max_steps=4, checkpoint_every=1)
    out = train(config, base)
    with torch.no_grad():
        assert torch.equal(base.model(input_ids=ids).logits, before)
    assert base.adapters.handle is None
    # an adapter in use before is in use after, and the second run gives what the first gave
    attach_adapter(base, out, "kept")
    with use_adapter(base, "kept"):
        again = train(replace(config, out=tmp_path / "again"), base)
        assert base.adapters.active == "kept"
    assert same_bits(out, again)
    with torch.no_grad():
        assert torch.equal(base.model(input_ids=ids).logits, before)


@pytest.mark.parametrize("guarded", [True, False])
def test_checkpoints_resume_and_saving_leave_a_packed_base_as_it_was_and_would_not_without_the_guard(
    configure: Configure, make_base: Callable[..., Path], guarded: bool, monkeypatch: pytest.MonkeyPatch
):
    """A forward repacks 4-bit weights on some CPUs, and reading them then is wrong; see `model.fourbit`."""
    functional = pytest.importorskip("bitsandbytes.functional", reason="needs bitsandbytes (extra gpu)")
    if not guarded:
        if not functional.has_avx512bf16():
            pytest.skip("this CPU has no AVX512-BF16, so bitsandbytes does not repack")
        monkeypatch.setattr(fourbit, "guard_against_repacking", lambda _model: 0)
        monkeypatch.setattr("tiararodney.sekft.sft.step.check._difference", lambda *_: None)  # it would notice
    folder = make_base(hidden_size=256, intermediate_size=512, num_attention_heads=4)
    base = load_base(folder, four_bit=True, device="cpu", dequantise=False)
    ids = torch.tensor([list(range(5, 60))])
    with torch.no_grad():
        before = base.model(input_ids=ids).logits
    config = configure(base=folder, checkpoint_every=1, dtype="bfloat16", load_4bit=True)
    asked = iter([False] * 4 + [True] * 100)
    with pytest.raises(KeyboardInterrupt):
        train(config, base, should_stop=lambda: next(asked))
    out = train(replace(config, resume=True), base)
    attach_adapter(base, out, "tuned")
    base.model.state_dict()  # what plain peft's save_pretrained asks for
    with torch.no_grad():
        assert torch.equal(base.model(input_ids=ids).logits, before) is guarded


def test_a_packed_four_bit_base_trains_as_its_dequantised_twin(configure: Configure, tiny_base: Path, tmp_path: Path):
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes (extra gpu)")
    outs = []
    for keep in (False, True):
        base = load_base(tiny_base, four_bit=True, device="cpu", dequantise=keep)
        outs.append(train(configure(max_steps=3, out=tmp_path / f"keep-{keep}"), base))
    assert same_bits(*outs)


# ---- however a run ends


def test_a_run_that_is_stopped_leaves_a_checkpoint_and_resumes_to_the_same_bits(configure: Configure, tmp_path: Path):
    config = configure(epochs=3, validation_fraction=0.2, validate_every=2)
    unbroken = train(replace(config, out=tmp_path / "unbroken"))
    asked = iter([False] * 9 + [True] * 100)
    with pytest.raises(KeyboardInterrupt):
        train(config, should_stop=lambda: next(asked))
    assert beside(config) == {"unbroken", "adapter.checkpoint"}
    with pytest.raises(UsageError, match="--resume"):
        train(config)
    resumed = train(replace(config, resume=True))
    assert same_bits(unbroken, resumed)
    keys = ("step", "loss", "validation_loss")
    left, right = ([{key: entry.get(key) for key in keys} for entry in curve(out)] for out in (unbroken, resumed))
    assert left == right
    assert beside(config) == {"unbroken", "adapter"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_signal_ends_a_slow_micro_batch_at_once(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, where: str
):
    config = configure(epochs=2, validation_fraction=0.2)
    unbroken = train(replace(config, out=tmp_path / "unbroken"))
    rows = iter(range(1000))

    def slow() -> None:
        os.kill(os.getpid(), number)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            time.sleep(0.01)

    def loss(*args: Any, **kwargs: Any) -> Any:
        out = row_loss(*args, **kwargs)
        if next(rows) == 4:
            slow() if where == "forward" else out.total.register_hook(lambda _: slow())
        return out

    monkeypatch.setattr("tiararodney.sekft.sft.trainer.row_loss", loss)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        train(config)
    assert time.monotonic() - began < 30
    assert beside(config) == {"unbroken", "adapter.checkpoint"}
    assert same_bits(unbroken, train(replace(config, resume=True)))


def test_a_checkpoint_of_another_run_is_refused(configure: Configure):
    config = configure()
    asked = iter([False] * 4 + [True] * 100)
    with pytest.raises(KeyboardInterrupt):
        train(config, should_stop=lambda: next(asked))
    with pytest.raises(UsageError, match=r"learning_rate was 0\.01, here it is 0\.02"):
        train(replace(config, resume=True, learning_rate=2e-2))
    assert train(replace(config, overwrite=True, max_steps=1)).is_dir()
    assert beside(config) == {"adapter"}


COMMAND = "import sys; from tiararodney.sekft.sft.cli import main; sys.exit(main())"


def _run(config: TrainConfig, *more: str) -> list[str]:
    paths = ["--data", str(config.data[0]), "--base", str(config.base), "--out", str(config.out)]
    flags = {
        "--dtype": "float32",
        "--device": "cpu",
        "--lora-r": "4",
        "--lora-alpha": "8",
        "--learning-rate": "0.01",
        "--tokens-per-batch": "300",
        "--epochs": "40",
        "--checkpoint-every": "1",
    }
    return [sys.executable, "-c", COMMAND, *paths, *(word for flag in flags.items() for word in flag), "-v", *more]


def _start(config: TrainConfig, *more: str) -> "subprocess.Popen[str]":
    """Start a run in a process of its own and wait for its first checkpoint."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(
        _run(config, *more), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while newest_checkpoint(checkpoint_folder(config.out)) is None:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_with_130_and_no_half_written_folder(configure: Configure, number: signal.Signals):
    config = configure()
    process = _start(config)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert stdout == ""
    assert beside(config) == {"adapter.checkpoint"}


def test_a_run_that_diverges_says_so_and_keeps_the_checkpoint(configure: Configure, monkeypatch: pytest.MonkeyPatch):
    real = trainer.row_loss
    calls = iter(range(1000))

    def poisoned(*args: Any, **how: Any) -> Any:
        loss = real(*args, **how)
        return replace(loss, total=loss.total * float("nan")) if next(calls) == 4 else loss

    monkeypatch.setattr(trainer, "row_loss", poisoned)
    config = configure(checkpoint_every=2)
    with pytest.raises(RunFailed, match="diverged"):
        train(config)
    assert beside(config) == {"adapter.checkpoint"}


def test_a_loss_that_rises_out_of_hand_stops_the_run_and_the_checkpoint_is_of_before(
    configure: Configure, tmp_path: Path
):
    good = train(configure(out=tmp_path / "good", epochs=12.0))
    config = configure(init_adapter=good, lr_schedule="constant", warmup_ratio=0.0, epochs=20.0, max_grad_norm=1e9)
    config = replace(config, checkpoint_every=1, lora_r=16, lora_alpha=32.0)
    with pytest.raises(RunFailed, match=r"for 5 steps.*the run diverged.*--learning-rate \(here 50"):
        train(replace(config, learning_rate=50.0))
    assert beside(config) == {"good", "adapter.checkpoint"}
    state = json.loads((newest_checkpoint(checkpoint_folder(config.out)) / "trainer_state.json").read_text())
    losses = [entry["loss"] for entry in state["log_history"] if "loss" in entry]
    assert losses[-1] <= loss_limit(losses), "no checkpoint is written by a run that is on its way out"
    out = train(replace(config, learning_rate=50.0, divergence_steps=0, overwrite=True, max_steps=8))
    assert max(entry["loss"] for entry in curve(out)) > loss_limit(losses), "the switch lets it go on"


def test_a_high_loss_now_and_then_is_no_divergence():
    assert is_diverging([1.0, *[3.1] * 5], 5)
    assert not is_diverging([1.0, *[3.1] * 4], 5)
    assert not is_diverging([1.0, *[3.1] * 4, 2.9, *[3.1] * 4], 5)
    assert not is_diverging([], 5)
    assert not is_diverging([1.0, *[9.0] * 9], 0)


def test_a_trained_start_does_not_diverge_at_an_ordinary_loss():
    assert not is_diverging([0.1, *[1.3] * 5], 5)


@pytest.mark.parametrize("message", ["DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes", ""])
def test_one_example_that_does_not_fit_is_told_and_another_fault_keeps_its_traceback(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, message: str
):
    def crowded(*_: Any, **__: Any) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(trainer, "row_loss", crowded)
    expected = RunFailed if message else RuntimeError
    with pytest.raises(expected, match="one session of" if message else "^$"):
        train(configure(max_steps=1))


def test_rows_are_halved_when_memory_runs_out(configure: Configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    config = configure(max_steps=3)
    expected = train(config)
    real = trainer.row_loss

    def cramped(model: Any, row: Any, *args: Any, **how: Any) -> Any:
        if len(row.lengths) > 1:
            raise torch.OutOfMemoryError("no room for two")
        return real(model, row, *args, **how)

    monkeypatch.setattr(trainer, "row_loss", cramped)
    out = train(replace(config, out=tmp_path / "cramped"))
    assert json.loads((out / "training.json").read_text())["result"]["row_tokens"] < 500
    for one, other in zip(curve(expected), curve(out), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)


def test_a_session_that_does_not_fit_is_recomputed(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    config = configure(max_steps=3, tokens_per_row=1)
    expected = train(replace(config, out=tmp_path / "always", gradient_checkpointing="always"))
    real, plain = trainer.row_loss, []

    def cramped(model: Any, row: Any, *args: Any, recompute: bool, **how: Any) -> Any:
        if not recompute:
            plain.append(row.tokens)
            raise torch.OutOfMemoryError("no room for all layers")
        return real(model, row, *args, recompute=recompute, **how)

    monkeypatch.setattr(trainer, "row_loss", cramped)
    out = train(config)
    assert plain == sorted(set(plain), reverse=True), "each size fails once"
    assert json.loads((out / "training.json").read_text())["result"]["plain_tokens"] < min(plain)
    assert same_bits(out, expected)
    with pytest.raises(RunFailed, match="Let --gradient-checkpointing be auto"):
        train(replace(config, out=tmp_path / "never", gradient_checkpointing="never"))


@pytest.mark.parametrize("route", ["fused", "transformers"])
def test_a_step_that_ran_out_of_memory_midway_starts_clean(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, route: str
):
    """The gradients that the failed attempt had added are gone: one more row would show in the norm."""
    config = configure(
        max_steps=3,
        tokens_per_batch=1000,
        tokens_per_row=450,
        epochs=6.0,
        lora_dropout=0.0 if route == "fused" else 0.2,
    )
    expected = curve(train(replace(config, out=tmp_path / "roomy", tokens_per_row=150)))
    real, calls = trainer.row_loss, []

    def cramped(model: Any, row: Any, *args: Any, **how: Any) -> Any:
        calls.append(len(row.lengths))
        if len(calls) == 2:
            raise torch.AcceleratorError("CUDA error: out of memory")
        return real(model, row, *args, **how)

    monkeypatch.setattr(trainer, "row_loss", cramped)
    found = curve(train(replace(config)))
    assert max(calls[:2]) > 1
    if route == "fused":  # dropout draws by rows
        for one, other in zip(expected, found, strict=True):
            assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)
    assert all(entry["grad_norm"] < 100 for entry in found)


def test_a_resumed_run_goes_on_recomputing(configure: Configure, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sizing, "free_memory", lambda _: 1)
    config = configure(max_steps=3, checkpoint_every=1, tokens_per_batch=400)
    stops = iter([False] * 3)
    with pytest.raises(KeyboardInterrupt):
        train(config, should_stop=lambda: next(stops, True))
    monkeypatch.undo()
    out = train(replace(config, resume=True))
    result = json.loads((out / "training.json").read_text())["result"]
    assert (result["plain_tokens"], result["row_tokens"]) == (1, sizing.LEAST)


@contextmanager
def _files_up_to(size: int) -> Iterator[None]:
    """Let this process write no file longer than that, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_full_disk_is_an_error_and_loses_no_training(configure: Configure):
    config = configure(max_steps=3)
    with _files_up_to(10_000), pytest.raises(RunFailed, match=r"cannot write it: .*(large|[Ff]ile|I/O)"):
        train(config)
    assert beside(config) == set()
    assert train(config).is_dir()


def test_a_failed_final_write_keeps_folder_and_checkpoint(configure: Configure, monkeypatch: pytest.MonkeyPatch):
    from tiararodney.sekft.sft import adapter

    def fails(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    config = configure(max_steps=3, checkpoint_every=0)
    monkeypatch.setattr(adapter, "save_file", fails)
    with pytest.raises(RunFailed, match=r"No space left on device.*stays in .*adapter\.writing-"):
        train(config)
    monkeypatch.undo()
    assert newest_checkpoint(checkpoint_folder(config.out)).name == "checkpoint-3"
    monkeypatch.setattr(trainer, "row_loss", fails)  # nothing is computed again
    assert len(curve(train(replace(config, resume=True)))) == 3
    assert beside(config) == {"adapter"}


def test_a_picture_or_a_card_that_fails_costs_no_training(configure: Configure, monkeypatch: pytest.MonkeyPatch):
    from tiararodney.sekft.sft import adapter

    def fails(*_: Any) -> None:
        raise RuntimeError("no font")

    monkeypatch.setattr(adapter, "draw_curve", fails)
    monkeypatch.setattr(adapter, "model_card", fails)
    out = train(configure(max_steps=1))
    assert not {"curve.png", "README.md"} & {file.name for file in out.iterdir()}
    assert weights(out)


def test_a_disk_that_is_full_at_a_checkpoint_keeps_the_one_before(configure: Configure):
    config = configure(checkpoint_every=1)
    _stop_after_some(config)
    before = newest_checkpoint(checkpoint_folder(config.out))
    with _files_up_to(10_000), pytest.raises(RunFailed, match="cannot write it"):
        train(replace(config, resume=True))
    assert newest_checkpoint(checkpoint_folder(config.out)) == before
    assert train(replace(config, resume=True)).is_dir()


def _stop_after_some(config: TrainConfig) -> None:
    asked = iter([False] * 4 + [True] * 100)
    with pytest.raises(KeyboardInterrupt):
        train(config, should_stop=lambda: next(asked))


@pytest.mark.parametrize("how", ["truncated", "bit flipped", "file missing", "no manifest"])
def test_a_torn_checkpoint_is_skipped_for_the_one_before(
    configure: Configure, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, how: str
):
    import logging

    monkeypatch.setattr(logging.getLogger("tiararodney"), "propagate", True)
    config = configure(checkpoint_every=1, max_steps=6, epochs=6.0)
    unbroken = train(replace(config, out=tmp_path / "unbroken"))
    asked = iter([False] * 4 + [True] * 100)
    with pytest.raises(KeyboardInterrupt):
        train(config, should_stop=lambda: next(asked))
    newest = newest_checkpoint(checkpoint_folder(config.out))
    file = newest / ("manifest.json" if how == "no manifest" else "optimizer.pt")
    data = file.read_bytes()
    if how in ("file missing", "no manifest"):
        file.unlink()
    else:
        file.write_bytes(data[:100] if how == "truncated" else data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
    assert newest_checkpoint(checkpoint_folder(config.out)) not in (newest, None)
    assert any("damaged" in message and newest.name in message for message in caplog.messages)
    assert same_bits(unbroken, train(replace(config, resume=True)))


def test_damaged_checkpoints_of_later_steps_leave_room_for_new_ones(
    configure: Configure, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """Such as those of an earlier version, which count as damaged."""
    import logging

    monkeypatch.setattr(logging.getLogger("tiararodney"), "propagate", True)
    config = configure(checkpoint_every=1, max_steps=6, epochs=6.0)
    for step in (50, 60):
        folder = checkpoint_folder(config.out) / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text('{"progress.json": "0"}')
    asked = iter([False] * 4 + [True] * 100)
    with pytest.raises(KeyboardInterrupt):
        train(replace(config, resume=True), should_stop=lambda: next(asked))
    assert newest_checkpoint(checkpoint_folder(config.out)) is not None
    assert "checkpoint-60 is damaged (its manifest.json is of another version)" in caplog.text


def test_an_adapter_that_the_lock_puts_back_is_refused_first(configure: Configure):
    """A kill while it was replaced had left it aside."""
    config = configure()
    aside = config.out.with_name(f".{config.out.name}.replaced")
    aside.mkdir()
    (aside / "adapter_config.json").touch()
    with pytest.raises(UsageError, match=r"exists\. Name a new folder"):
        train(config)
    assert (config.out / "adapter_config.json").exists()


def test_resume_with_nothing_to_resume_says_so(
    configure: Configure, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    import logging

    monkeypatch.setattr(logging.getLogger("tiararodney"), "propagate", True)
    train(configure(max_steps=1, resume=True))
    assert any("no checkpoint in" in message and "step 0" in message for message in caplog.messages)


def test_two_runs_do_not_write_one_folder(configure: Configure):
    from tiararodney.sekft.folders import locked

    config = configure(max_steps=1)
    with locked(config.out), pytest.raises(UsageError, match=rf"process {os.getpid()} writes it"):
        train(config)
    assert train(config).is_dir()


def test_early_stopping_keeps_the_weights_that_validated_best(configure: Configure):
    config = configure(epochs=30, validation_fraction=0.3, validate_every=1, patience=2, learning_rate=0.2)
    out = train(config)
    record = json.loads((out / "training.json").read_text())
    values = {entry["step"]: entry["validation_loss"] for entry in curve(out) if "validation_loss" in entry}
    best = min(values, key=lambda step: (values[step], step))
    assert record["result"]["best_step"] == best
    assert record["result"]["best"] == values[best]
    assert record["result"]["step"] == best + 2, "two validations without a better loss"
    assert record["data"]["validation_examples"] > 0


def test_patience_heeds_the_success_rate_where_worlds_judge(configure: Configure):
    rates = iter(range(1, 100))
    judge = Judge(1, lambda: next(rates) / 100, {})
    out = train(configure(max_steps=6, epochs=6.0, validation_fraction=0.2, patience=2), judge=judge)
    result = json.loads((out / "training.json").read_text())["result"]
    assert (result["step"], result["best_step"], result["best"]) == (6, 6, 0.06)


# ---- what is left out


def test_examples_over_max_length_are_left_out_whole_counted_and_named(
    configure: Configure, data: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    import logging

    monkeypatch.setattr(logging.getLogger("tiararodney"), "propagate", True)
    long = json.loads((data / "01.json").read_text()) | {"id": "the-long-one"}
    long["turns"][1]["content"] = "word " * 400 + "\n$ "
    (data / "99.json").write_text(json.dumps(long))
    out = train(configure(max_length=300, max_steps=1))
    counts = json.loads((out / "training.json").read_text())["data"]
    assert (counts["over_max_length"], counts["training_examples"]) == (1, 12)
    assert any("the-long-one" in message and "--max-length" in message for message in caplog.messages)


def test_nothing_left_to_train_on_is_a_usage_error(configure: Configure):
    with pytest.raises(UsageError, match=r"over --max-length \(5 tokens\)"):
        train(configure(max_length=5))


def test_an_out_that_exists_is_refused_before_anything_is_loaded(configure: Configure):
    config = configure(base=Path("nowhere"))
    config.out.mkdir()
    (config.out / "precious.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        train(config)
    with pytest.raises(UsageError, match="replaces adapters only"):
        train(replace(config, overwrite=True))
    assert (config.out / "precious.txt").read_text() == "mine"


def test_target_modules_that_the_base_lacks_are_a_usage_error(configure: Configure):
    with pytest.raises(UsageError, match="nonsense"):
        train(configure(target_modules="nonsense"))
