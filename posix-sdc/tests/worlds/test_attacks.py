"""Attacks from inside a session, from a bundle and by a checker: none escapes, forges or survives."""

# ruff: noqa: E501 - a shell command reads best on one line
from __future__ import annotations

import os
import re
import secrets
import socket
import time
from pathlib import Path

import pytest

from tiararodney.posix_sdc.errors import SchemaError
from tiararodney.posix_sdc.worlds.bwrap import cgroup
from tiararodney.posix_sdc.worlds.protocol import Limits

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
def test_nothing_is_forged_by(attacked, attack):
    world = attacked(Limits(command_seconds=5))
    result = world.run(attack)
    assert result.ended is None
    assert not NONCE.search(result.output)
    holds(world)
    assert world.run("false").status == 1
    assert world.run("exit").ended == "exit"
    assert world.check().passed is False


def test_a_silenced_shell_still_tells_its_statuses(attacked):
    world = attacked()
    world.run("exec > /dev/null 2>&1")
    assert [world.run(c).status for c in ("true", "(exit 5)", "none-such")] == [0, 5, 127]
    assert world.run("exit").ended == "exit"


def test_a_forged_panic_is_none(attacked):
    world = attacked()
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
def test_killing(attacked, attack, ended):
    world = attacked(checker="true")
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
    "processors": 'all=; for i in 1 2 3 4 5 6; do while :; do :; done & all="$all $!"; done; sleep 1; kill -9 $all; :',
}


@pytest.mark.parametrize("attack", EXHAUSTIONS.values(), ids=EXHAUSTIONS.keys())
def test_exhausting(attacked, attack):
    limits = Limits(command_seconds=2, memory_bytes=128 * 1024**2, disk_bytes=8 * 1024**2, pids=64)
    world = attacked(limits, checker="true")
    before, start = Path("/proc/self/statm").read_text().split()[1], time.monotonic()
    result = world.run(attack)
    assert result.ended in (None, "died")
    if result.ended is None:
        # By its status: what is left of a flood may stand where the output would be. On a busy machine it takes a
        # while until the last process of a bomb is gone and the shell can fork again.
        for _ in range(20):
            time.sleep(0.2)
            again = world.run("(exit 7)")
            if again.status == 7 or again.ended == "died":
                break
        assert again.status == 7 or again.ended == "died"
    assert time.monotonic() - start < 30
    assert int(Path("/proc/self/statm").read_text().split()[1]) - int(before) < 64 * 1024**2 // 4096
    assert world.check().passed is True


def test_memory_is_held_for_all_processes_together(attacked):
    world = attacked(Limits(command_seconds=20, memory_bytes=128 * 1024**2, disk_bytes=8 * 1024**2), checker="true")
    if world.runtime == "bwrap-user" or (world.runtime == "bwrap" and not cgroup._parents()):
        pytest.skip("no control group can be made here: each process is limited by itself")
    hold = """perl -e 'my $x = "a" x 45_000_000; print "held\\n"; sleep 2; print "still\\n"'"""
    said = world.run(f"for i in 1 2 3 4 5; do {hold} & done; wait").output
    assert 0 < said.count("still") < 3, said
    holds(world)
    assert world.check().passed is True


def test_processes_are_held_for_the_world(attacked):
    world = attacked(Limits(command_seconds=20, pids=40), checker="true")
    fork = "defined(my $p = fork) or last; $p or do { sleep 1; exit }; $n++"
    made = int(world.run(f"perl -e 'for (1..80) {{ {fork} }} print $n'").output)
    assert 20 < made < 40
    holds(world)
    assert world.check().passed is True


BOMB = "fork or do { while (1) { fork; } }"
FILLINGS = {
    "sleepers": "perl -e 'for (1..80) { defined(my $p = fork) or last; $p or do { sleep 100; exit } }'",
    "a bomb": f"perl -e '{BOMB}'",
    "a bomb in what is tried": f"echo \"perl -e '{BOMB}'; sleep 100\" > made",
}


