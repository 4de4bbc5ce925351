"""The demo sizes itself to the machine, shows that it works, and ends with its steps."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "examples" / "seed-to-weights" / "run.py"


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    if not SCRIPT.is_file():
        pytest.skip("needs the repository's examples")
    spec = importlib.util.spec_from_file_location("demo_run", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo_run"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("speed", [100, 150, 400, 5000])
@pytest.mark.parametrize("minutes", [10, 15, 60])
def test_a_plan_fits_into_the_time(demo: ModuleType, speed: float, minutes: float) -> None:
    plan = demo.plan(speed, 380, minutes * 60)
    assert plan.seconds <= minutes * 60
    assert 23 <= plan.worlds <= 400
    assert 3 <= plan.held_out <= 16


def test_a_faster_machine_and_more_time_give_more_worlds(demo: ModuleType) -> None:
    assert demo.plan(100, 380, 900).worlds < demo.plan(200, 380, 900).worlds < demo.plan(200, 380, 1800).worlds


def test_a_slow_machine_is_told_that_it_takes_longer(demo: ModuleType) -> None:
    assert demo.plan(5, 380, 900).seconds > 900


def test_a_silent_step_shows_that_it_is_at_work(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(demo, "QUIET", 1.0)
    started = time.monotonic()
    demo.step(sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(3); print('done')")
    assert time.monotonic() - started < 10
    out = capfdbinary.readouterr().out
    assert out.index(b"\nbegun\n") < out.index(b"... ") < out.index(b"\ndone\n")


def test_a_step_that_fails_ends_the_demo_with_its_command(demo: ModuleType) -> None:
    with pytest.raises(SystemExit, match="exit code 3 from: "):
        demo.step(sys.executable, "-c", "raise SystemExit(3)")


def test_every_step_of_the_demo_parses(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands are read by their own parsers; nothing is run."""
    from tiararodney.sekft.eval.config import parse as eval_flags
    from tiararodney.sekft.sft.config import read as train_flags

    taken: list[str] = []

    def parse(*words: str | Path) -> None:
        name, *flags = map(str, words)
        taken.append(name)
        if name == "sekft-eval":
            eval_flags(flags)
        elif name == "sekft-train":
            train_flags(flags)
        elif name == "posix-sdc" and flags[0] == "generate":
            assert "--n" in flags

    monkeypatch.setattr(demo, "step", parse)
    monkeypatch.setattr(demo, "measure", lambda *_: (200.0, 380.0))
    monkeypatch.setattr(demo, "runtime", lambda: "bwrap")
    monkeypatch.setattr(sys, "argv", ["run.py", str(tmp_path / "out")])
    assert demo.main() == 0
    assert taken.count("sekft-eval") == 2
    assert taken.count("sekft-train") == 2
    assert "this machine trains 200 tokens/s" in capsys.readouterr().out


def test_a_machine_without_a_runtime_is_refused_in_words(demo: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    from tiararodney.posix_sdc import world
    from tiararodney.posix_sdc.errors import NoRuntime

    def nothing(name: str) -> str:
        raise NoRuntime(f"found no {name}")

    monkeypatch.setattr(world, "resolve_runtime", nothing)
    monkeypatch.setattr(demo, "step", lambda *words: None)
    with pytest.raises(SystemExit, match=r"run\.py: found no auto"):
        demo.runtime()


def test_a_terminated_demo_terminates_its_step(tmp_path: Path) -> None:
    step = "import os, signal, time; signal.signal(signal.SIGTERM, lambda *_: exit(os.write(1, b'put away\\n') * 0));"
    # The signal may come while Python's own output is being written, which cannot be entered twice.
    step += " os.write(1, b'at work\\n'); time.sleep(60)"
    code = f"import run, sys; run.runtime = lambda: run.step(sys.executable, '-c', {step!r}); run.main()"
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    demo = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=SCRIPT.parent, stdout=subprocess.PIPE, text=True
    )
    assert demo.stdout is not None
    while demo.stdout.readline() != "at work\n":
        pass
    demo.terminate()
    assert "put away" in demo.stdout.read()
    assert demo.wait(20) == 143
