"""Jobs from other terminals: sent over a socket of the user's own, streamed, cancelled one by one."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tiararodney.sekft import residents
from tiararodney.sekft.errors import RunFailed, UsageError
from tiararodney.sekft.eval.cli import main as eval_main
from tiararodney.sekft.resident import commands, listen, state
from tiararodney.sekft.resident.commands import run_line
from tiararodney.sekft.resident.listen import listening
from tiararodney.sekft.resident.state import Probe, Resident
from tiararodney.sekft.sft.cli import main as train_main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedRWPair


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder / "sekft"


@pytest.fixture
def hollow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Resident:
    """Return a resident without a model, whose base never changes."""
    monkeypatch.setattr(state, "probe", lambda _: Probe("same", b""))
    monkeypatch.setattr(commands, "put_away", lambda _: None)
    settled = {"base": tmp_path / "base", "load_4bit": False, "device": "cpu", "dtype": "float32"}
    base: Any = SimpleNamespace(
        settings=lambda: settled, adapters=SimpleNamespace(folders={}), path=tmp_path / "base", four_bit=False,
        dtype="float32", device="cpu",
    )  # fmt: skip
    return Resident(base, Probe("same", b""), generator=None)  # type: ignore[arg-type]  # no test here generates


@pytest.fixture
def listens(hollow: Resident) -> Iterator[Resident]:
    with listening(hollow, "main"):
        yield hollow


def command(monkeypatch: pytest.MonkeyPatch, name: str, action: Callable[..., Any]) -> None:
    monkeypatch.setitem(commands.COMMANDS, name, action)  # type: ignore[arg-type]


def endless(resident: Resident, *_: str) -> None:
    print("begun", flush=True)
    while not resident.should_stop():
        time.sleep(0.01)
    raise KeyboardInterrupt


def test_a_job_runs_there_and_its_output_comes_here(
    listens: Resident, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []

    def job(_: Resident, *args: str) -> int:
        seen.append((list(args), os.getcwd()))  # noqa: PTH109
        print("result")
        print("progress", file=sys.stderr)
        return 1

    command(monkeypatch, "train", job)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    here = os.getcwd()  # noqa: PTH109
    monkeypatch.chdir(elsewhere)
    assert train_main(["--resident", "main", "--data", "x", "--out", "y"]) == 1
    monkeypatch.chdir(here)
    out, err = capsys.readouterr()
    assert out == "result\n"
    assert "progress" in err  # the log of the resident, in this same process, may come between it and its newline
    assert seen == [(["--resident", "main", "--data", "x", "--out", "y"], str(elsewhere))]


@pytest.mark.parametrize(
    ("error", "code"),
    [(UsageError("no data"), 2), (RunFailed("disk full"), 1), (ValueError("ours"), 1), (KeyboardInterrupt(), 130)],
)
def test_exit_codes_pass_through(
    listens: Resident, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def job(*_: Any) -> None:
        raise error

    command(monkeypatch, "eval", job)
    assert eval_main(["--resident"]) == code
    assert [bool(job.code) for job in listens.jobs] == [True]


def test_bad_flags_are_refused_before_anything_is_sent(listens: Resident, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_main(["--resident", "--lora-r", "none"]) == 2
    assert "--lora-r: found 'none'" in capsys.readouterr().err
    assert listens.jobs == []


def test_without_a_resident_of_that_base_the_message_says_what_runs(
    listens: Resident, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    assert train_main(["--resident", "--base", str(other)]) == 2
    err = capsys.readouterr().err
    assert f"no resident of the base {other} runs" in err
    assert f"Running: main ({tmp_path / 'base'})" in err
    assert train_main(["--resident", "nobody", "--base", str(other)]) == 2
    assert "no resident of the name nobody runs" in capsys.readouterr().err


def test_a_resident_is_found_by_its_base(listens: Resident, hollow: Resident, tmp_path: Path) -> None:
    assert residents.find("", tmp_path / "base") == "main"
    with listening(hollow, "second"):
        assert residents.find("second", None) == "second"
        with pytest.raises(UsageError, match="2 residents fit: main"):
            residents.find("", tmp_path / "base")


def test_the_resident_that_runs_alone_needs_no_name(listens: Resident) -> None:
    assert residents.find("", None) == "main"


def test_what_a_job_logs_goes_to_its_client_and_nothing_else(
    listens: Resident, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own thread's records and those of the pools that work for it, not those of the main thread."""
    log = logging.getLogger("tiararodney.sekft.test")

    def job(*_: Any) -> None:
        log.warning("of the job")
        log.debug("too fine")
        pool = threading.Thread(target=log.warning, args=("of its pool",), name="pool-1")
        pool.start()
        pool.join()
        served = threading.Thread(target=log.warning, args=("of the server",), name="sekft-server")
        served.start()
        served.join()

    command(monkeypatch, "train", job)
    with ask() as stream:
        told = [json.loads(line) for line in stream]
    texts = [message["err"].split(maxsplit=1)[1] for message in told if "err" in message]
    assert [text for text in texts if text.startswith("of ")] == ["of the job\n", "of its pool\n"]
    assert told[-1] == {"end": 0}


