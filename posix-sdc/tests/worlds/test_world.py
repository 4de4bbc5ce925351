"""What holds in every world, whatever runs it: one suite over both runtimes."""

# ruff: noqa: E501 - a shell command reads best on one line
from __future__ import annotations

import re
import signal
import threading
import time

import pytest

from tiararodney.posix_sdc.errors import SchemaError
from tiararodney.posix_sdc.worlds.filesystem import EPOCH
from tiararodney.posix_sdc.worlds.protocol import Limits

# ------------------------------------------------------------------------------------------------ what a user sees


def test_a_command_gives_its_output_and_status(shared_world):
    result = shared_world.run("printf 'a\\nb\\n'; exec 2>&1; echo c >&2; (exit 7)")
    assert (result.output, result.status, result.ended) == ("a\nb\nc\n", 7, None)


def test_the_user_is_nobody_special(shared_world):
    facts = "id -u; id -un; id -Gn; hostname; echo $HOME $USER $PATH; pwd; awk '/^Cap/ {print $2}' /proc/self/status | sort -u"
    assert shared_world.run(facts).output.splitlines() == [
        "1000",
        "agent",
        "agent",
        "host",
        "/home/agent agent /usr/local/bin:/usr/bin:/bin",
        "/work",
        "0000000000000000",
    ]


def test_no_variable_of_the_host_comes_in(stand_up, monkeypatch):
    monkeypatch.setenv("HOST_TOKEN", "hunter2")
    assert "HOST_TOKEN" not in stand_up().run("env").output


def test_state_lives_on_from_command_to_command(stand_up):
    world = stand_up()
    world.run("cd /tmp; X=1; f() { echo f $1; }; alias hi='echo alias'; umask 077; set -f")
    assert world.run("pwd; echo $X; f 2; umask; echo *\nhi").output == "/tmp\n1\nf 2\n0077\n*\nalias\n"


def test_status_of_the_last_command_is_there_for_the_next(shared_world):
    shared_world.run("(exit 42)")
    assert shared_world.run("echo $?").output == "42\n"


@pytest.mark.parametrize(
    ("command", "says", "status"),
    [
        ('echo "unbalanced', "sh: 1: Syntax error: Unterminated quoted string\n", 2),
        ("if", 'sh: 1: Syntax error: end of file unexpected (expecting "then")\n', 2),
        ("no-such-program", "sh: 1: no-such-program: not found\n", 127),
        ("It is a fine day.", "sh: 1: It: not found\n", 127),
        ("${x?gone}", "sh: 1: x: gone\n", 2),
        ("readonly R=1; R=2; echo no", "sh: 1: R: is read only\n", 2),
        (". /none", "sh: 1: .: cannot open /none: No such file\n", 2),
        (": < /none", "sh: 1: cannot open /none: No such file\n", 2),
        ("shift 5", "sh: 1: shift: can't shift that many\n", 2),
        ("set -o nonsense", "sh: 1: set: Illegal option -o nonsense\n", 2),
    ],
)
def test_an_error_is_the_shells_and_the_session_goes_on(shared_world, command, says, status):
    result = shared_world.run(command)
    assert (result.output, result.status, result.ended) == (says, status, None)
    assert shared_world.run("echo on").output == "on\n"


def test_a_command_that_reads_gets_the_end_of_file(shared_world):
    assert shared_world.run('cat; read x; echo $? "[$x]"').output == "1 []\n"
    assert shared_world.run("sh").status == 0


def test_a_here_document_and_many_lines_are_one_command(shared_world):
    assert shared_world.run("cat <<END\nit's $((6*7))\nEND\nfor i in 1 2\ndo echo $i\ndone").output == "it's 42\n1\n2\n"


def test_carriage_returns_are_newlines_and_nul_is_nothing_as_on_a_terminal(shared_world):
    assert shared_world.run("echo a\r\necho b\recho c\0d").output == "a\nb\ncd\n"


def test_odd_characters_pass_in_both_directions(shared_world):
    assert shared_world.run("echo 'é€𝄞\\'").output == "é€𝄞\\\n"
    assert shared_world.run("printf 'a\\377b\\000c\\n'").output == "a\N{REPLACEMENT CHARACTER}bc\n"
    assert shared_world.run("echo '\ud800'").status == 0