@pytest.mark.parametrize("fill", FILLINGS.values(), ids=FILLINGS.keys())
def test_a_world_full_of_processes_is_judged(attacked, fill):
    """What a session makes may take every process that the world has: the supervisor's own come after."""
    limits = Limits(command_seconds=20, grace_seconds=0.3, probe_seconds=0.5, pids=40)
    checker = {"script": "test -e done", "probe": "echo alive", "trial": "sh ./made"}
    world = attacked(limits, checker=checker)
    world.run("touch done")
    world.run(fill)
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
    "perl -e 'exit(syscall(250, 0, 0, 0, 0) < 0)'",
    'perl -e \'exit(syscall(248, "user", "x", "x", 1, -4) < 0)\'',
    "perl -e 'exit(syscall(321, 0, 0, 0) < 0)'",
    "perl -e 'exit(syscall(298, 0, 0, -1, -1, 0) < 0)'",
    "perl -e 'exit(syscall(323, 0) < 0)'",
    "perl -e 'exit(syscall(425, 1, 0) < 0)'",
    "perl -e 'exit(syscall(430, \"tmpfs\", 0) < 0)'",
    "perl -e 'exit(syscall(428, -100, \"/\", 1) < 0)'",
    "perl -e 'exit(syscall(304, -100, 0, 0) < 0)'",
    "perl -e 'exit(syscall(56, 0x10000011, 0, 0, 0, 0) < 0)'",
    "perl -e 'exit(syscall(435, 0, 0) < 0)'",
    "perl -e 'exit(syscall(103, 3, \"x\", 1) < 0)'",
    "perl -e 'exit(syscall(0x40000000 | 101, 16, getppid(), 0, 0) < 0)'",
    "perl -e 'use Socket; exit(!socket(S, PF_INET, SOCK_RAW, 1))'",
    "perl -e 'use Socket; exit(!socket(S, 17, SOCK_RAW, 768))'",
    "perl -e 'use Socket; socket(S,PF_INET,SOCK_DGRAM,17); exit(!defined send(S,1,0,sockaddr_in(53,inet_aton(\"192.0.2.1\"))))'",
    "perl -e 'use Socket6; 1' && getent hosts localhost6.example",
    "getent hosts example.org",
    "cat < /dev/tcp/192.0.2.1/53",
    "ls /var/run/docker.sock /run/docker.sock /run/containerd",
    "echo -1000 > /proc/self/oom_score_adj",
    "echo 100 > /proc/sys/user/max_user_namespaces",
    "echo 0 > /proc/sys/kernel/randomize_va_space",
    "cat /proc/kmsg",
    "dmesg",
    "echo x > /dev/kmsg",
    "ls /dev/fuse /dev/kvm /dev/loop0 /dev/net/tun",
    "mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem",
    "mknod /dev/sda b 8 0",
    "echo change > /sys/class/block/loop0/uevent",
    "sh -c 'echo 1 > /sys/kernel/mm/ksm/run'",
    "mkdir /sys/fs/cgroup/x /sys/fs/cgroup/memory/x",
    "echo 0 > /sys/fs/cgroup/cgroup.procs",
    "setcap cap_sys_admin+ep /tmp/sh || capsh --print | grep -q 'Bounding set =cap'",
    "renice -n -5 $$",
    "chrt -f 99 true",
    "prlimit --pid 1 --nofile=1:1",
    "swapon /tmp/f",
    "sysctl -w vm.drop_caches=1",
    "ln /etc/passwd /tmp/passwd",
    "ln -s /proc/1/root /tmp/r; ls /tmp/r/",
    "cd /proc/1/cwd",
    "cat /proc/1/maps",
    "cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n' | grep -i -e docker -e container= -e POSIX_SDC",
    "kill -STOP 1; grep '^State:.T' /proc/1/status",
    'perl -e \'$b="x" x 8; exit(syscall(310, $ARGV[0]+0, pack("PQ", $b, 8), 1, pack("QQ", 4194304, 8), 1, 0) == -1 && $! == 1)\' $$',
]


@pytest.mark.parametrize("attack", ESCAPES)
def test_no_way_out_by(attacked_world, attack):
    result = attacked_world.run(attack)
    assert result.status not in (None, 0), result.output
    assert attacked_world.run("echo on").output == "on\n"


def test_no_socket_of_the_host_answers(attacked_world):
    """Neither on the loopback nor under a name without a file."""
    name = f"posix-sdc-{secrets.token_hex(8)}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(f"\0{name}")
        unix.listen()
        port = tcp.getsockname()[1]
        for line in (
            f"socket(S,PF_INET,SOCK_STREAM,6) && connect(S,sockaddr_in({port},inet_aton('127.0.0.1')))",
            f'socket(S,PF_UNIX,SOCK_STREAM,0) && connect(S,pack("Sa*",1,"\\0{name}"))',
        ):
            assert attacked_world.run(f"perl -e 'use Socket; exit(!({line.replace(chr(39), chr(34))}))'").status != 0, (
                line
            )


