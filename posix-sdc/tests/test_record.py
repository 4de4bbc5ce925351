"""Records are written whole, jobs run in threads, counts and exports say what is there."""

import json
import threading
import time

import pytest

from tiararodney.posix_sdc.errors import SchemaError, UsageError
from tiararodney.posix_sdc.export import export
from tiararodney.posix_sdc.generate import dumps, generate
from tiararodney.posix_sdc.record import count_by, each, file_name, finished, output_folder, write_record, write_text
from tiararodney.posix_sdc.schema import Trajectory, Turn, load_scenarios, load_trajectories
from tiararodney.posix_sdc.show import page, transcript
from tiararodney.posix_sdc.stats import as_json, statistics, table


def session(name, *, keep=True, split="train", outcome="success"):
    turns = (
        Turn("system", "facts"),
        Turn("user", "$ "),
        Turn("assistant", "cat <<E\nhi\nE"),
        Turn("user", "hi\n$ "),
        Turn("assistant", "exit"),
    )
    return Trajectory(
        name,
        f"s-{name}",
        "1",
        "text_count",
        "exit",
        split,
        keep,
        outcome,
        "reference",
        keep,
        2,
        {"clean": keep, "runtime": "bwrap"},
        turns,
    )


@pytest.fixture
def folder(tmp_path):
    where = tmp_path / "sessions"
    where.mkdir()
    for t in (session("a"), session("b", split="holdout"), session("c", keep=False, outcome="unverified")):
        write_record(where / f"{t.id}.json", t)
    return where


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.json"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_record_reads_back(tmp_path):
    write_record(tmp_path / "a.json", session("a"))
    assert list(load_trajectories(tmp_path)) == [session("a")]
    assert finished(tmp_path) == {"a.json"}


def test_a_file_in_the_way_of_the_output_folder_is_named(tmp_path):
    (tmp_path / "x").write_text("")
    for path in (tmp_path / "x", tmp_path / "x" / "y"):
        with pytest.raises(UsageError, match="found a file there, expected a folder"):
            output_folder(path)


def test_each_runs_everything_in_so_many_threads_and_keeps_in_its_own():
    kept, threads, keepers = [], set(), set()

    def action(item):
        threads.add(threading.get_ident())
        time.sleep(0.002)
        return item * 2

    def keep(result):
        keepers.add(threading.get_ident())
        kept.append(result)

    each(3, list(range(20)), action, keep)
    assert sorted(kept) == list(range(0, 40, 2))
    assert len(threads) <= 3
    assert keepers == {threading.get_ident()}


def test_each_begins_nothing_new_after_an_error():
    begun = []

    def action(item):
        begun.append(item)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        each(2, list(range(100)), action, print)
    assert len(begun) <= 3


def test_each_keeps_nothing_after_an_interrupt():
    kept, begun = [], []

    def keep(result):
        kept.append(result)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        each(4, list(range(100)), lambda item: begun.append(item) or item, keep)
    assert len(kept) == 1
    assert len(begun) <= 5


def test_each_of_nothing_is_done():
    each(2, [], str, print)


def test_counts_are_largest_first():
    assert list(count_by("abcbcc", lambda c: c).items()) == [("c", 3), ("b", 2), ("a", 1)]


def test_export_writes_what_is_kept(folder, tmp_path):
    assert export(folder, tmp_path / "out.jsonl") == {"written": 2, "left_out": 1}
    assert [t.id for t in load_trajectories(tmp_path / "out.jsonl")] == ["a", "b"]


def test_export_to_a_folder_has_a_file_a_split(folder, tmp_path):
    export(folder, tmp_path / "out")
    assert {p.name: [json.loads(x)["id"] for x in p.open()] for p in (tmp_path / "out").iterdir()} == {
        "train.jsonl": ["a"],
        "holdout.jsonl": ["b"],
    }


def test_export_of_everything_holds_the_rejects(folder, tmp_path):
    assert export(folder, tmp_path / "all.jsonl", everything=True) == {"written": 3, "left_out": 0}


def test_export_of_nothing_kept_and_to_an_unknown_ending_is_refused(folder, tmp_path):
    (folder / "a.json").unlink()
    (folder / "b.json").unlink()
    with pytest.raises(UsageError, match="no kept trajectory among 1"):
        export(folder, tmp_path / "out.jsonl")
    with pytest.raises(UsageError, match=r"found the ending '\.csv'"):
        export(folder, tmp_path / "out.csv", everything=True)


def test_statistics_count_both_kinds(folder):
    scenarios = list(generate(30, 0))
    for s in scenarios:
        write_text(folder / f"{s.id}.json", dumps(s))
    parts = statistics(folder)
    assert parts["trajectories"]["outcome"] == {"success": 2, "unverified": 1}
    assert parts["trajectories"]["kept"] == 2
    assert parts["scenarios"]["n"] == 30
    assert sum(parts["scenarios"]["archetype"].values()) == 30
    assert json.loads(as_json(parts)) == parts
    assert "trajectories: 3" in table(parts)


def test_statistics_of_an_empty_folder_are_refused(tmp_path):
    with pytest.raises(SchemaError, match="an empty folder"):
        statistics(tmp_path)


def test_a_transcript_looks_like_the_terminal():
    assert transcript(session("a")) == ("## a  text_count  success  kept\n# facts\n$ cat <<E\n> hi\n> E\nhi\n$ exit\n")
    assert "\033[1mexit\033[0m" in transcript(session("a"), colour=True)


def test_a_page_shows_directive_solution_and_checker(tmp_path):
    (scenario,) = generate(1, 0)
    write_text(tmp_path / "s.json", dumps(scenario))
    shown = page(load_scenarios(tmp_path)[0])
    for part in (scenario.directives[0].text, scenario.reference_solution[0], "check 1 of", scenario.provider.name):
        assert part in shown


def test_an_id_that_is_no_file_name_cannot_lead_elsewhere():
    assert file_name("train-0-00001-text_count") == "train-0-00001-text_count.json"
    names = {file_name(x) for x in ("../../etc/x", "/etc/x", ".hidden", "a/b", "a_b", "", "x" * 500, "é")}
    assert len(names) == 8
    assert not [n for n in names if "/" in n or n.startswith(".") or len(n) > 230]