def test_a_command_longer_than_every_buffer_runs(shared_world):
    text = "0123456789" * 20_000
    assert shared_world.run(f"x='{text}'; echo ${{#x}}; unset x").output == "200000\n"


def test_output_without_a_last_newline_stays_without(shared_world):
    assert shared_world.run("printf x").output == "x"
    assert shared_world.run(":").output == ""


def test_programs_can_open_their_standard_streams_by_name(shared_world):
    assert (
        shared_world.run("echo a > /dev/stdout; echo b > /dev/stderr; echo c | tee /dev/stderr").output
        == "a\nb\nc\nc\n"
    )


def test_open_redirections_to_numbered_descriptors_work(shared_world):
    shared_world.run("printf '1\\n2\\n' > /tmp/in")
    assert (
        shared_world.run("exec 3< /tmp/in 4> /tmp/out; read a <&3; read b <&3; echo $a$b >&4; cat /tmp/out").output
        == "12\n"
    )
    assert shared_world.run("cat <&3; echo end >&4; cat /tmp/out; exec 3<&- 4>&-").output == "12\nend\n"


# ------------------------------------------------------------------------------------------------- fixtures


def test_fixtures_have_their_content_mode_and_owner(stand_up):
    world = stand_up(
        fixtures=[
            {"path": "/work/a/b.txt", "content": "hé\n"},
            {"path": "/work/run.sh", "content": "#!/bin/sh\necho ran\n", "mode": "755"},
            {"path": "/work/link", "kind": "symlink", "target": "a/b.txt"},
            {"path": "/srv/box", "kind": "dir", "mode": "700"},
            {"path": "/etc/app.conf", "content": "x=1\n", "owner": "root"},
        ]
    )
    said = world.run(
        "cat a/b.txt link; ./run.sh; touch a/new /srv/box/new && echo yes; cat /etc/app.conf; readlink link"
    ).output
    assert said == "hé\nhé\nran\nyes\nx=1\na/b.txt\n"
    assert world.run("stat -c %a run.sh /srv/box").output == "755\n700\n"


def test_what_every_machine_has_stays_roots(stand_up):
    paths = ["/var/lib/app/state", "/etc/app/conf", "/usr/share/app/data", "/srv/app/x"]
    world = stand_up(fixtures=[{"path": path, "content": "x"} for path in paths])
    assert world.run(
        "stat -c %U /var/lib /etc /usr/share /srv; echo >> /var/lib/app/state; touch /srv/app/y && echo ok"
    ).output.split() == [
        *["root"] * 4,
        "ok",
    ]


def test_roots_fixtures_are_out_of_the_users_hands(stand_up):
    world = stand_up(
        fixtures=[
            {"path": "/etc/app.conf", "content": "x=1\n", "owner": "root"},
            {"path": "/work/secret", "content": "s3cret\n", "owner": "root", "mode": "600"},
            {"path": "/work/own", "content": "mine\n"},
        ],
        provider={
            "name": "board",
            "files": [{"path": "/usr/local/bin/board", "content": "#!/bin/sh\n", "mode": "755", "owner": "root"}],
        },
    )
    for command in (
        "echo >> /etc/app.conf",
        "rm -f /etc/app.conf",
        "mv /etc/app.conf /tmp",
        "chmod 777 /etc/app.conf",
        "cat secret",
        "chmod 644 secret",
        "echo >> /usr/local/bin/board",
        "rm -f /usr/local/bin/board",
        "touch /usr/local/bin/new /etc/new /new",
        "touch /usr/bin/new",
    ):
        assert world.run(command).status != 0, command
    assert world.run("cat /etc/app.conf; echo >> own && rm own && echo ok").output == "x=1\nok\n"


def test_an_announcement_stands_where_its_kind_says(stand_up):
    world = stand_up(announcement={"kind": "env", "variable": "NOTICE", "text": "it's here"})
    assert world.run('echo "$NOTICE"').output == "it's here\n"
    world = stand_up(announcement={"kind": "file", "path": "/var/notes/today", "text": "read me"})
    assert world.run("cat /var/notes/today").output == "read me\n"