def test_worlds_do_not_hear_of_each_other(attacked):
    one, other = attacked(), attacked()
    listen = "perl -e 'use Socket; socket(S,PF_INET,SOCK_STREAM,6); bind(S,sockaddr_in(4242,INADDR_ANY)); listen(S,1); sleep 20' &"
    connect = (
        "perl -e 'use Socket; exit(!(socket(S,PF_INET,SOCK_STREAM,6) && connect(S,sockaddr_in(4242,INADDR_LOOPBACK))))'"
    )
    one.run(f"{listen} sleep 0.5")
    assert other.run(connect).status != 0
    one.run("echo secret > /dev/shm/mine; echo secret > /tmp/mine")
    assert other.run("cat /dev/shm/mine /tmp/mine").status != 0
    one.run("ipcmk -M 1000 -p 666; ipcmk -Q -p 666")
    assert "0x" not in other.run("ipcs -m; ipcs -q").output


def test_nothing_of_the_host_is_to_be_seen(attacked, tmp_path):
    (tmp_path / "host-file").write_text("host secret")
    world = attacked()
    assert world.run(f"ls {tmp_path}").status != 0
    assert world.run("ls /home").output == "agent\n"
    pids = world.run("ls /proc | grep '^[0-9]'").output.split()
    assert len(pids) < 12
    assert world.run(f"kill -0 {os.getpid()}").status != 0 or str(os.getpid()) in pids


def test_no_privilege_is_to_be_gained(attacked):
    said = attacked().run("grep -E '^(NoNewPrivs|CapBnd|CapEff)' /proc/self/status").output
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


def test_no_daemon_outlives_its_session(attacked):
    word = f"daemon-{secrets.token_hex(8)}"
    world = attacked(checker="! grep -aqs daemon- /proc/[0-9]*/cmdline")
    world.run(f"(setsid nohup sh -c 'trap \"\" HUP INT TERM; while :; do sleep 0.1; done' {word} > /dev/null 2>&1 &)")
    world.run("exit")
    verdict = world.check()
    assert verdict.passed is True, verdict.detail
    world.close()
    assert not host_has(word)


def test_a_world_closed_in_the_middle_leaves_no_process(attacked):
    word = f"daemon-{secrets.token_hex(8)}"
    world = attacked()
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
    "start-up files of other languages": "for f in ~/.awkrc ~/.sed ~/.grep ~/.inputrc; do echo 'BEGIN { exit 0 }' > $f; done; export PERL5OPT=-Mevil PERL5LIB=/work GREP_OPTIONS=-v AWKPATH=/work POSIXLY_CORRECT=1 IFS=t",
    "a shell of our own": "mkdir ~/bin; cp /bin/true ~/bin/sh; cp /bin/true ~/bin/test; export PATH=~/bin:$PATH SHELL=~/bin/sh; rm -f /bin/sh /usr/bin/test; mv /usr/local/bin /usr/local/nib",
    "a door that hangs": "mkfifo done; (exec 3<>done; sleep 100) &",
    "an endless folder": "i=0; while [ $i -lt 300 ]; do mkdir d && cd d; i=$((i+1)); done 2>/dev/null; cd /work",
    "a file with a hole": "truncate -s 10M hole; ln -s hole not-done",
    "traps and a stopped daemon": "trap 'touch done; echo x > done' EXIT HUP TERM; (trap 'echo x > done' TERM HUP INT; while :; do sleep 0.1; done) & kill -STOP $!; trap - EXIT",
    "a watcher": "(while :; do for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; done; done >> /tmp/seen 2>/dev/null) &",
}


@pytest.mark.parametrize("attack", TAMPERINGS.values(), ids=TAMPERINGS.keys())
def test_the_checker_is_not_misled_by(attacked, attack):
    world = attacked(checker="test -f done && test -s done")
    world.run(attack)
    world.run("exit")
    assert world.check().passed is False


def test_a_checker_touches_nothing_outside(attacked, tmp_path):
    script = f"touch /usr/bin/evil-checker {tmp_path}/evil; echo x > /proc/sys/kernel/core_pattern; mount -t tmpfs none /mnt; true"
    core = Path("/proc/sys/kernel/core_pattern").read_text()
    assert attacked(checker=script).check().passed is True
    assert not Path("/usr/bin/evil-checker").exists()
    assert not list(tmp_path.iterdir())
    assert Path("/proc/sys/kernel/core_pattern").read_text() == core


