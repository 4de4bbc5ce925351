"""What every console script shares."""

from __future__ import annotations

import argparse
import io
import logging
import os
import re
import signal
import subprocess
import sys

import pytest

from tiararodney.posix_sdc.errors import InfrastructureError, SchemaError
from tiararodney.sekft.console import configure_logs, naming_the_extra, run_cli, settle_libraries, wants_colour
from tiararodney.sekft.errors import ContractMismatch, RunFailed, UsageError


def raising(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("bad"), 2),
        (ContractMismatch("bad"), 2),
        (SchemaError("d.jsonl:7", "turns", "nothing", "a list"), 2),
        (RunFailed("bad"), 1),
        (InfrastructureError("bad"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_error_raised_on_purpose_is_one_message_and_a_code(capsys, error, code):
    assert run_cli(raising(error), "sekft-train") == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("sekft-train: ")
    assert err.count("\n") == 1
    assert str(error) in err


def test_what_the_work_returns_is_the_code():
    assert run_cli(lambda: 0) == 0
    assert run_cli(lambda: 1) == 1


def test_argparse_ends_a_command_by_its_code(capsys):
    parser = argparse.ArgumentParser(prog="some")
    assert run_cli(lambda: parser.parse_args(["--help"]) and 1) == 0
    assert run_cli(lambda: parser.parse_args(["--nonsense"]) and 1) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_missing_extra_is_bad_set_up_and_named_with_its_install_line():
    says = r"work needs the package torch.*pip install 'tiararodney\.sekft\[gpu\]'"
    with pytest.raises(UsageError, match=says), naming_the_extra("work"):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")
    for name in ("tiararodney.x", None):
        with pytest.raises(ModuleNotFoundError), naming_the_extra("work"):
            raise ModuleNotFoundError("some words", name=name)


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_cli(lambda: 1 // 0)


def test_a_term_signal_ends_the_work_as_an_interrupt():
    def work():
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    before = signal.getsignal(signal.SIGTERM)
    try:
        assert run_cli(work) == 130
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_reader_that_goes_away_is_no_failure():
    code = (
        "import sys\nfrom tiararodney.sekft.console import run_cli\n"
        "def work():\n    for _ in range(100000): print('x' * 80)\n    return 0\n"
        "sys.exit(run_cli(work))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(30) == 0
    process.stderr.close()


def test_another_pipe_that_breaks_is_no_readers_leaving():
    def work():
        read, write = os.pipe()
        os.close(read)
        os.write(write, b"x")
        return 0

    with pytest.raises(BrokenPipeError):
        run_cli(work)


def test_an_interruption_says_how_to_go_on(capsys):
    assert run_cli(raising(KeyboardInterrupt()), "some", "; do it again") == 130
    assert capsys.readouterr().err == "some: interrupted; do it again\n"


@pytest.mark.parametrize(("verbosity", "level"), [(-1, logging.WARNING), (0, logging.INFO), (1, logging.DEBUG)])
def test_logs_go_to_stderr_at_the_level_asked_for(capsys, verbosity, level):
    logger = logging.getLogger("tiararodney")
    saved = logger.handlers[:], logger.level, logger.propagate
    try:
        configure_logs(verbosity)
        assert logger.level == level
        logging.getLogger("tiararodney.sekft.test").warning("careful")
        out, err = capsys.readouterr()
        assert out == ""
        assert re.search(r"^\d\d:\d\d:\d\d (sekft.test: )?warning: careful$", err, re.MULTILINE)
        assert ("sekft.test" in err) is (verbosity > 0)
    finally:
        logger.handlers[:], logger.propagate = saved[0], saved[2]
        logger.setLevel(saved[1])


def test_colours_are_for_terminals_and_those_who_ask(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert not wants_colour(io.StringIO())
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert wants_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(io.StringIO())


@pytest.mark.parametrize(("policy", "turns"), [(None, "1000"), ("ACTIVE", None)])
def test_waiting_threads_spin_briefly_unless_told_otherwise(monkeypatch, policy, turns):
    settled = {} if policy is None else {"OMP_WAIT_POLICY": policy}
    monkeypatch.setattr(os, "environ", settled)
    settle_libraries()
    assert (settled["OMP_WAIT_POLICY"], settled.get("GOMP_SPINCOUNT")) == (policy or "PASSIVE", turns)
