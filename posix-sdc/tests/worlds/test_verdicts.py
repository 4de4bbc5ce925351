"""What a verdict stands on: statuses that no trap forges, living processes that are asked, files that are tried."""

# ruff: noqa: E501 - a shell command reads best on one line
from __future__ import annotations

import re

import pytest

from tiararodney.posix_sdc.worlds.protocol import Check, Limits

# Waits for whatever the shell prints on the descriptors of its wire, and answers in its place.
RELAY = """\
cat >/tmp/relay <<'E'
for fd in 8 9; do
    for word in 0 1 77 127; do printf '\\n.\\n' >&$fd; done
done 2>/dev/null
(while IFS= read -r line; do case $line in *' '*) printf '\\n%s 0\\n' "${line%% *}" ;; *) printf '%s\\n' "$line" ;; esac; done </tmp/pipe >&9) 2>/dev/null &
E
mkfifo /tmp/pipe
"""

TRAPS = {
    "a child with the wire's descriptors": "trap '(. /tmp/relay; echo forged >&8; echo forged >&9) 2>/dev/null' {signal}",
    "the report led through a pipe": "trap '. /tmp/relay; exec 9>/tmp/pipe' {signal}",
    "what is read, written down": "trap 'exec 2>/tmp/stolen; set -v -x' {signal}",
    "the variable that holds the status": "trap 'for v in $(set | sed -n \"s/^\\(s_[0-9a-f]*\\)=.*/\\1/p\"); do eval $v=0; done' {signal}",
    "a function of our word": "trap 'command() {{ :; }}; printf() {{ :; }}' {signal}",
    "another trap on every signal": "trap 'for s in HUP INT TERM USR2 ALRM CHLD; do trap \"exec 9>/tmp/pipe 2>/tmp/stolen; set -v\" $s; done' {signal}",
}


@pytest.mark.parametrize("when", ["between commands", "after an interrupt"])
@pytest.mark.parametrize("trap", TRAPS.values(), ids=TRAPS.keys())
def test_no_trap_forges_a_status(attacked, trap, when):
    world = attacked(Limits(command_seconds=2))
    world.run(RELAY)
    sends = {
        "between commands": "(for i in 1 2 3 4; do kill -USR1 $$; sleep 0.1; done) & :",
        "after an interrupt": "(sleep 0.1; kill -USR1 $$; sleep 0.1; kill -USR1 $$) & kill -INT $$",
    }
    assert world.run(f"{trap.format(signal='USR1 CHLD')}; {sends[when]}").ended in (None, "died")
    # A shell that SIGINT threw out of a command, or that does not answer, counts as stopped (130), never as content.
    thrown_out = {(130, None)}
    for command, status in (("sleep 0.4; (exit 77)", 77), ("I would do this", 127), ("(exit 3)", 3), ("true", 0)):
        result = world.run(command)
        if result.ended == "died":
            break
        expected = {(status, None), *thrown_out}
        expected |= {(130, None)} if "[stopped after" in result.output else set()
        assert (result.status, result.ended) in expected, (command, result)
        thrown_out = set()
    world.run("set +vx; trap - USR1 CHLD; exec 2>&1")
    assert not re.search(r"^[0-9a-f]{32} ", world.run("cat /tmp/stolen").output, re.MULTILINE)


def test_a_sourced_function_hides_no_status(attacked):
    """A file that is sourced defines our words; nothing of it stands in what was typed."""
    world = attacked()
    world.run("printf 'command() { :; }\\nprintf() { :; }\\n' > f")
    world.run(". ./f")
    assert world.run("echo seen; (exit 5)").status == 5
    assert world.run("echo on").output == "on\n"
    assert world.run("touch done; exit").ended == "exit"
    assert world.check().passed is True


def test_errexit_and_tracing_change_no_status(attacked):
    world = attacked()
    world.run("set -eux")
    assert [world.run(c).status for c in ("true", "false || true", "test -e /etc")] == [0, 0, 0]
    assert world.run("echo a 2>&1").output == "+ echo a\na\n"
    assert world.run("set +eux; (exit 9)").status == 9
    assert world.run("echo $?").output == "9\n"


def test_a_trap_hears_what_comes_between_commands(attacked):
    world = attacked()
    world.run("trap 'echo heard' USR1; (sleep 0.2; kill -USR1 $$) & :")
    world.run("sleep 0.5")
    assert world.run("trap").output == "trap -- '__end exit' EXIT\ntrap -- 'echo heard' USR1\n"
    world.run("(sleep 0.1; kill -USR1 $$) & :")
    assert "heard\n" in [world.run("sleep 0.3; echo on").output.removesuffix("on\n")]


def test_a_redirection_by_exec_lasts(attacked):
    world = attacked()
    world.run("printf 'a\\nb\\n' > in; exec < in > log")
    assert world.run("read x; echo got $x").output == ""
    assert world.run("read x; echo got $x; exec </dev/null >&2").output == ""
    assert world.run("cat log").output == "got a\ngot b\n"


# ------------------------------------------------------------------------------------------------ what is held


UNHELD = {
    "memfd_create": "319, $name = 'x', 0",
    "memfd_secret": "447, 0",
    "shmget": "29, 0, 1 << 26, 0x3b6",
    "msgget": "68, 0, 0x3b6",
}


