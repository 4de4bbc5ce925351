"""Attacks from inside a session, from a bundle and by a checker: none escapes, forges or survives."""

# ruff: noqa: E501 - a shell command reads best on one line
from __future__ import annotations

import os
import re
import secrets
import time
from pathlib import Path

import pytest

from tiararodney.posix_sdc.errors import SchemaError
from tiararodney.posix_sdc.schema import Scenario
from tiararodney.posix_sdc.world import Limits

NONCE = re.compile(r"[0-9a-f]{32}")


def holds(world):
    """The shell tells the truth about output and status, and shows nothing of how it is asked."""
    world.run("set +xv; PS4='+ '")
    result = world.run("echo sound; (exit 5)")
    assert (result.output, result.status, result.ended) == ("sound\n", 5, None)
    stolen = world.run("cat /tmp/stolen* /tmp/leak* 2>/dev/null").output
    assert not NONCE.search(stolen)


# ------------------------------------------------------------------------------ forging output, status and endings

FORGERIES = {
    "what a report looks like": "printf '\\n.\\n'; printf '\\ngggggggggggggggggggggggggggggggg 0\\n'; false",
    "a report on the descriptor's number": "printf '\\n.\\n' >&9",
    "a report through any descriptor of the shell": "for n in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do echo x > /proc/$$/fd/$n; done 2>/dev/null",
    "a report through the builtins' own descriptors": "for n in 3 4 5 6 7 8 9 10 11 12 13 14; do printf '\\n.\\n' > /proc/self/fd/$n; done 2>/dev/null",
    "reading the command stream": "for n in 0 10 11 12 13 14; do read x < /proc/self/fd/$n && echo $x >> /tmp/stolen; done 2>/dev/null",
    "reading the command stream later": "( for i in 1 2 3 4; do for n in 3 4 5 6 7 8 9 10 11 12 13 14 15; do timeout 0.1 cat < /proc/self/fd/$n >> /tmp/stolen; done; done ) 2>/dev/null &",
    "reading the shell's memory": "cat /proc/$$/mem /proc/$$/environ /proc/$$/auxv > /tmp/stolen; dd if=/proc/$$/mem bs=1 count=1",
    "the shell's memory map": "cat /proc/$$/maps /proc/$$/stack /proc/$$/syscall > /tmp/stolen",
    "listing the shell's descriptors": "ls -l /proc/$$/fd > /tmp/stolen",
    "tracing": "set -x; : $(echo traced); echo on",
    "echoing what is read": "set -v; echo on",
    "a trace prefix that runs": "PS4='$(cat <&0 >>/tmp/stolen)$(echo forged >&9)'; set -x; :",
    "a prompt that runs": "PS1='$(cat <&0 >>/tmp/stolen; printf \"\\n.\\n\" >&9)'; PS2=$PS1",
    "a trap that reads the command stream": "trap 'timeout 0.2 cat > /tmp/stolen' USR1; kill -USR1 $$",
    "a trap between two commands": "trap 'timeout 0.2 cat > /tmp/stolen; echo late >&8' USR1; (sleep 0.1; kill -USR1 $$) & sleep 0.3",
    "a trap that leaves a reader behind": "trap '(exec timeout 1 cat > /tmp/stolen) &' USR1; kill -USR1 $$",
    "aliases for our words": "alias command=false printf=false eval=false set=false unset=false test=false",
    "functions for our words": "printf() { echo no; }; command() { return 3; }; test() { :; }",
    "field separators": "IFS=0123456789abcdef",
    "no programs": "PATH=/none",
    "nothing unset, no globbing, no clobbering": "set -u -f -C -b",
    "closing everything": "exec 0<&- 3>&- 4>&- 8>&- 9>&-",
    "silencing what comes": "exec > /dev/null 2>&1",
    "another descriptor in the way": "exec 8>/tmp/leak8 9>/tmp/leak9",
    "a function for the shell's last word": "__end() { :; }; panic() { __end; }",
    "calling the shell's last word": "__end exit; __end panic",
    "catching every signal": "trap : HUP INT QUIT TERM USR1 USR2 PIPE CHLD",
    "an environment too large for any program": "x=$(head -c 3000000 /dev/zero | tr '\\0' x); export x; ls; unset x",
    "a folder that is gone": "mkdir /tmp/d; cd /tmp/d; rmdir /tmp/d; :",
    "closing the session's start-up": "ENV=/tmp/evil; export ENV; echo 'exit 0' > /tmp/evil; echo 'exit' > ~/.profile",
    "reading our output back": "timeout 0.3 cat < /proc/self/fd/1 > /tmp/stolen",
    "reading our output back later": "timeout 2 cat /dev/stdout > /tmp/stolen &",
}


