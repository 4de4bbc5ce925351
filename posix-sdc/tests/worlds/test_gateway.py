"""A program of mode 4755 does for the session what only root may do, and nothing besides."""

import os

import pytest

TOOL, VAULT = "/usr/local/bin/tool", "/usr/local/share/tool"
PROGRAM = f"""#!/bin/sh
case "${{1-}}" in
    secret) cat {VAULT}/secret ;;
    words) shift; printf '<%s>' "$@"; echo ;;
    input) cat; echo end ;;
    environment) env ;;
    fail) echo out; echo err >&2; exit 3 ;;
    slow) exec sleep 100 ;;
esac
"""
FILES = [
    {"path": TOOL, "content": PROGRAM, "mode": "4755", "owner": "root"},
    {"path": VAULT, "kind": "dir", "mode": "700", "owner": "root"},
    {"path": f"{VAULT}/secret", "content": "kept for root\n", "mode": "600", "owner": "root"},
]


@pytest.fixture
def tool(stand_up):
    return stand_up(provider={"name": "tool", "documentation": "help", "files": FILES}, checker=f"cat {VAULT}/secret")


def test_a_program_of_mode_4755_reads_what_only_root_can(tool):
    assert tool.run("tool secret").output == "kept for root\n"
    assert "kept" not in tool.run(f"cat {VAULT}/secret {VAULT}/* /run/gateway/programs{TOOL}").output
    assert tool.run("cd /run/gateway/programs || ls /run/gateway/programs || cat /run/gateway/server").status != 0


def test_arguments_output_errors_and_status_come_through(tool):
    assert tool.run("tool words 'a b' '' '*' \"it's\" --x=\\\\1").output == "<a b><><*><it's><--x=\\1>\n"
    result = tool.run("tool fail 2>/dev/null")
    assert (result.output, result.status) == ("out\n", 3)
    assert tool.run("tool fail >/dev/null").output == "err\n"
    assert tool.run("tool words 'a\nb'").output == "tool: a line break in an argument\n"


def test_input_environment_and_directory_stay_with_the_session(tool):
    assert tool.run("echo mine | tool input").output == "end\n"
    assert "EVIL" not in tool.run("EVIL=1 tool environment").output
    assert tool.run("printf 'a\\nb\\n' | while read x; do tool words $x; done").output == "<a>\n<b>\n"


def test_calls_at_the_same_time_do_not_mix(tool):
    many = tool.run("for i in 1 2 3 4 5 6 7 8; do tool words $i & done; wait").output
    assert sorted(many.split()) == [f"<{i}>" for i in range(1, 9)]


def test_a_request_of_the_sessions_own_runs_nothing_else(tool):
    forged = "printf 'x\\037%s\\037\\n' /../../../work/evil > /run/gateway/request"
    tool.run(f"echo 'touch /etc/owned' > evil; {forged}; printf 'garbage\\n' > /run/gateway/request")
    assert tool.run("tool secret; ls /etc/owned").output.startswith("kept for root\nls:")


def test_a_caller_that_was_killed_leaves_the_next_one_its_answer(tool):
    tool.run("tool slow & sleep 0.2; kill -9 $!; wait")
    tool.run("timeout 0.2 tool slow")
    assert tool.run("tool secret").output == "kept for root\n"


def test_the_server_is_out_of_the_sessions_reach_and_gone_at_the_end(tool):
    tool.run("kill -9 -1; sleep 0.1")
    assert tool.run("tool secret").output == "kept for root\n"
    verdict = tool.check()
    assert verdict.passed, os.fsdecode(verdict.detail)
