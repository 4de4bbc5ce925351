"""The progress lines: now and then, a line a step with -v, none with -q."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

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


@pytest.mark.parametrize(("verbosity", "lines"), [(-1, 0), (0, 1), (1, None)])
def test_the_log_has_the_last_step_all_or_none(
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