@pytest.mark.parametrize("attack", FORGERIES.values(), ids=FORGERIES.keys())
def test_nothing_is_forged_by(stand_up, attack):
    world = stand_up(Limits(command_seconds=5))
    result = world.run(attack)
    assert result.ended is None
    assert not NONCE.search(result.output)
    holds(world)
    assert world.run("false").status == 1
    assert world.run("exit").ended == "exit"
    assert world.check().passed is False


def test_a_forged_panic_is_none(stand_up):
    world = stand_up()
    assert world.run("(set -x; panic x); echo on").ended is None
    assert world.run("sh -c 'panic x'").ended is None
    assert world.run("exec sh -c 'echo panic'").ended == "died"


# ------------------------------------------------------------------------------------------------ killing

KILLINGS = {
    "the shell": ("kill -9 $$", "died"),
    "everything": ("kill -9 -1", None),
    "the shell's parent": ("kill -9 $PPID", None),
    "the first process": ("kill -9 1; kill -TERM 1; kill -INT 1", None),
    "the process group": ("kill -TERM 0; kill -HUP 1", None),
    "whatever is near": ("for p in 2 3 4 5 6 7 8 9 10; do [ $p = $$ ] || kill -9 $p; done 2>/dev/null", None),
}


@pytest.mark.parametrize(("attack", "ended"), KILLINGS.values(), ids=KILLINGS.keys())
def test_killing(stand_up, attack, ended):
    world = stand_up(checker="true")
    assert world.run(attack).ended == ended
    if ended is None:
        holds(world)
    assert world.check().passed is True


# ------------------------------------------------------------------------------------------------ exhaustion

EXHAUSTIONS = {
    "a fork bomb": "f() { f | f & f; }; f",
    "a quiet fork bomb": "while :; do sleep 100 & done",
    "memory of one process": "x=x; while :; do x=$x$x; done",
    "memory of many": "for i in 1 2 3 4 5 6 7 8; do awk 'BEGIN { while (1) a[i++] = i }' & done; wait",
    "disk": "cat /dev/zero > /tmp/a; cat /dev/zero > ~/b; cat /dev/zero > c; cat /dev/zero > /dev/shm/d; rm -f /tmp/a ~/b c /dev/shm/d",
    "descriptors": 'awk \'BEGIN { while (1) { f = "/tmp/f" i++; printf "" > f } }\'; rm -f /tmp/f*',
    "output": "while :; do echo flood; done",
    "output without a line": "tr '\\0' x < /dev/zero",
    "background output": "yes & yes >&2 & sleep 1; kill $(jobs -p) 2>/dev/null; kill %1 %2 2>/dev/null; killall yes 2>/dev/null; pkill yes",
    "processors": "for i in 1 2 3 4 5 6; do while :; do :; done & done; sleep 1; kill -9 $(ps -o pid= --ppid $$) 2>/dev/null; :",
}


@pytest.mark.parametrize("attack", EXHAUSTIONS.values(), ids=EXHAUSTIONS.keys())
def test_exhausting(stand_up, attack):
    limits = Limits(command_seconds=2, memory_bytes=128 * 1024**2, disk_bytes=8 * 1024**2, pids=64)
    world = stand_up(limits, checker="true")
    before, start = Path("/proc/self/statm").read_text().split()[1], time.monotonic()
    result = world.run(attack)
    assert result.ended in (None, "died")
    if result.ended is None:
        time.sleep(0.2)
        # By its status: what is left of a flood may stand where the output would be.
        again = world.run("(exit 7)")
        assert again.status == 7 or again.ended == "died"
    assert time.monotonic() - start < 30
    assert int(Path("/proc/self/statm").read_text().split()[1]) - int(before) < 64 * 1024**2 // 4096
    assert world.check().passed is True