def test_environment_variables_are_set_whatever_is_in_them(stand_up):
    world = stand_up(environment={"A": "x y'z\"$(id)\\", "B": "", "LINES_": "1\n2"})
    assert world.run('echo "$A|$B|$LINES_"').output == "x y'z\"$(id)\\||1\n2\n"


def test_programs_may_stand_among_the_systems_own(stand_up):
    tool = {"path": "/usr/bin/board", "content": "#!/bin/sh\necho board\n", "mode": "755", "owner": "root"}
    other = {"path": "/bin/notes", "content": "#!/bin/sh\necho notes\n", "mode": "755", "owner": "root"}
    page = {"path": "/usr/share/notes/1.txt", "content": "one\n", "owner": "root"}
    world = stand_up(provider={"name": "board", "files": [tool, other, page]})
    said = world.run(
        "board; notes; cat /usr/share/notes/1.txt; command -v board; echo >> /usr/bin/board || ls /usr/bin/env"
    )
    assert said.output.splitlines()[:4] == ["board", "notes", "one", "/usr/bin/board"]
    assert said.output.endswith("/usr/bin/env\n")


def test_man_prints_the_pages_that_the_scenario_brings(stand_up):
    page = {"path": "/usr/local/share/man/board.txt", "content": "BOARD(1)\n", "owner": "root"}
    world = stand_up(provider={"name": "board", "documentation": "man", "files": [page]})
    assert world.run("man board").output == "BOARD(1)\n"
    assert world.run("man 1 board").output == "BOARD(1)\n"
    gone = world.run("man nothing")
    assert (gone.output, gone.status) == ("No manual entry for nothing\n", 16)


def test_the_work_folder_is_the_users_wherever_it_is(stand_up):
    world = stand_up(workdir="/srv/deep/down here")
    assert world.run("touch x && pwd").output == "/srv/deep/down here\n"


@pytest.mark.parametrize(
    ("fixture", "field"),
    [
        ({"path": "/proc/sys/kernel/x"}, "fixtures[0].path"),
        ({"path": "/dev/sda"}, "fixtures[0].path"),
        ({"path": "/run/session/dash"}, "fixtures[0].path"),
        ({"path": "/"}, "fixtures[0].path"),
        ({"path": "/", "kind": "dir", "mode": "1777"}, "fixtures[0].path"),
        ({"path": "/", "kind": "dir", "mode": "777", "owner": "root"}, "fixtures[0].path"),
        ({"path": "/work", "content": "x"}, "fixtures[0].kind"),
        ({"path": "/work/l", "kind": "symlink"}, "fixtures[0].target"),
    ],
)
def test_a_fixture_that_no_world_can_have_is_refused_by_field(stand_up, fixture, field):
    with pytest.raises(SchemaError) as caught:
        stand_up(fixtures=[fixture])
    assert caught.value.field == field


def test_sticky_root_folder_takes_files_and_keeps_roots_own(attacked):
    """All may make files in it, or nobody may (an ordinary user's sandbox); nothing of root's goes away."""
    world = attacked(fixtures=[{"path": "/", "kind": "dir", "mode": "1777", "owner": "root"}])
    made = world.run("echo x >/new && cat /new && rm /new").output
    assert made == "x\n" or "Read-only file system" in made
    for command in ("mv /etc /etc2", "rm /bin", "mv /lib64 /x", "rmdir /mnt", "chmod 777 /"):
        result = world.run(command)
        assert result.status not in (0, None), command
    assert world.run("ls -d /etc /bin /mnt").status == 0


# ------------------------------------------------------------------------------------------------- endings