def test_a_client_that_cannot_be_followed_into_its_folder_gets_a_usage_error(listens: Resident, tmp_path: Path) -> None:
    with ask("help", tmp_path / "gone") as stream:
        told = [json.loads(line) for line in stream]
    assert told == [
        {"err": f"{tmp_path / 'gone'}: the resident cannot work there (No such file or directory).\n"}, {"end": 2},
    ]  # fmt: skip


@pytest.mark.parametrize("request_", [b"3", b"[]", b"{}", b'{"command": "help"}', b"not json", b""])
def test_what_is_no_request_closes_its_connection_alone(listens: Resident, request_: bytes) -> None:
    with connected() as stream:
        stream.write(request_ + b"\n")
        stream.flush()
        assert stream.read() == b""
    assert listens.jobs == []


def test_a_client_that_asks_for_nothing_does_not_hold_up_the_end(
    hollow: Resident, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen._Client, "timeout", 0.1)
    with listening(hollow, "main"):
        idle = connected()
    assert idle.read() == b""
    idle.close()


def test_a_name_is_taken_once(listens: Resident, hollow: Resident) -> None:
    with pytest.raises(UsageError, match="a resident of this name runs already"), listening(hollow, "main"):
        pass
    assert residents.residents() == {"main": str(listens.base.path)}


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "x" * 65])
def test_names_that_are_paths_are_refused(hollow: Resident, name: str) -> None:
    with pytest.raises(UsageError, match="expected a name of letters"), listening(hollow, name):
        pass


def test_socket_and_folder_are_the_users_own(listens: Resident, runtime: Path) -> None:
    assert stat.S_IMODE((runtime / "main.sock").stat().st_mode) == 0o600
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o700


def test_a_folder_that_others_can_enter_is_refused(hollow: Resident, runtime: Path) -> None:
    runtime.mkdir(mode=0o755)
    with pytest.raises(UsageError, match="others own or can enter"), listening(hollow, "main"):
        pass