# ------------------------------------------------------------------------------------------------ bundles


def test_a_bundle_cannot_write_through_its_own_links(attacked, tmp_path):
    with pytest.raises(SchemaError) as caught:
        attacked(
            fixtures=[
                {"path": "/work/out", "kind": "symlink", "target": str(tmp_path)},
                {"path": "/work/out/evil", "content": "x"},
            ]
        )
    assert "symlink" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_link_out_of_the_world_leads_nowhere_on_the_host(attacked, tmp_path):
    (tmp_path / "f").write_text("host")
    world = attacked(fixtures=[{"path": "/work/out", "kind": "symlink", "target": str(tmp_path)}])
    assert world.run("cat out/f; echo x > out/new").status != 0
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("path", ["/work/../../etc/x", "relative", "/a\0b"])
def test_a_path_that_leads_elsewhere_is_refused(scenario, path):
    with pytest.raises(SchemaError):
        scenario(fixtures=[{"path": path}])


def test_an_announcement_cannot_climb_out(attacked):
    world = attacked(announcement={"kind": "file", "path": "/../../../srv/note", "text": "x"})
    assert world.run("cat /srv/note").output == "x\n"


def test_a_variable_that_is_no_variable_is_refused(attacked):
    with pytest.raises(SchemaError) as caught:
        attacked(environment={"A B": "x"})
    assert caught.value.field == "environment['A B']"


@pytest.mark.parametrize(
    "interpreter",
    ["/bin/sh -c 'touch /evil' ;", "/bin/sh; touch /evil;", "/bin/sh $(id)", "sh", "", "/bin/sh\ntouch /evil", "/a|b"],
)
def test_an_interpreter_is_only_an_interpreter(scenario, interpreter):
    with pytest.raises(SchemaError) as caught:
        scenario(checker={"script": "true", "interpreter": interpreter})
    assert caught.value.field == "checker.interpreter"


ODD_NAMES = [
    "/work/-rf",
    "/work/a b",
    "/work/$(touch evil)",
    "/work/;touch evil",
    "/work/'\"",
    "/work/a\nb",
    "/work/*",
    "/work/\x7fé",
]


def test_odd_names_are_only_names(attacked):
    world = attacked(fixtures=[{"path": path, "content": "x"} for path in ODD_NAMES], checker="test ! -e evil")
    assert world.run("find /work -type f | wc -l; ls evil").output.startswith(f"{len(ODD_NAMES) + 1}\n")
    assert world.check().passed is True


@pytest.mark.parametrize(
    "path", ["/proc/evil", "/sys/evil", "/dev/evil", "/run/evil", "/run/session/dash", "/dev", "//proc/../proc/x/"]
)
def test_no_fixture_lies_where_the_kernel_or_the_session_has_its_own(attacked, path):
    with pytest.raises(SchemaError) as caught:
        attacked(fixtures=[{"path": path, "content": "x"}])
    assert caught.value.field == "fixtures[0].path"


def test_a_work_folder_that_is_a_link_leads_nowhere_on_the_host(attacked, tmp_path):
    with pytest.raises(SchemaError, match="work"):
        attacked(fixtures=[{"path": "/work", "kind": "symlink", "target": str(tmp_path)}])
    world = attacked(workdir="/work/in", fixtures=[{"path": "/work/in/l", "kind": "symlink", "target": "/work/in"}])
    assert world.run("cd l/l/l; pwd -P").output == "/work/in\n"
    assert list(tmp_path.iterdir()) == []


def test_what_starts_with_a_world_is_held_as_its_session_is(attacked, tmp_path):
    word = f"daemon-{secrets.token_hex(8)}"
    evil = f"""#!/bin/sh
touch {tmp_path}/evil /usr/bin/evil /etc/evil
echo forged >&8; echo forged >&9
for n in 0 1 2 3 4 5 6 7 8 9 10 11 12; do timeout 0.1 cat /proc/$PPID/fd/$n /proc/self/fd/$n; done > /tmp/stolen
kill -9 1
(setsid sh -c 'trap "" HUP INT TERM; while :; do sleep 0.1; done' {word} &)
"""
    world = attacked(fixtures=[{"path": "/opt/evil", "content": evil, "mode": "755", "start": True}], checker="true")
    holds(world)
    world.run("exit")
    assert world.check().passed is True
    world.close()
    assert not host_has(word)
    assert not list(tmp_path.iterdir())