@pytest.mark.parametrize(
    ("command", "ended"),
    [
        ("exit", "exit"),
        ("exit 3", "exit"),
        ("true && exit", "exit"),
        ("eval exit", "exit"),
        ("f() { exit; }; f", "exit"),
        ("trap 'echo bye' EXIT; exit", "exit"),
        ("set -e; exit 1", "exit"),
        ("exec /none", "died"),
        ("return 3", "died"),
        ("panic", "panic"),
        ("panic no key for the store room", "panic"),
        ("panic it's broken; echo \"(", None),
        ("exec true", "died"),
        ("exec sh -c exit", "died"),
        ("kill -9 $$", "died"),
        ("set -e; false", "died"),
        ("(exit)", None),
        ("(exit 3)", None),
        ("(panic x)", None),
        ("echo exit", None),
        ("sh -c exit", None),
        ("exit | cat", None),
        ("exit &", None),
        ("panic x | cat", None),
        ("kill $$", None),
        ("kill -INT $$", None),
        ("alias exit=true; alias panic=true", None),
        ("trap : EXIT", None),
        ("echo; # exit", None),
    ],
)
def test_a_session_ends_only_when_its_shell_does(stand_up, command, ended):
    world = stand_up()
    assert world.run(command).ended == ended
    again = world.run("echo still here")
    if ended is None:
        assert (again.output, again.ended) == ("still here\n", None)
    else:
        assert (again.output, again.ended) == ("", ended)


def test_an_alias_or_function_named_like_an_ending_ends_nothing(stand_up):
    world = stand_up()
    world.run("alias exit='echo not yet'; panic() { echo calm; }")
    assert world.run("exit").output == "not yet\n"
    assert world.run("panic now").output == "calm\n"
    assert world.run("\\exit").ended == "exit"


def test_the_last_commands_output_is_kept(stand_up):
    assert stand_up().run("echo one; echo two; exit").output == "one\ntwo\n"
    assert stand_up().run("trap 'echo bye' EXIT; exit").ended == "exit"


# --------------------------------------------------------------------------------------------------- limits


def test_a_command_without_end_is_stopped_and_the_session_goes_on(stand_up):
    world = stand_up(Limits(command_seconds=0.5))
    world.run("X=kept")
    start = time.monotonic()
    for command in (
        "sleep 1000",
        "while :; do :; done",
        "while :; do sleep 1; done",
        "sleep 1000 | cat",
        "sh -c 'trap \"\" INT TERM; sleep 99'",
    ):
        result = world.run(f"echo begun; {command}")
        assert result.output.replace("Killed\n", "").split() == ["begun", "[stopped", "after", "0.5", "s]"], command
        assert result.ended is None, command
    assert world.run("echo $X").output == "kept\n"
    assert time.monotonic() - start < 15


def test_a_shell_that_will_not_be_stopped_is_ended(stand_up):
    world = stand_up(Limits(command_seconds=0.3))
    assert world.run("trap '' INT; while :; do :; done").ended == "died"


def test_a_stopped_shell_is_woken_and_goes_on(stand_up):
    world = stand_up(Limits(command_seconds=0.5))
    assert world.run("kill -STOP $$; echo woken").ended is None
    assert world.run("echo on").output == "on\n"


def test_endless_output_is_cut_in_the_middle(stand_up):
    world = stand_up(Limits(command_seconds=0.7, output_bytes=1000))
    result = world.run("echo first; yes abcdefg")
    assert result.output.startswith("first\nabcdefg\n")
    assert " bytes left out ...]\n" in result.output
    assert len(result.output) < 1200
    assert world.run("echo on").output == "on\n"


def test_what_a_long_command_printed_last_is_kept(stand_up):
    output = stand_up(Limits(output_bytes=2000)).run("seq 100000").output
    assert output.startswith("1\n2\n3\n")
    assert output.endswith("99999\n100000\n")


def test_background_processes_do_not_hold_up_the_next_command(stand_up):
    world = stand_up()
    start = time.monotonic()
    assert world.run("sleep 100 & echo started").output == "started\n"
    assert world.run("echo next").output == "next\n"
    assert time.monotonic() - start < 2


def test_background_output_comes_with_a_later_command(stand_up):
    world = stand_up()
    world.run("(sleep 0.2; echo late) &")
    assert world.run("sleep 0.6").output == "late\n"