def test_another_users_process_is_refused(listens: Resident, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel names the user; here the answer of the kernel is changed, for tests run as one user."""
    with socket.socket(socket.AF_UNIX) as connection:
        with residents.address("main") as where:
            connection.connect(where)
        assert residents.peer(connection) == (os.getpid(), os.getuid())
    monkeypatch.setattr(residents, "peer", lambda _: (1, os.getuid() + 1))
    with pytest.raises(RunFailed, match="another user's process answers"):
        residents.connect("main")
    with socket.socket(socket.AF_UNIX) as raw:
        with residents.address("main") as where:
            raw.connect(where)
        with suppress(BrokenPipeError, ConnectionResetError):
            raw.sendall(b'{"command": "who"}\n')
            assert raw.recv(100) == b""
    assert listens.jobs == []


def test_the_socket_of_a_killed_resident_is_removed(hollow: Resident, runtime: Path) -> None:
    residents.socket_folder()
    left = socket.socket(socket.AF_UNIX)
    with residents.address("main") as where:
        left.bind(where)
    left.close()
    assert (runtime / "main.sock").exists()
    with pytest.raises(UsageError, match="Running: none"):
        residents.find("main", None)
    assert not (runtime / "main.sock").exists()
    (runtime / "main.sock").write_text("")
    with listening(hollow, "main"):
        assert residents.find("main", None) == "main"
    assert list(runtime.iterdir()) == []


def connected() -> BufferedRWPair:
    """Return a connection to the resident, past its greeting."""
    answer = residents.connect("main")
    assert answer is not None
    return answer[1]


def ask(name: str = "train", folder: Path = Path("/")) -> BufferedRWPair:
    stream = connected()
    residents.send(stream, {"command": name, "args": [], "cwd": str(folder)})
    return stream


def test_jobs_wait_for_their_turn_and_are_cancelled_one_by_one(
    listens: Resident, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command(monkeypatch, "train", endless)
    one = ask()
    assert json.loads(one.readline()) == {"out": "begun"}
    two = ask()
    wait_until(lambda: len(listens.queue) == 2)
    three = ask()
    wait_until(lambda: len(listens.queue) == 3)
    assert [job.state for job in listens.queue] == ["running", "queued", "queued"]
    residents.send(two, {"cancel": True})
    assert ended(two) == 130
    assert [job.number for job in listens.queue] == [1, 3]
    one.close()  # a client that goes away has its job cancelled
    assert b"begun" in three.readline()
    assert run_line(listens, "cancel")
    assert ended(three) == 130
    assert [job.state for job in listens.jobs] == ["cancelled", "cancelled", "cancelled", "done"]
    two.close()
    three.close()
    assert "cancelling job 3" in capsys.readouterr().out


def ended(stream: Any) -> int:
    return next(said["end"] for line in stream if "end" in (said := json.loads(line)))


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_ctrl_c_in_the_client_cancels_that_job_alone(
    listens: Resident, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command(monkeypatch, "train", endless)
    argv = [sys.executable, "-m", "tiararodney.sekft.sft.cli", "--resident", "--data", "x", "--out", "y"]
    with subprocess.Popen(argv, stdout=-1, stderr=-1, text=True, cwd=tmp_path) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "begun\n"
        client.send_signal(signal.SIGINT)
        assert client.wait(20) == 130
    wait_until(lambda: not listens.queue)
    assert listens.jobs[0].state == "cancelled"
    command(monkeypatch, "train", lambda *_: None)
    assert train_main(["--resident"]) == 0


def test_a_base_that_changed_refuses_the_jobs_behind_it(listens: Resident, monkeypatch: pytest.MonkeyPatch) -> None:
    woken = threading.Semaphore(0)
    monkeypatch.setattr(listen.os, "kill", lambda *_: woken.release())
    command(monkeypatch, "train", lambda *_: None)
    for found in ("other", "same"):
        monkeypatch.setattr(state, "probe", lambda _, found=found: Probe(found, b""))
        assert train_main(["--resident"]) == 1
        # The client has its exit code before the resident wakes its prompt, which must not reach the real `kill`.
        assert woken.acquire(timeout=10)


def test_the_end_of_the_process_waits_for_a_job(listens: Resident, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon thread is killed at the end; inside torch that aborts the whole process."""
    seen: list[bool] = []
    command(monkeypatch, "train", lambda *_: seen.append(threading.current_thread().daemon))
    assert train_main(["--resident"]) == 0
    assert seen == [False]


def test_the_end_cancels_jobs_and_waits_for_them(hollow: Resident, monkeypatch: pytest.MonkeyPatch) -> None:
    command(monkeypatch, "train", endless)
    with listening(hollow, "main"):
        stream = ask()
        assert json.loads(stream.readline()) == {"out": "begun"}
    assert [(job.state, job.code) for job in hollow.jobs] == [("cancelled", 130)]
    assert ended(stream) == 130
    stream.close()


def test_a_job_asked_for_while_the_resident_ends_does_not_begin(
    hollow: Resident, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()
    command(monkeypatch, "train", lambda *_: begun.set())
    with listening(hollow, "main"):
        stream = connected()

        def late() -> None:
            wait_until(lambda: not (runtime / "main.sock").exists())
            time.sleep(0.2)
            residents.send(stream, {"command": "train", "args": [], "cwd": "/"})

        thread = threading.Thread(target=late)
        thread.start()
    thread.join()
    assert ended(stream) == 130
    assert not begun.is_set()
    stream.close()


def test_clients_that_start_together_are_all_answered(hollow: Resident, monkeypatch: pytest.MonkeyPatch) -> None:
    go, real, answers = threading.Event(), listen._Server.verify_request, []
    monkeypatch.setattr(listen._Server, "verify_request", lambda *of: go.wait(10) and real(*of))
    with listening(hollow, "main"):
        clients = [threading.Thread(target=lambda: answers.append(residents.connect("main"))) for _ in range(20)]
        for client in clients:
            client.start()
        time.sleep(0.3)  # for all to connect before the first is served
        go.set()
        for client in clients:
            client.join()
        found = [answer[0] for answer in answers if answer is not None]
        for answer in answers:
            if answer is not None:
                answer[1].close()
    assert found == [str(hollow.base.path)] * 20


def test_a_resident_that_does_not_answer_is_named(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(residents, "ANSWER_SECONDS", 0.1)
    residents.socket_folder()
    with socket.socket(socket.AF_UNIX) as stopped:
        with residents.address("main") as where:
            stopped.bind(where)
            stopped.listen()
        with pytest.raises(UsageError, match="no resident of the name main runs"):
            residents.find("main", None)
    assert "resident main: no answer within 0.1 s; it is stopped, or about to end" in caplog.text
    assert (runtime / "main.sock").exists()


def test_a_job_does_not_meet_the_fault_of_the_residents_own_output(
    listens: Resident, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Broken())
    command(monkeypatch, "train", lambda *_: print("result"))
    with ask() as stream:
        told = [json.loads(line) for line in stream]
    assert {"out": "result"} in told
    assert told[-1] == {"end": 0}


def test_jobs_that_a_quit_cancels_send_no_signal(hollow: Resident, monkeypatch: pytest.MonkeyPatch) -> None:
    """The main thread is ending already: a signal would hide its exit code, or come after its handler is gone."""
    sent: list[Any] = []
    monkeypatch.setattr(listen.os, "kill", lambda *signal: sent.append(signal))
    command(monkeypatch, "train", endless)
    with listening(hollow, "main"):
        stream = ask()
        assert json.loads(stream.readline()) == {"out": "begun"}
        hollow.quitting = True
    assert (ended(stream), sent) == (130, [])
    stream.close()