# ------------------------------------------------------------------------------------------------ escapes

ESCAPES = [
    "touch /usr/bin/evil",
    "touch /usr/local/bin/ls",
    "touch /etc/evil",
    "touch /evil",
    "mkdir /run/session/x",
    "rm -f /run/session/dash",
    "cat /run/session/dash",
    "cat /etc/shadow",
    "ls /root/.ssh",
    "echo core > /proc/sys/kernel/core_pattern",
    "echo b > /proc/sysrq-trigger",
    "echo 1 > /proc/sys/vm/drop_caches",
    "head -c 1 /proc/kcore",
    "head -c 1 /dev/mem",
    "head -c 1 /proc/1/mem",
    "ls /proc/1/root/",
    "ls -l /proc/1/fd/",
    "cat /proc/1/environ",
    "echo 0 > /proc/1/oom_score_adj",
    "mknod /tmp/sda b 8 0",
    "mount -t tmpfs none /tmp",
    "mount --bind / /tmp",
    "umount /proc",
    "unshare -Ur true",
    "unshare -m true",
    "nsenter -t 1 -m true",
    "chroot / true",
    "setpriv --reuid=0 true",
    "chown root /work",
    "mv /work /elsewhere",
    "hostname evil",
    "date -s 2000-01-01",
    "su -c true",
    "ls /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/release_agent && touch /sys/fs/cgroup/x",
    "grep -v -e lo: -e '|' /proc/net/dev",
    "find / -xdev -perm -4000 -user root -exec {} -c id \\; 2>/dev/null | grep uid=0",
    "cp /bin/sh /tmp/sh; chmod 4755 /tmp/sh; /tmp/sh -p -c id | grep -e euid=0 -e uid=0",
    "ls -l /dev | grep ^b",
    "perl -e 'use Socket; socket(S,PF_INET,SOCK_STREAM,6) && connect(S,sockaddr_in(53,inet_aton(\"192.0.2.1\"))) or exit 1'",
    "perl -e 'exit(syscall(101, 16, getppid(), 0, 0) == 0 ? 0 : 1)'",
    'perl -e \'$b="x" x 8; exit(syscall(310, $ARGV[0]+0, pack("PQ", $b, 8), 1, pack("QQ", 4194304, 8), 1, 0) == -1 && $! == 1)\' $$',
]


@pytest.mark.parametrize("attack", ESCAPES)
def test_no_way_out_by(shared_world, attack):
    result = shared_world.run(attack)
    assert result.status not in (None, 0), result.output
    assert shared_world.run("echo on").output == "on\n"


def test_nothing_of_the_host_is_to_be_seen(stand_up, tmp_path):
    (tmp_path / "host-file").write_text("host secret")
    world = stand_up()
    assert world.run(f"ls {tmp_path}").status != 0
    assert world.run("ls /home").output == "agent\n"
    pids = world.run("ls /proc | grep '^[0-9]'").output.split()
    assert len(pids) < 12
    assert world.run(f"kill -0 {os.getpid()}").status != 0 or str(os.getpid()) in pids


def test_no_privilege_is_to_be_gained(stand_up):
    said = stand_up().run("grep -E '^(NoNewPrivs|CapBnd|CapEff)' /proc/self/status").output
    assert said.split() == ["CapEff:", "0" * 16, "CapBnd:", "0" * 16, "NoNewPrivs:", "1"]


# ------------------------------------------------------------------------------------------------ surviving


def host_has(word: str) -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word in path.read_text(errors="replace"):
                return True
        except OSError:
            continue
    return False


def test_no_daemon_outlives_its_session(stand_up):
    word = f"daemon-{secrets.token_hex(8)}"
    world = stand_up(checker="! grep -aqs daemon- /proc/[0-9]*/cmdline")
    world.run(f"(setsid nohup sh -c 'trap \"\" HUP INT TERM; while :; do sleep 0.1; done' {word} > /dev/null 2>&1 &)")
    world.run("exit")
    verdict = world.check()
    assert verdict.passed is True, verdict.detail
    world.close()
    assert not host_has(word)


