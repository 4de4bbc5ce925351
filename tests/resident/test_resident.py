"""A resident goes on whatever its jobs do, and its base stays what it was."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tiararodney.posix_sdc.errors import SchemaError
from tiararodney.sekft.errors import RunFailed, UsageError
from tiararodney.sekft.resident import commands, state
from tiararodney.sekft.resident.cli import main
from tiararodney.sekft.resident.commands import run_line, serve_lines
from tiararodney.sekft.resident.state import Probe, Resident

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def hollow(monkeypatch: pytest.MonkeyPatch) -> Resident:
    """Return a resident without a model, whose base never changes."""
    monkeypatch.setattr(state, "probe", lambda _: Probe("same", b""))
    monkeypatch.setattr(commands, "put_away", lambda _: None)
    settled = {"base": Path("base"), "load_4bit": False, "device": "cpu", "dtype": "float32"}
    base: Any = SimpleNamespace(settings=lambda: settled, adapters=SimpleNamespace(folders={}))
    return Resident(base, Probe("same", b""), generator=None)  # type: ignore[arg-type]  # no test here generates


def failing(error: BaseException) -> Callable[..., None]:
    def job(*_: Any) -> None:
        raise error

    return job


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UsageError("--data: nothing there"), "train: --data: nothing there"),
        (RunFailed("disk full"), "train: disk full"),
        (ValueError("a defect of ours"), "train: ValueError: a defect of ours"),
        (KeyboardInterrupt(), "train: interrupted; the base stays loaded"),
    ],
)
def test_a_job_that_fails_prints_its_message_and_the_next_one_runs(
    hollow: Resident,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    message: str,
) -> None:
    monkeypatch.setitem(commands.COMMANDS, "train", failing(error))  # type: ignore[arg-type]
    assert serve_lines(hollow, io.StringIO("train --data x\nadapters\n")) == 1
    out, err = capsys.readouterr()
    assert err.strip().splitlines()[-1] == message
    assert "no adapters" in out
    assert [(job.line, bool(job.code)) for job in hollow.jobs] == [("train --data x", True), ("adapters", False)]


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ("", 0),
        ("\n# nothing\n", 0),
        ("help\nquit\nnope\n", 0),
        ("?\nexit\nnope\n", 0),
        ("nope\n", 1),
        ("adapters too many\n", 1),
        ('load "x\n', 1),
        ("eval --nonsense\nhelp\n", 1),
        ("eval --help\n", 0),
        ("load nowhere\n", 1),
        ("unload x\n", 1),
    ],
)
def test_a_piped_run_fails_if_a_line_failed(hollow: Resident, lines: str, code: int) -> None:
    assert serve_lines(hollow, io.StringIO(lines)) == code


def test_a_typo_names_the_command_that_was_meant(hollow: Resident, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve_lines(hollow, io.StringIO("trian --data x\n")) == 1
    assert capsys.readouterr().err == "trian: no such command; did you mean train? `help` lists them.\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("load", "load: found 0 arguments. Attach an adapter: load DIR|NAME [NAME]."),
        ("load a b c", "load: found 3 arguments. Attach an adapter: load DIR|NAME [NAME]."),
        ("unload", "unload: found 0 arguments. Take an adapter off: unload NAME."),
        ("sweep a b", ("sweep: found 2 arguments. Train and evaluate a list or grid of runs, with a leaderboard: sweep "
         "FILE.yaml.")),
        ("status now", ("status: found 1 argument. Show memory, adapters and queue, and check that the base is "
         "unchanged: status.")),
        ("cancel 1 2", "cancel: found 2 arguments. Cancel the job that runs, or one that waits: cancel [NUMBER]."),
        ("cancel 1", "cancel: found no job 1. Running or waiting: none."),
        ("quit now", "quit: found 1 argument. End the resident: quit."),
    ],
)  # fmt: skip
def test_a_command_with_other_arguments_says_how_it_is_used(
    hollow: Resident, line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not run_line(hollow, line)
    assert hollow.jobs[-1].code == 2
    assert capsys.readouterr().err.splitlines()[-1] == message
    assert not hollow.quitting


def test_help_lists_every_command_once(hollow: Resident, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_line(hollow, "help")
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()[:-1]]
    assert listed == list(commands.COMMANDS)


def test_quit_ends_the_lines_and_nothing_after_it_runs(hollow: Resident) -> None:
    assert serve_lines(hollow, io.StringIO("help\nexit\nhelp\n")) == 0
    assert hollow.quitting
    assert [job.line for job in hollow.jobs] == ["help", "exit"]


def test_errors_of_posix_sdc_are_told_without_their_class(
    hollow: Resident, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = SchemaError("d.jsonl:7", "turns", "nothing", "a list")
    monkeypatch.setitem(commands.COMMANDS, "train", failing(error))  # type: ignore[arg-type]
    serve_lines(hollow, io.StringIO("train\n"))
    assert capsys.readouterr().err == f"train: {error}\n"


def test_the_base_is_not_hashed_for_a_line_that_touches_no_model(
    hollow: Resident, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(state, "probe", lambda _: pytest.fail("hashed"))
    with caplog.at_level("INFO"):
        assert serve_lines(hollow, io.StringIO("nope\nadapters\n")) == 1
    assert caplog.text == ""


def completions(resident: Resident, line: str) -> list[str]:
    prompt = pytest.importorskip("tiararodney.sekft.resident.prompt", reason="needs prompt_toolkit (extra gpu)")
    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document

    found = prompt.LineCompleter(resident).get_completions(Document(line, len(line)), CompleteEvent())
    return [completion.text for completion in found]


def test_tab_completes_commands_flags_adapters_and_paths(
    hollow: Resident, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "worlds").mkdir()
    monkeypatch.chdir(tmp_path)
    hollow.trained["tuned"] = tmp_path / "tuned"
    assert completions(hollow, "ev") == ["eval "]
    assert completions(hollow, "train --lora-r") == ["--lora-r "]
    assert "--base " not in completions(hollow, "train --")
    assert completions(hollow, "eval --adapter tu") == ["tuned "]
    assert completions(hollow, "unload tu") == ["tuned "]
    assert completions(hollow, "eval --scenarios wor") == ["lds"]


def test_history_is_kept_between_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = pytest.importorskip("tiararodney.sekft.resident.prompt", reason="needs prompt_toolkit (extra gpu)")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    prompt._history().store_string("train --data x")
    assert list(prompt._history().load_history_strings()) == ["train --data x"]
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    assert list(prompt._history().load_history_strings()) == []


def test_a_base_that_changed_ends_the_resident(hollow: Resident, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(commands.COMMANDS, "train", lambda *_: None)  # type: ignore[arg-type]
    monkeypatch.setattr(state, "probe", lambda _: Probe("other", b""))
    with pytest.raises(RunFailed, match="the base is no longer what it was"):
        run_line(hollow, "train")


def test_a_known_name_stands_for_its_folder(hollow: Resident, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tiararodney.sekft.eval import cli

    got: list[str] = []
    monkeypatch.setattr(cli, "run", lambda args, **_: got.extend(args))
    hollow.trained["tuned"] = tmp_path / "tuned"
    assert run_line(hollow, "eval --adapter tuned --adapter=tuned --n tuned --adapter other")
    named = f"tuned={tmp_path / 'tuned'}"
    assert got == ["--adapter", named, f"--adapter={named}", "--n", "tuned", "--adapter", "other"]


def test_names_are_the_folders_and_free(hollow: Resident, tmp_path: Path) -> None:
    hollow.trained["tuned"] = tmp_path / "a" / "tuned"
    assert hollow.name_for(tmp_path / "a" / "tuned") == "tuned"
    assert hollow.name_for(tmp_path / "b" / "tuned") == "tuned-2"
    assert hollow.name_for(tmp_path / "v1.5") == "v1-5"
    assert hollow.name_for(tmp_path / "base") == "base-2"


@pytest.mark.torch
def test_the_probe_sees_one_changed_bit(resident: Resident) -> None:
    import torch

    assert "bit for bit" in state.unchanged(resident)
    weight = next(p for name, p in resident.base.model.named_parameters() if "down_proj" in name)
    with torch.no_grad():
        weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(10.0))
    with pytest.raises(RunFailed, match="no longer what it was"):
        state.unchanged(resident)


@pytest.mark.torch
@pytest.mark.bwrap
def test_train_evaluate_load_and_unload_on_one_hot_base(
    resident: Resident, data: Path, scenarios: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tiararodney.posix_sdc.errors import NoRuntime
    from tiararodney.posix_sdc.world import resolve_runtime

    try:
        resolve_runtime("bwrap")
    except NoRuntime as error:
        pytest.skip(f"bwrap cannot be used here: {error}")
    adapter, out = tmp_path / "tuned", tmp_path / "eval"
    lines = f"""\
    train --data {data} --out {adapter} --epochs 1 --lora-r 2
    train --data {data} --out {adapter}
    eval --adapter tuned --scenarios {scenarios} --out {out} --max-turns 2 --max-new-tokens 4 --runtime bwrap
    load tuned hot
    load {data}
    adapters
    unload hot
    status
    """
    assert serve_lines(resident, io.StringIO(lines)) == 1
    failed = [job.line.strip().split()[0] for job in resident.jobs if bool(job.code)]
    assert failed == ["train", "load"]  # the folder is there already; a file is no adapter
    printed = capsys.readouterr().out
    assert f"hot    loaded        {adapter}" in printed
    assert "bit for bit as at the start" in printed
    report = json.loads((out / "report.json").read_text())
    assert [(m["name"], m["n"], m["contract"]) for m in report["models"]] == [
        ("base", 1, "none"),
        ("tuned", 1, "match"),
    ]
    assert resident.base.adapters.folders == {}


@pytest.mark.torch
def test_a_base_that_is_no_model_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="needs torch (extra gpu)")
    assert main(["--base", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "not a model folder" in err
    assert "Traceback" not in err


def test_without_torch_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [n for n in sys.modules if n.split(".")[:3] == ["tiararodney", "sekft", "model"]]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["--base", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "needs the package torch" in err
    assert "Traceback" not in err


@pytest.mark.torch
def test_without_the_serving_packages_the_message_says_what_to_install(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "tiararodney.sekft.resident.serving.app", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert main(["--base", str(tiny_base), "--device", "cpu", "--serve", "127.0.0.1:0", "-q"]) == 2
    assert "--serve needs the package prometheus_client. Install it: pip install" in capsys.readouterr().err


@pytest.mark.torch
def test_ctrl_c_ends_the_job_and_term_the_resident(tiny_base: Path, tmp_path: Path) -> None:
    """A job that reads from a pipe nobody writes to stands for one that takes long."""
    endless = tmp_path / "pipe.jsonl"
    os.mkfifo(endless)
    command = [sys.executable, "-m", "tiararodney.sekft.resident.cli", "--base", str(tiny_base), "--device", "cpu"]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None

        def tell(line: str) -> None:
            process.stdin.write(line + "\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]

        tell("status")
        assert process.stdout.readline().startswith("base")
        tell(f"eval --scenarios {endless} --out {tmp_path / 'out'}")
        hold = os.open(endless, os.O_WRONLY)  # returns when the job has opened it
        _wait_until_it_sleeps(process.pid)
        process.send_signal(signal.SIGINT)
        assert any("interrupted; the base stays loaded" in line for line in process.stderr)
        os.close(hold)
        tell("adapters")
        assert any(line.startswith("no adapters") for line in process.stdout)
        tell(f"eval --scenarios {endless} --out {tmp_path / 'out'}")
        hold = os.open(endless, os.O_WRONLY)
        _wait_until_it_sleeps(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
        os.close(hold)


def _wait_until_it_sleeps(pid: int) -> None:
    """Wait for a process to be in the read that blocks: of a signal just before it Python would tell only after it."""
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        assert time.monotonic() < deadline
        time.sleep(0.01)
