"""Control groups are made where they can be, hold what they should, and are swept after a kill."""

import subprocess
import sys
from pathlib import Path

import pytest

from tiararodney.posix_sdc.support import owner
from tiararodney.posix_sdc.worlds.bwrap import cgroup


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Return a function that lays out a machine's hierarchies as files."""

    def lay(own, mounts):
        monkeypatch.setattr(cgroup, "_own", lambda: own)
        monkeypatch.setattr(cgroup, "_mounts", lambda: {name: str(tmp_path / place) for name, place in mounts.items()})
        return cgroup._parents.__wrapped__()

    return lay


def test_version_2_uses_the_nearest_ancestor_that_hands_both_on(tree, tmp_path):
    for path, handed in (("u", "cpu memory pids"), ("u/a", "memory pids"), ("u/a/b", "memory"), ("u/a/b/c", "")):
        (tmp_path / path).mkdir()
        (tmp_path / path / "cgroup.subtree_control").write_text(handed + "\n")
    ((folder, limits),) = tree({"": "/a/b/c"}, {"": "u"})
    assert folder == tmp_path / "u/a"
    assert limits == {"memory.max": "memory", "memory.swap.max": "swap", "pids.max": "pids"}


def test_version_1_uses_the_group_of_memory(tree, tmp_path):
    (tmp_path / "m/x").mkdir(parents=True)
    ((folder, limits),) = tree({"memory": "/x", "pids": "", "": ""}, {"memory": "m", "pids": "p", "": "u"})
    assert folder == tmp_path / "m/x"
    assert list(limits) == ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]


def test_without_controllers_there_is_no_group(tree, monkeypatch):
    assert tree({"": "/a"}, {"": "u"}) == ()
    assert tree({}, {}) == ()
    monkeypatch.setattr(cgroup, "_parents", lambda: ())
    assert cgroup.make(1, 1) is None


def test_a_group_that_cannot_be_limited_is_not_made(monkeypatch, tmp_path):
    monkeypatch.setattr(cgroup, "_parents", lambda: ((tmp_path / "none", {"memory.max": "memory"}),))
    assert cgroup.make(1 << 30, 10) is None


@pytest.fixture
def real():
    if not cgroup._parents():
        pytest.skip("no control group can be made here")


def held():
    return [p for parent, _ in cgroup._parents() for p in parent.glob(f"{owner.prefix()}*")]


def test_a_group_holds_memory_and_goes_with_its_processes(real):
    group = cgroup.make(64 << 20, 50)
    assert group is not None
    grow = "import sys; sys.stdin.readline(); x = [bytes(b'x' * (8 << 20)) for _ in range(20)]; print('grown')"
    run = subprocess.Popen([sys.executable, "-c", grow], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    group.add(run.pid)
    said, _ = run.communicate("go\n", timeout=20)
    assert (said, run.returncode) == ("", -9)
    group.remove()
    assert held() == []


def test_what_a_killed_process_left_is_swept(real):
    code = (
        "import os, sys, time; from tiararodney.posix_sdc.worlds.bwrap import cgroup; g = cgroup.make(1 << 28, 5); "
        "os.fork() or (g.add(os.getpid()), print('in', os.getpid(), flush=True), time.sleep(100)); time.sleep(100)"
    )
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    _, pid = run.stdout.readline().split()
    run.kill()
    run.wait()
    run.stdout.close()
    assert cgroup.sweep() >= 1
    assert not Path(f"/proc/{pid}").exists() or Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] in "ZX"
    assert cgroup.sweep() == 0
