"""The checker of provenance sees what was used before it was shown, and nothing else."""

import pytest

from tiararodney.posix_sdc.records.schema import Trajectory
from tiararodney.posix_sdc.sessions.provenance import unshown

SHOWN = "See brask. It has the verbs show and list.\nSet port to 90 in snow-2.conf, from the third line on.\n$ "


def words(*commands, shown=SHOWN, train=True):
    """Return what a session uses unshown, whose commands print nothing."""
    turns = [{"role": "system", "content": "A terminal."}, {"role": "user", "content": shown}]
    for command in commands:
        turns += [{"role": "assistant", "content": command, "train": train}, {"role": "user", "content": "$ "}]
    return [x.word for x in unshown(Trajectory.from_json({"turns": turns}))]


@pytest.mark.parametrize(
    ("command", "planted"),
    [
        ("sed -i s/path/90/ snow-2.conf", "path"),  # the value to be replaced
        ("sed -i 's/^10 9 /10 90 /' snow-2.conf", "10"),  # a minute
        ("cat snow-2.state", "snow-2.state"),  # a file that a program wrote
        ("brask next", "next"),  # a sub-command
        ("brask show --key plum", "--key"),  # an option of a program that nobody knows
        ("sh ./start.sh", "start.sh"),
        ("velvet --help", "velvet"),
        ("grep fig snow-2.conf | sort > out.txt", "out.txt"),
        ("cat > plum.txt <<END\nport\nEND", "plum.txt"),
        ("mv $(grep -l 'Subject: port' snow/*.conf) port/", "Subject"),
        ("chmod 600 secret.key", "secret.key"),
        ("panic lost.txt is missing", "lost.txt"),
        ("sed -n '7p' snow-2.conf", "7"),
        ("sed -i '/^port=/cquartz=90' snow-2.conf", "quartz"),
    ],
)
def test_what_nothing_has_shown_is_found(command, planted):
    assert planted in words(command)


@pytest.mark.parametrize(
    "command",
    [
        "ls -la",
        "brask --help",
        "man brask",
        "brask show",
        "sed -i 's/^port=.*/port=90/' snow-2.conf",
        "sed -i '/^port=/cport=90' snow-2.conf",
        "awk '{ print $2 }' snow-2.conf | sort -rn | uniq -c",
        "awk 'NR == 3 { s += $1 } END { print s }' snow-2.conf",
        "head -n 3 snow-2.conf",  # the third line
        "tar czf snow-2.conf port",
        "tr '[:upper:]' a-z < snow-2.conf 2> /dev/null",
        "chmod u=rw,go= snow-2.conf; stat -c %a snow-2.conf",
        "for f in port/*; do cat $f; done",
        "cat > snow-2.conf <<END\nport\nEND",
        "kill -TERM $(cat snow-2.conf) && sleep 1",
        "panic the terminal refuses it",
        "exit",
    ],
)
def test_general_knowledge_and_what_was_shown_are_free(command):
    assert words(command) == []


def test_a_word_counts_from_the_turn_that_shows_it():
    turns = [
        {"role": "user", "content": "$ "},
        {"role": "assistant", "content": "cat plum.txt"},
        {"role": "user", "content": "plum.txt\n$ "},
        {"role": "assistant", "content": "cat plum.txt"},
    ]
    assert [(x.turn, x.word, x.command) for x in unshown(Trajectory.from_json({"turns": turns}))] == [
        (1, "plum.txt", "cat plum.txt")
    ]


def test_mistakes_are_no_targets_and_are_passed_over():
    assert words("cat plum.txt", train=False) == []
