"""What a session does is read from its turns alone: each figure has a session that raises it and one that does not."""

import pytest

from tiararodney.posix_sdc.records.behaviour import behaviour, rates
from tiararodney.posix_sdc.records.schema import Trajectory, Turn


def session(*exchanges, end="exit"):
    """Return a session of commands with outputs; a command that begins with ! is no target of training."""
    turns = [Turn("system", "A terminal."), Turn("user", "Ask bolvik.\n$ ")]
    for command, output in exchanges:
        turns.append(Turn("assistant", command.removeprefix("!"), train=not command.startswith("!")))
        turns.append(Turn("user", f"{output}$ "))
    turns.append(Turn("assistant", end))
    names = ("id", "scenario_id", "version", "archetype", "terminal", "split")
    told = dict.fromkeys(names, "a") | {"outcome": "success", "operator_model": "a", "verified": True, "keep": True}
    return Trajectory(**told, steps=len(exchanges) + 1, meta={}, turns=tuple(turns))


SORT = ("sort fig.txt > oak.txt", "")


@pytest.mark.parametrize(
    ("look", "counts"),
    [
        (("cat fig.txt", "b\na\n"), True),
        (("ls", "fig.txt\n"), True),
        (("head -n 3 ./fig.txt", "b\na\n"), True),
        (("cat plum.txt", "x\n"), False),
        (("bolvik show 3", "Sort fig.txt into oak.txt\n"), False),
        (("echo fig.txt > elm.txt", ""), False),
    ],
)
def test_a_look_names_or_lists_the_input(look, counts):
    seen = behaviour(session(look, SORT))
    assert seen.looked_before == int(counts)
    assert seen.changes == 1


@pytest.mark.parametrize(
    ("after", "counts"),
    [
        (("cat oak.txt", "a\nb\n"), True),
        (("ls", "fig.txt\noak.txt\n"), True),
        (("cat fig.txt", "b\na\n"), False),
        (("bolvik done 3", "3 closed\n"), False),
        (("echo oak.txt is done", "oak.txt is done\n"), False),
    ],
)
def test_a_verification_shows_the_result(after, counts):
    assert behaviour(session(SORT, after)).verified == int(counts)


@pytest.mark.parametrize(
    "command",
    [
        "mv fig.txt oak.txt",
        "sed -i s/a/b/ fig.txt",
        "rm fig.txt",
        "tar czf oak.tgz fig.txt",
        "awk '{ print $1 > \"x\" }' fig.txt > oak.txt",
        "if grep -q a fig.txt; then cp fig.txt oak.txt; fi",
        "tolbrat --seal brass fig.txt",
        "sort -o fig.txt fig.txt",
    ],
)
def test_what_changes_files_is_a_change(command):
    found = behaviour(session(("cat fig.txt", "a\n"), ("ls", "fig.txt\n"), (command, "")))
    assert (found.changes, found.looked_before) == (1, 1)


@pytest.mark.parametrize(
    "command", ["cat fig.txt", "tar tf fig.tar", "sed -n 1p fig.txt", "sort fig.txt", "ls 2>/dev/null", "cd fig"]
)
def test_what_only_shows_is_no_change(command):
    assert behaviour(session((command, "a\n"))).verifiable == 0


def test_an_exploration_leads_where_what_it_first_shows_is_used_later():
    assert behaviour(session(("ls ..", "NOTICE\nfig\n"), ("cat ../NOTICE", "x\n"))).led == 1
    assert behaviour(session(("find /srv", "/srv/fig/oak.txt\n"), ("cd /srv/fig", ""))).led == 1
    assert behaviour(session(("grep -r work ..", "../fig/oak: ask milvak\n"), ("milvak", "x\n"))).led == 1
    assert behaviour(session(("ls ..", "NOTICE\n"), ("cat fig.txt", "x\n"))).led == 0
    assert behaviour(session(("which bolvik", "/usr/bin/bolvik\n"), ("bolvik", "x\n"))).led == 0
    assert behaviour(session(("cat oak", "NOTICE\n"), ("cat NOTICE", "x\n"))).led == 0


def test_a_recovery_is_a_mistake_that_is_no_target_with_what_follows():
    assert behaviour(session(("!cat fgi.txt", "cat: fgi.txt: No such file\n"), ("ls", "fig.txt\n"))).recovered
    assert not behaviour(session(("cat fgi.txt", "cat: fgi.txt: No such file\n"), ("ls", "fig.txt\n"))).recovered


def test_an_error_is_given_up_on_where_a_panic_follows_soon():
    error, look = ("cat fgi.txt", "cat: fgi.txt: No such file or directory\n"), ("ls", "fig.txt\n")
    stuck, late = session(error, look, end="panic no fgi.txt"), session(error, *[look] * 3, end="panic no fgi.txt")
    assert [(b.failed, b.gave_up) for b in map(behaviour, (stuck, late, session(error, look)))] == [
        (1, 1),
        (1, 0),
        (1, 0),
    ]
    assert behaviour(session(("bolvik --help", "Usage: bolvik list\n"), end="panic no")).failed == 0
    assert rates([behaviour(stuck), behaviour(late)])["of these followed by a panic within three commands"] == 0.5


def test_rates_are_shares_of_what_they_name():
    two = [behaviour(session(("cat fig.txt", "a\n"), SORT)), behaviour(session(SORT, ("cat oak.txt", "a\n")))]
    found = rates(two)
    assert found["changes with an input"] == 2
    assert found["of these looked at before"] == 0.5
    assert found["of all changes verified after"] == 0.5
    assert rates([])["sessions with a recovery"] == 0.0