def test_disk_is_limited(stand_up):
    world = stand_up(Limits(disk_bytes=4 * 1024**2))
    for place in ("/work", "/tmp", "/home/agent", "/dev/shm"):
        said = world.run(
            f"head -c 20000000 /dev/zero > {place}/big; s=$?; stat -c %s {place}/big; rm {place}/big; exit_=$s; (exit $s)"
        )
        assert said.status != 0, place
        assert int(said.output.splitlines()[-1]) <= 4 * 1024**2, place


# -------------------------------------------------------------------------------------------------- checker


def test_the_checker_judges_the_state_as_root_in_the_work_folder(stand_up):
    world = stand_up(
        checker='id -u; pwd; cat "$PWD/deep"; echo "[$NOTICE]"',
        announcement={"kind": "env", "variable": "NOTICE", "text": "x"},
    )
    world.run("echo hidden > deep; chmod 000 deep; exit")
    verdict = world.check()
    assert (verdict.passed, verdict.detail) == (True, "0\n/work\nhidden\n[]")


def test_the_checkers_exit_status_decides(stand_up):
    passed, failed = stand_up(), stand_up()
    passed.run("touch done")
    assert passed.check().passed is True
    failed.run("echo forged: passed")
    assert failed.check().passed is False


def test_nothing_of_the_checker_is_there_before(stand_up):
    world = stand_up(checker="# unmistakable-text\ntrue")
    said = world.run(
        "grep -rs '[u]nmistakable' / --exclude-dir=proc --exclude-dir=sys --exclude-dir=usr; cat /proc/*/cmdline /proc/*/environ 2>/dev/null | grep -a '[u]nmistakable'"
    )
    assert said.output == ""
    assert world.check().passed is True


def test_background_processes_are_dead_before_the_checker_comes(stand_up):
    world = stand_up(checker="sleep 0.3; test ! -e late && ! grep -sl sleep-well /proc/[0-9]*/cmdline")
    world.run(
        "(while :; do sleep 0.05; touch late; rm -f late; done) & (setsid sh -c 'sleep 0.2; touch late; : sleep-well' &)"
    )
    world.run("exit")
    verdict = world.check()
    assert verdict.passed is True, verdict.detail


def test_a_checker_without_end_fails_within_its_limit(stand_up):
    world = stand_up(Limits(check_seconds=0.5), checker="echo begun; sleep 1000")
    start = time.monotonic()
    verdict = world.check()
    assert verdict.passed is False
    assert verdict.detail.endswith("[the checker did not end within 0.5 s]")
    assert time.monotonic() - start < 10


def test_a_checker_may_be_in_another_language(stand_up):
    world = stand_up(checker={"script": 'BEGIN { print "awk"; exit 0 }', "interpreter": "/usr/bin/awk -f"})
    assert world.check().detail == "awk"


def test_the_end_of_a_long_checkers_output_is_kept(stand_up):
    detail = stand_up(checker="seq 100000; false").check().detail
    assert detail.endswith("\n99999\n100000")
    assert len(detail) < 5000


# -------------------------------------------------------------------------------------------------- running


