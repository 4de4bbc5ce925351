"""A run that is stopped, politely or not, loses nothing that was finished and leaves nothing behind."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tiararodney.posix_sdc.cli import main
from tiararodney.posix_sdc.factory.bundles import dumps, generate
from tiararodney.posix_sdc.records.schema import load_scenarios, load_trajectories
from tiararodney.posix_sdc.support import owner
from tiararodney.posix_sdc.support.whole import write_text
from tiararodney.posix_sdc.worlds.bwrap import cgroup
from tiararodney.posix_sdc.worlds.bwrap import runtime as bwrap
from tiararodney.posix_sdc.worlds.docker import engine
from tiararodney.posix_sdc.worlds.docker.runtime import LABEL

N = 10


@pytest.fixture(autouse=True)
def _bwrap(request):
    if request.node.get_closest_marker("bwrap") and (reason := bwrap.unusable()) is not None:
        pytest.skip(reason)


@pytest.fixture
def scenarios(tmp_path):
    folder = tmp_path / "scenarios"
    folder.mkdir()
    for s in generate(N, 5):
        write_text(folder / f"{s.id}.json", dumps(s))
    return folder


def start(*argv):
    line = [
        sys.executable,
        "-c",
        "import sys; from tiararodney.posix_sdc.cli import main; sys.exit(main())",
        *argv,
    ]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def next_run(*argv):
    """Run a command to its good end, in a process of its own: leftovers are looked for once in each."""
    run = start(*argv)
    out, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    return out, err


def descendants(pid):
    """Return the processes below one, by number and start."""
    found = set()
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").glob("*"):
            for child in (task / "children").read_text().split():
                if stat := _stat(child):
                    found |= {(child, stat[19])} | descendants(child)
    return found


def _stat(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def alive(processes):
    return [p for p, started in processes if (stat := _stat(p)) and stat[19] == started and stat[0] not in "ZX"]


def containers(pid):
    """Return the containers that a process owns; none where there is no engine."""
    if engine.unusable() is not None:
        return []
    client = engine.connect()
    try:
        found = client.containers.list(all=True, filters={"label": LABEL}, ignore_removed=True)
        return [c.id for c in found if c.labels[LABEL].split()[2] == str(pid)]
    finally:
        client.close()


def wait_for(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return value


def groups(pid):
    """Return the control groups that a process owns."""
    return [g for parent, _ in cgroup._parents() for g in parent.glob(f".posix-sdc-*-{pid}-*")]


def nothing_is_left(pid, processes, folder):
    assert wait_for(lambda: not alive(processes), 10), alive(processes)
    assert containers(pid) == []
    assert groups(pid) == []
    assert [p.name for p in folder.iterdir() if p.name.startswith(".posix-sdc")] == []
    assert not [line for line in Path("/proc/self/mounts").read_text().splitlines() if "posix-sdc" in line]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_rollout_and_the_next_goes_on(runtime, scenarios, tmp_path, number, code):
    out = tmp_path / "out"
    argv = ["rollout", "--scenarios", str(scenarios), "--out", str(out), "--runtime", runtime, "--jobs", "2"]
    run = start(*argv)
    assert wait_for(lambda: list(out.glob("*.json")))
    below = descendants(run.pid)
    started = time.monotonic()
    run.send_signal(number)
    _, err = run.communicate(timeout=30)
    assert run.returncode == code, err
    assert time.monotonic() - started < 8
    assert "Traceback" not in err
    assert "the same command goes on from there" in err
    nothing_is_left(run.pid, below, out)
    first = {p: p.stat().st_mtime_ns for p in out.iterdir()}
    assert 0 < len(first) < N
    said, told = next_run(*argv)
    assert said.startswith(f"{N - len(first)} of {N - len(first)} new sessions kept")
    assert f"already on disk: {len(first)} session{'s' * (len(first) > 1)} of reference" in told
    assert {p: p.stat().st_mtime_ns for p in first} == first
    assert {t.scenario_id for t in load_trajectories(out)} == {s.id for s in load_scenarios(scenarios)}


def test_a_killed_run_of_eight_worlds_leaves_nothing_once_the_next_has_run(runtime, scenarios, tmp_path):
    out = tmp_path / "out"
    argv = ["rollout", "--scenarios", str(scenarios), "--out", str(out), "--runtime", runtime, "--jobs", "8"]
    run = start(*argv)
    assert wait_for(lambda: list(out.glob("*.json")))
    below = descendants(run.pid)
    run.kill()
    run.communicate()
    (out / f"{_unfinished(run.pid)}x").write_text("half of a ses")
    next_run(*argv[:-1], "2")
    nothing_is_left(run.pid, below, out)
    assert {t.scenario_id for t in load_trajectories(out)} == {s.id for s in load_scenarios(scenarios)}


def _unfinished(pid):
    """Return how the name of a file begins that a process of this number, now gone, was writing."""
    return re.sub(r"-\d+-\d*-$", f"-{pid}-1-", owner.prefix())


@pytest.mark.parametrize("after", [0.0, 0.1, 0.3])
def test_a_run_killed_while_its_worlds_start_leaves_nothing(runtime, scenarios, tmp_path, after):
    out = tmp_path / "out"
    argv = ["gate", "--scenarios", str(scenarios), "--runtime", runtime, "--jobs", "8"]
    run = start(*argv)
    wait_for(lambda: descendants(run.pid) if runtime == "bwrap" else containers(run.pid))
    time.sleep(after)
    below = descendants(run.pid)
    run.kill()
    run.communicate()
    one = tmp_path / "one"
    one.mkdir()
    first = sorted(scenarios.glob("*.json"))[0]
    (one / first.name).write_bytes(first.read_bytes())
    next_run("rollout", "--scenarios", str(one), "--out", str(out), "--runtime", runtime)
    nothing_is_left(run.pid, below, scenarios)


@pytest.mark.slow
def test_hundreds_of_episodes_leave_nothing(runtime, tmp_path):
    count = 500 if runtime == "bwrap" else 150  # a container takes a quarter of a second to start
    folder, out = tmp_path / "scenarios", tmp_path / "out"
    folder.mkdir()
    for s in generate(count, 9):
        write_text(folder / f"{s.id}.json", dumps(s))
    temporary = {p.name for p in Path(tempfile.gettempdir()).iterdir()}
    run = start("rollout", "--scenarios", str(folder), "--out", str(out), "--runtime", runtime, "--jobs", "4")
    below = set()
    while run.poll() is None:
        below |= descendants(run.pid)
        time.sleep(0.5)
    said, err = run.communicate()
    assert run.returncode == 0, err
    assert int(said.split()[0]) >= 0.98 * count, said
    nothing_is_left(run.pid, below, out)
    new = {p.name for p in Path(tempfile.gettempdir()).iterdir()} - temporary
    assert not [name for name in new if "posix-sdc" in name]


@pytest.mark.bwrap
def test_a_killed_gate_judges_only_what_is_left(scenarios, capsys):
    argv = ["gate", "--scenarios", str(scenarios), "--runtime", "bwrap", "--jobs", "2"]
    ledger = scenarios / ".judged.jsonl"
    run = start(*argv)
    assert wait_for(lambda: ledger.exists() and ledger.read_text().count("\n") >= 2)
    run.kill()
    run.communicate()
    with ledger.open("a") as file:
        file.write('{"sha256": "torn')
    done = ledger.read_text().count("\n")
    assert main(argv) == 0
    said = capsys.readouterr()
    assert said.out.endswith(f"{N} of {N} scenarios pass the gate (bwrap)\n")
    assert f"{done} bundles judged before" in said.err
    assert len([line for line in ledger.read_text().splitlines() if "torn" not in line]) == N
    assert len(load_scenarios(scenarios)) == N


@pytest.mark.bwrap
def test_a_bundle_that_was_changed_is_judged_again(scenarios, capsys):
    argv = ["gate", "--scenarios", str(scenarios), "--runtime", "bwrap"]
    assert main(argv) == 0
    path = sorted(scenarios.glob("*.json"))[0]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"checker": "true", "terminal": "exit"}))
    assert main(argv) == 1
    assert f"{N - 1} of {N} scenarios pass" in capsys.readouterr().out
    # What failed before is told again, and counts.
    assert main(argv) == 1
    said = capsys.readouterr()
    assert "an immediate exit succeeds" in said.out
    assert f"{N} bundles judged before" in said.err
    assert main([*argv, "--again"]) == 1
    assert "judged before" not in capsys.readouterr().err


def test_generate_goes_on_where_it_stopped(tmp_path, capsys):
    argv = ["generate", "--n", "8", "--seed", "5", "--out", str(tmp_path / "s")]
    main(argv)
    whole = {p.name: p.read_bytes() for p in (tmp_path / "s").iterdir()}
    lost, torn, kept = sorted((tmp_path / "s").iterdir())[:3]
    lost.unlink()
    torn.write_text(torn.read_text()[:100])
    data = json.loads(kept.read_text()) | {"quarantine": "because"}
    kept.write_text(json.dumps(data))
    capsys.readouterr()
    assert main(argv) == 0
    assert capsys.readouterr().out == f"8 scenarios in {tmp_path / 's'}, 6 of them made before\n"
    assert json.loads(kept.read_text())["quarantine"] == "because"
    kept.write_bytes(whole[kept.name])
    assert {p.name: p.read_bytes() for p in (tmp_path / "s").iterdir()} == whole


@pytest.mark.bwrap
def test_a_model_that_does_not_answer_does_not_hold_up_an_interrupt(scenarios, tmp_path, server):
    server.answers = lambda _: time.sleep(20)
    out = tmp_path / "out"
    argv = ["rollout", "--scenarios", str(scenarios), "--out", str(out), "--runtime", "bwrap", "--jobs", "3"]
    run = start(*argv, "--operator", server.url, "--model", "m")
    assert wait_for(lambda: len(server.requests) == 3)
    below = descendants(run.pid)
    run.send_signal(signal.SIGTERM)
    _, err = run.communicate(timeout=15)
    assert run.returncode == 143, err
    nothing_is_left(run.pid, below, out)
    assert list(out.iterdir()) == []


@pytest.mark.bwrap
def test_what_is_ignored_stays_ignored(scenarios, tmp_path):
    """As `nohup` wants it."""
    out = tmp_path / "out"
    argv = ["rollout", "--scenarios", str(scenarios), "--out", str(out), "--runtime", "bwrap"]
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run = start(*argv)
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    assert wait_for(lambda: list(out.glob("*.json")))
    run.send_signal(signal.SIGHUP)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
