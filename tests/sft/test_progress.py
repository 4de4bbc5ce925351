"""The progress line: redrawn on a terminal, rare in a pipe, a line a step with -v, none with -q."""

import json
import logging
import os
import pty
import re
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import pytest

torch = pytest.importorskip("torch", reason="needs torch (extra gpu)")
pytest.importorskip("peft", reason="needs peft (extra gpu)")

from tiararodney.sekft import console  # noqa: E402 - torch first, or the whole module is skipped
from tiararodney.sekft.sft import progress as progress_module  # noqa: E402
from tiararodney.sekft.sft.config import TrainConfig  # noqa: E402
from tiararodney.sekft.sft.progress import Progress, Teller  # noqa: E402
from tiararodney.sekft.sft.train import train  # noqa: E402

pytestmark = pytest.mark.torch

LINE = re.compile(
    r"step (\d+)/(\d+)  loss \d+\.\d{4}  accuracy \d+\.\d %  \d+ tokens/s \(\d+ trained\)  (\d+:)?\d+:\d\d left  "
    r"peak \d+\.\d\d GiB"
)


@pytest.fixture
def logs() -> Iterator[Callable[[int], None]]:
    """Set the logs' verbosity for one test."""
    logger = logging.getLogger("tiararodney")
    saved = logger.handlers[:], logger.level, logger.propagate
    yield console.configure_logs
    logger.handlers[:], logger.propagate = saved[0], saved[2]
    logger.setLevel(saved[1])


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[TextIO, Callable[[], str]]]:
    """A terminal to write to, and what was written to it when it is closed."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    ours, theirs = pty.openpty()
    written: list[bytes] = []

    def read() -> None:
        try:
            while part := os.read(ours, 4096):
                written.append(part)
        except OSError:  # the other end is closed
            return

    reader = threading.Thread(target=read)
    reader.start()
    stream = os.fdopen(theirs, "w")

    def close() -> str:
        if not stream.closed:
            stream.close()
            reader.join(10)
        return b"".join(written).decode()

    yield stream, close
    close()
    os.close(ours)


def test_on_a_terminal_one_line_is_redrawn_and_the_log_stands_above_it(
    configure: Callable[..., TrainConfig], terminal: Any, logs: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(progress_module, "REDRAW_EVERY", 0.0)
    stream, close = terminal
    monkeypatch.setattr(sys, "stderr", stream)
    logs(0)
    train(configure(epochs=6.0, checkpoint_every=4))
    text = close()
    drawn = re.findall(r"\r(step [^\r\n]*?)\x1b\[K", text)
    assert [int(LINE.fullmatch(line)[1]) for line in drawn] == list(range(1, len(drawn) + 1))
    assert len(drawn) > 10
    # what stays on the screen: after the last carriage return of each line
    stays = [line.rsplit("\r", 1)[-1].removeprefix("\x1b[K") for line in text.replace("\r\n", "\n").split("\n")]
    assert sum("step " in line and "tokens/s (" in line for line in stays) == 1, "only the last one stays"
    assert all(re.match(r"\d\d:\d\d:\d\d [A-Z]+ |$", line) for line in stays), stays


@pytest.mark.parametrize(("verbosity", "lines"), [(-1, 0), (0, 1), (1, None)])
def test_in_a_pipe_it_is_told_now_and_then_or_a_line_a_step_or_not_at_all(
    configure: Callable[..., TrainConfig],
    logs: Any,
    capsys: pytest.CaptureFixture[str],
    verbosity: int,
    lines: int | None,
):
    logs(verbosity)
    out = train(configure(epochs=6.0))
    captured = capsys.readouterr()
    told = [line for line in captured.err.splitlines() if LINE.search(line)]
    steps = json.loads((out / "training.json").read_text())["result"]["step"]
    assert steps > 10
    assert len(told) == (steps if lines is None else lines)
    assert "\r" not in captured.err
    assert captured.out == ""
    if verbosity < 0:
        assert captured.err == ""


def test_speed_and_time_left_are_of_this_process_and_not_of_the_run_before_it():
    entry = {"loss": 0.5, "accuracy": 0.25, "tokens": 100}
    resumed = Progress(step=10, tokens=1000, trained=100, seconds=1000.0)
    teller = Teller(resumed, steps=14, remaining=400, device="cpu")
    resumed.step, resumed.tokens, resumed.trained, resumed.seconds = 11, 1100, 130, 1002.0
    resumed.curve.append(entry)
    teller.tell(resumed)
    assert teller.line(resumed).startswith(
        "step 11/14  loss 0.5000  accuracy 25.0 %  50 tokens/s (15 trained)  0:06 left"
    )


def test_long_times_are_told_in_hours():
    teller = Teller(Progress(), steps=2, remaining=7384, device="cpu")
    told = Progress(step=1, tokens=1, trained=1, seconds=1.0, curve=[{"loss": 1.0, "accuracy": 0.0, "tokens": 0}])
    assert "2:03:04 left" in teller.line(told)