def test_worlds_run_side_by_side_and_know_nothing_of_each_other(stand_up):
    worlds = [stand_up() for _ in range(3)]
    said: dict[int, str] = {}

    def play(i: int) -> None:
        worlds[i].run(f"echo {i} > /tmp/mine")
        said[i] = worlds[i].run("sleep 0.1; cat /tmp/mine; ls /tmp").output

    threads = [threading.Thread(target=play, args=(i,)) for i in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert said == {i: f"{i}\nmine\n" for i in range(3)}


def test_a_world_outlives_the_thread_that_opened_it(stand_up):
    worlds = []
    thread = threading.Thread(target=lambda: worlds.append(stand_up()))
    thread.start()
    thread.join()
    time.sleep(0.2)
    assert worlds[0].run("echo alive").output == "alive\n"


def test_closing_twice_is_harmless(stand_up):
    world = stand_up()
    world.close()
    world.close()


def test_a_session_has_an_end_too(stand_up):
    world = stand_up(Limits(session_seconds=0.8))
    assert world.run("sleep 100").output.startswith("[stopped after 0.")
    last = world.run("echo more")
    assert (last.output, last.ended) == ("[session stopped after 0.8 s]\n", "died")
    assert world.check().passed is False


# ---------------------------------------------------------------------------------------- times and programs that run


def test_a_listing_shows_the_scenarios_times_not_the_clocks(stand_up):
    world = stand_up(
        fixtures=[
            {"path": "/work/a", "content": "x", "mtime": 1_700_000_000},
            {"path": "/work/d/b", "content": "x"},
            {"path": "/work/l", "kind": "symlink", "target": "a"},
        ]
    )
    shown = world.run("stat -c '%n %Y' a d d/b . .. /etc /usr/local/bin/man; stat -c %Y l").output
    assert shown == (
        f"a 1700000000\nd {EPOCH}\nd/b {EPOCH}\n. {EPOCH}\n.. {EPOCH}\n/etc {EPOCH}\n"
        f"/usr/local/bin/man {EPOCH}\n{EPOCH}\n"
    )


def test_two_worlds_of_one_scenario_list_the_same_bytes(stand_up):
    line = "ls -laR --full-time /work /home /srv /var /etc/passwd; ls -la /usr/local/bin"
    fixtures = [{"path": f"/work/{n}/f", "content": n} for n in "abc"]
    assert stand_up(fixtures=fixtures).run(line).output == stand_up(fixtures=fixtures).run(line).output


_SERVICE = """#!/bin/sh
(
    trap 'cat app.conf > loaded' HUP
    trap 'echo stopped > state; exit 0' TERM
    echo up > state
    while :; do sleep 0.02; done
) &
echo $! > pid
while [ ! -e state ]; do sleep 0.01; done
"""


def test_a_program_that_starts_with_the_world_is_there_and_hears_signals(stand_up):
    world = stand_up(
        fixtures=[
            {"path": "/usr/local/bin/served", "content": _SERVICE, "mode": "755", "owner": "root", "start": True},
            {"path": "/work/app.conf", "content": "one\n"},
        ],
        checker="grep -q one loaded && grep -q stopped state && ! kill -0 $(cat pid) 2>/dev/null",
    )
    owner = r"sed -n 's/^Uid:\t\([0-9]*\)\t.*/\1/p' /proc/$(cat pid)/status"  # a small machine has no ps
    whose = f'[ "$({owner})" = "$(id -u)" ] && echo its own'
    assert world.run(f"cat state; kill -0 $(cat pid); echo $?; {whose}").output == "up\n0\nits own\n"
    assert world.run("kill -HUP $(cat pid); sleep 0.3; cat loaded").output == "one\n"
    assert world.run("kill $(cat pid); sleep 0.3; cat state").output == "stopped\n"
    world.run("exit")
    verdict = world.check()
    assert verdict.passed is True, verdict.detail


def test_a_program_that_fails_or_prints_does_not_disturb_the_session(stand_up):
    noisy = "#!/bin/sh\necho out; echo err >&2; cat; echo x >&8; echo y >&9; cd /tmp; exit 3\n"
    world = stand_up(
        fixtures=[
            {"path": "/opt/a", "content": noisy, "mode": "755", "start": True},
            {"path": "/opt/b", "content": "#!/no/such\n", "mode": "755", "start": True},
        ]
    )
    assert world.run("echo $?; pwd").output == "0\n/work\n"


def test_what_starts_sees_the_sessions_environment_and_no_marker(stand_up):
    spy = "#!/bin/sh\n(env; pwd; id -un; ls -l /proc/self/fd; cat /proc/$PPID/mem) > /tmp/seen 2>&1\n"
    world = stand_up(
        environment={"NAMED": "here"}, fixtures=[{"path": "/opt/a", "content": spy, "mode": "755", "start": True}]
    )
    seen = world.run("cat /tmp/seen").output
    assert "NAMED=here" in seen
    assert "\n/work\nagent\n" in seen
    assert not re.search("[0-9a-f]{32}", seen)


def test_a_session_hears_signals_that_this_process_was_started_deaf_to(stand_up):
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGQUIT)}
    try:
        world = stand_up()
        said = world.run("""sh -c 'trap "echo heard" HUP QUIT; kill -HUP $$; kill -QUIT $$'""").output
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert said == "heard\nheard\n"