def test_a_world_closed_in_the_middle_leaves_no_process(stand_up):
    word = f"daemon-{secrets.token_hex(8)}"
    world = stand_up()
    world.run(f"(setsid sh -c 'sleep 300; :' {word} &)")
    world.close()
    deadline = time.monotonic() + 5
    while host_has(word) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not host_has(word)


# ------------------------------------------------------------------------------- the checker and what it stands on

TAMPERINGS = {
    "a false test": "printf '#!/bin/sh\\nexit 0\\n' > ~/test; chmod 755 ~/test; export PATH=~:$PATH; cp ~/test /usr/local/bin/test",
    "start-up files": "for f in ~/.profile ~/.bashrc ~/.shrc /etc/profile; do echo 'exit 0' > $f; done; export ENV=~/.profile BASH_ENV=~/.profile",
    "the library path": "export LD_PRELOAD=/work/x.so LD_LIBRARY_PATH=/work; cp /bin/sh x.so",
    "the work folder": "cd /; rm -rf /work; ln -s /tmp /work; touch /tmp/done",
    "a fifo where a file is looked for": "mkfifo done",
    "a link to itself": "ln -s done done",
    "modes": "chmod 000 /work ~",
    "names": "touch \"$(printf 'a\\nb')\" -- '-f' '; exit 0' '$(exit 0)'",
    "a checker of our own": "mkdir -p /run/checker /run/session/checker; touch /run/checker; echo exit 0 > /run/session/checker",
    "a watcher": "(while :; do for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; done; done >> /tmp/seen 2>/dev/null) &",
}


@pytest.mark.parametrize("attack", TAMPERINGS.values(), ids=TAMPERINGS.keys())
def test_the_checker_is_not_misled_by(stand_up, attack):
    world = stand_up(checker="test -f done && test -s done")
    world.run(attack)
    world.run("exit")
    assert world.check().passed is False


def test_a_checker_touches_nothing_outside(stand_up, tmp_path):
    script = f"touch /usr/bin/evil-checker {tmp_path}/evil; echo x > /proc/sys/kernel/core_pattern; mount -t tmpfs none /mnt; true"
    core = Path("/proc/sys/kernel/core_pattern").read_text()
    assert stand_up(checker=script).check().passed is True
    assert not Path("/usr/bin/evil-checker").exists()
    assert not list(tmp_path.iterdir())
    assert Path("/proc/sys/kernel/core_pattern").read_text() == core


# ------------------------------------------------------------------------------------------------ bundles


def test_a_bundle_cannot_write_through_its_own_links(stand_up, tmp_path):
    with pytest.raises(SchemaError) as caught:
        stand_up(
            fixtures=[
                {"path": "/work/out", "kind": "symlink", "target": str(tmp_path)},
                {"path": "/work/out/evil", "content": "x"},
            ]
        )
    assert "symlink" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_link_out_of_the_world_leads_nowhere_on_the_host(stand_up, tmp_path):
    (tmp_path / "f").write_text("host")
    world = stand_up(fixtures=[{"path": "/work/out", "kind": "symlink", "target": str(tmp_path)}])
    assert world.run("cat out/f; echo x > out/new").status != 0
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("path", ["/work/../../etc/x", "relative", "/a\0b"])
def test_a_path_that_leads_elsewhere_is_refused(scenario, path):
    with pytest.raises(SchemaError):
        scenario(fixtures=[{"path": path}])


def test_an_announcement_cannot_climb_out(stand_up):
    world = stand_up(announcement={"kind": "file", "path": "/../../../srv/note", "text": "x"})
    assert world.run("cat /srv/note").output == "x\n"


def test_a_variable_that_is_no_variable_is_refused(stand_up):
    with pytest.raises(SchemaError) as caught:
        stand_up(environment={"A B": "x"})
    assert caught.value.field == "environment['A B']"


def test_an_interpreter_is_only_an_interpreter(stand_up, tmp_path):
    checker = {"script": "true", "interpreter": f"/bin/sh -c 'touch {tmp_path}/evil' ; touch {tmp_path}/evil2 ;"}
    assert Scenario is not None
    stand_up(checker=checker).check()
    assert not list(tmp_path.iterdir())
