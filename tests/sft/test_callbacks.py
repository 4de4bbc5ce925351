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
from tiararodney.sekft.sft import callbacks  # noqa: E402
from tiararodney.sekft.sft.config import TrainConfig  # noqa: E402
from tiararodney.sekft.sft.train import train  # noqa: E402

pytestmark = pytest.mark.torch

LINE = re.compile(
    r"step (\d+)/(\d+)  loss \d+\.\d{4}  accuracy \d+\.\d %  \d+ tokens/s  (\d+:)?\d+:\d\d left  "
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
    monkeypatch.setattr(callbacks, "REDRAW_EVERY", 0.0)
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
    assert sum("step " in line and "tokens/s" in line for line in stays) == 1, "only the last one stays"
    assert all(re.match(r"\d\d:\d\d:\d\d \S|$", line) for line in stays), stays


@pytest.mark.parametrize(("verbosity", "lines"), [(-1, 0), (0, 1), (1, None)])
def test_a_pipe_gets_the_last_step_all_or_none(
    configure: Callable[..., TrainConfig],
    logs: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    verbosity: int,
    lines: int | None,
):
    monkeypatch.setattr(callbacks, "LOG_EVERY", float("inf"))
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