@pytest.mark.parametrize("call", UNHELD.values(), ids=UNHELD.keys())
def test_memory_that_no_limit_counts_is_refused(attacked, call):
    """Or counted: a container's memory is held by its control group, whatever it is called."""
    world = attacked()
    if world.runtime == "docker":
        pytest.skip("counted by the container's control group")
    assert world.run(f"perl -e 'exit(syscall({call.replace(chr(39), chr(34))}) < 0)'").status == 1


@pytest.mark.parametrize("what", ["mem", "environ", "maps", "fd/0", "root/etc", "cwd/", "stat >/proc/1/mem"])
def test_the_first_process_is_out_of_reach(attacked, what):
    world = attacked()
    assert world.run(f"head -c 1 /proc/1/{what} | grep . || cat /proc/1/{what} >/dev/null").status != 0
    assert world.run("kill -9 1; kill -TERM 1; echo on").output.endswith("on\n")


def test_commands_inherit_three_descriptors(attacked):
    assert attacked().run("for n in /proc/self/fd/*; do echo ${n##*/}; done; ls /proc/self/fd").output.split()[-4:] == [
        *"0123"
    ]


# ------------------------------------------------------------------------------------------------ what is left running

SLOW = "(trap 'sleep 0.4; echo handled > done' TERM; echo $$ > /dev/null; while :; do sleep 0.05; done) & echo $! > pid"


def test_a_handler_has_its_time_after_the_session(attacked):
    world = attacked(checker="grep -qx handled done")
    world.run(SLOW)
    world.run("sleep 0.2")
    world.run("kill -TERM $(cat pid); exit")
    assert world.check().passed is True


def test_what_does_not_end_is_ended(attacked):
    world = attacked(Limits(grace_seconds=0.3), checker="! grep -aqs hanger /proc/[0-9]*/cmdline")
    world.run("sh -c 'trap \"\" TERM HUP INT; while :; do sleep 0.1; done' hanger & yes & yes >&2 &")
    world.run("exit")
    assert world.check().passed is True


def test_a_probe_asks_the_living(attacked):
    script = """echo "ok 1 - looks"; if [ "$(cat /run/probe)" = "alive-4711" ]; then echo "ok 2 - answers"; else echo "not ok 2 - answers"; exit 1; fi"""
    checker = {"script": script, "probe": 'kill -USR1 "$(cat pid)" && sleep 0.4 && cat answer'}
    for living in (True, False):
        world = attacked(checker=checker)
        world.run("(trap 'echo alive-4711 > answer' USR1; while :; do sleep 0.05; done) & echo $! > pid")
        world.run("sleep 0.2" if living else "kill -9 $(cat pid); echo alive-4711 > answer")
        world.run("exit")
        verdict = world.check()
        assert verdict.passed is living
        assert verdict.checks == (Check("looks", True), Check("answers", living))


def test_a_probe_is_as_little_as_the_session_was(attacked):
    probe = "id -u; touch /etc/x /usr/x 2>/dev/null || echo refused; grep -c '^CapEff:.0000000000000000$' /proc/self/status; unshare -Ur true 2>/dev/null || echo refused"
    world = attacked(checker={"script": "cat /run/probe", "probe": probe, "trial": probe})
    world.run("exit")
    assert world.check().detail == "1000\nrefused\n1\nrefused"
    world = attacked(checker={"script": "cat /run/trial", "trial": probe})
    world.run("exit")
    assert world.check().detail == "1000\nrefused\n1\nrefused"


def test_a_trial_runs_what_was_made_and_decides_nothing_itself(attacked):
    """The script tries to reach the checker, its verdict and its parent, as it could when root ran it."""
    world = attacked(
        checker={
            "script": '[ "$(cat /run/trial)" = word ] && echo "ok 1 - says word" || { echo "not ok 1 - says word"; exit 1; }',
            "trial": "sh ./made",
        }
    )
    hostile = (
        "echo 'ok 1 - says word'; echo word > /run/trial; echo x > /proc/$PPID/mem; kill -9 1 -1; cat /run/checker"
    )
    world.run(f"printf '%s\\n' '{hostile}' > made; exit")
    verdict = world.check()
    assert verdict.passed is False
    assert verdict.checks == (Check("says word", False),)
    world = attacked(checker={"script": '[ "$(cat /run/trial)" = word ]', "trial": "sh ./made"})
    world.run("echo 'echo word' > made; exit")
    assert world.check().passed is True


def test_a_trial_that_does_not_end_is_ended(attacked):
    limits = Limits(probe_seconds=0.5)
    world = attacked(limits, checker={"script": '[ "$(cat /run/trial)" = begun ]', "trial": "echo begun; sh ./made"})
    world.run("echo 'sleep 100 & sleep 100' > made; exit")
    assert world.check().passed is True


def test_nothing_of_probe_and_trial_shows_before(attacked):
    world = attacked(checker={"script": "true", "probe": "echo un-mistakable", "trial": "echo un-mistakable"})
    seen = world.run(
        "grep -rs 'un[-]mistakable' / --exclude-dir=proc --exclude-dir=sys --exclude-dir=usr; cat /proc/*/cmdline /proc/*/environ 2>/dev/null | grep -a 'un[-]mistakable'"
    )
    assert seen.output == ""


def test_a_session_tells_no_checks(attacked):
    """What it left running prints on until it is ended, before the checker begins."""
    world = attacked(checker="echo 'not ok 1 - done'; exit 1")
    world.run("(while :; do echo 'ok 1 - done'; sleep 0.01; done) &")
    world.run("exit")
    verdict = world.check()
    assert (verdict.passed, verdict.checks) == (False, (Check("done", False),))
