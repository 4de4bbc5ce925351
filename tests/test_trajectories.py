"""Reading sessions: filters, drops by name, and messages for what cannot be read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc

import pytest

from tiararodney.posix_sdc.errors import SchemaError
from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.render import Message
from tiararodney.sekft.trajectories import Sessions

TURNS = [
    {"role": "system", "content": "A terminal."},
    {"role": "user", "content": "$ "},
    {"role": "assistant", "content": "exit"},
]


def row(**changes):
    return {
        "id": "t1",
        "scenario_id": "s1",
        "version": "2.0.0",
        "archetype": "sorting",
        "terminal": "exit",
        "split": "train",
        "verified": True,
        "outcome": "success",
        "operator_model": "reference",
        "keep": True,
        "steps": 1,
        "meta": {"clean": True},
        "turns": TURNS,
    } | changes


def write(path, *rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def test_a_session_carries_the_records_fields(tmp_path):
    (session,) = Sessions(write(tmp_path / "d.jsonl", row()))
    assert session.messages == tuple(Message(**t) for t in TURNS)
    assert (session.id, session.scenario_id, session.archetype) == ("t1", "s1", "sorting")
    assert session.source == f"{tmp_path / 'd.jsonl'}:1"


def test_rejects_are_dropped_and_counted_by_outcome(tmp_path):
    rows = [row(), row(keep=False, outcome="unclean"), row(keep=False, outcome="died"), row(keep=False, outcome="died")]
    sessions = Sessions(write(tmp_path / "d.jsonl", *rows))
    assert len(list(sessions)) == 1
    assert sessions.dropped == {"not kept: died": 2, "not kept: unclean": 1}
    assert sessions.examples["not kept: died"] == [f"{tmp_path / 'd.jsonl'}:{n}" for n in (3, 4)]
    assert (sessions.read, sessions.kept) == (4, 1)


@pytest.mark.parametrize(
    ("filters", "ids", "dropped"),
    [
        ({}, ["a", "b"], {"quarantined": 1}),
        ({"quarantined": True}, ["a", "b", "c"], {}),
        ({"version": ("1.2.2",)}, ["b"], {"version 2.0.0": 2}),
        ({"split": ("holdout",)}, ["b"], {"split train": 2}),
        ({"verified": "passed"}, ["a", "b"], {"quarantined": 1}),
    ],
)
def test_filters_take_what_they_say(tmp_path, filters, ids, dropped):
    rows = [row(id="a"), row(id="b", version="1.2.2", split="holdout"), row(id="c", quarantine="bad checker")]
    sessions = Sessions(write(tmp_path / "d.jsonl", *rows), **filters)
    assert [s.id for s in sessions] == ids
    assert sessions.dropped == dropped


def test_folders_files_and_parquet_are_read_the_same(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    import pyarrow as pa

    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "a.json").write_text(json.dumps(row(id="a"), indent=1))
    (raw / "b.json").write_text(json.dumps(row(id="b", keep=False, outcome="unclean")))
    # The published columns, nested fields as JSON strings.
    flat = row(id="c", turns=json.dumps(TURNS), meta=json.dumps({"clean": True}))
    pq.write_table(pa.Table.from_pylist([flat]), tmp_path / "d.parquet")
    lines = write(tmp_path / "e.jsonl", row(id="d", messages=TURNS, turns=None))
    sessions = list(Sessions([raw, tmp_path / "d.parquet", lines]))
    assert [s.id for s in sessions] == ["a", "c", "d"]
    assert {s.messages for s in sessions} == {tuple(Message(**t) for t in TURNS)}


# As the data set's page lists them.
COLUMNS = """
id version archetype terminal split environment workdir generator_model provider announcement directives fixtures
checker reference_solution quarantine scenario_id verified outcome operator_model turns
""".split()  # noqa: SIM905 - a list of so many strings is harder to read


def published(**values):
    return {name: values.get(name) for name in COLUMNS}


@pytest.mark.parametrize("turns", [TURNS, json.dumps(TURNS)], ids=["structs", "JSON strings"])
@pytest.mark.parametrize("quarantine", [None, False, ""])
def test_published_columns_are_read_as_structs_or_strings(tmp_path, turns, quarantine):
    pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    import pyarrow as pa

    record = row(turns=turns, quarantine=quarantine)
    rows = [
        published(**record),
        published(**record | {"id": "t2", "verified": False, "outcome": "unverified"}),
        published(id="s1", provider={"name": "tasks"}, checker={"script": "true"}, reference_solution=["ls"]),
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    sessions = Sessions(tmp_path / "train.parquet")
    (session,) = sessions
    assert session.messages == tuple(Message(**t) for t in TURNS)
    assert (session.id, session.scenario_id) == ("t1", "s1")
    assert sessions.dropped == {"not kept: unverified": 1}
    assert sessions.read == 2, "the scenario among them is no trajectory"


def test_a_data_set_folder_is_read_by_its_trajectories(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    import pyarrow as pa

    (tmp_path / "README.md").write_text("# a card")
    for kind, records in (("trajectories", [row()]), ("scenarios", [{"id": "s1", "provider": "{}"}])):
        (tmp_path / kind).mkdir()
        pq.write_table(pa.Table.from_pylist(records), tmp_path / kind / "train-00000-of-00001.parquet")
    assert [s.id for s in Sessions(tmp_path)] == ["t1"]


def test_exported_files_read_back_as_recorded(tmp_path):
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    from tiararodney.posix_sdc.cli import main

    raw = tmp_path / "raw"
    raw.mkdir()
    for n in range(3):
        (raw / f"{n}.json").write_text(json.dumps(row(id=f"t{n}", scenario_id=f"s{n}", keep=n != 1, outcome="unclean")))
    recorded = list(Sessions(raw))
    assert [s.id for s in recorded] == ["t0", "t2"]
    for name in ("d.jsonl", "d.parquet"):
        assert main(["export", "--trajectories", str(raw), "--out", str(tmp_path / name)]) == 0
        read = list(Sessions(tmp_path / name))
        assert [(s.id, s.messages, s.scenario_id) for s in read] == [
            (s.id, s.messages, s.scenario_id) for s in recorded
        ]


@pytest.mark.parametrize("meta", [None, {}, {"operator": "x"}, "{}", {"clean": None}])
def test_a_record_without_clean_is_kept_by_the_rest(tmp_path, meta):
    record = {k: v for k, v in row(meta=meta).items() if k != "keep"}
    assert len(list(Sessions(write(tmp_path / "d.jsonl", record)))) == 1


@pytest.mark.parametrize(("ending", "kept"), [("exit", 1), ("panic no way out", 0), ("exit 3", 1)])
def test_a_record_without_keep_is_kept_by_its_ending(tmp_path, ending, kept):
    turns = [*TURNS[:-1], {"role": "assistant", "content": ending}]
    record = {k: v for k, v in row(turns=turns, outcome="").items() if k != "keep"}
    sessions = Sessions(write(tmp_path / "d.jsonl", record, row(id="other")))
    assert len(list(sessions)) == kept + 1
    assert sum(sessions.dropped.values()) == 1 - kept


def test_broken_json_is_refused_with_its_line(tmp_path):
    path = write(tmp_path / "d.jsonl", *[row()] * 6)
    path.write_text(path.read_text() + '{"id": "x", "turns": [\n' + json.dumps(row()) + "\n")
    with pytest.raises(SchemaError, match=r"d\.jsonl:7: .*broken JSON.*expected"):
        list(Sessions(path))


def test_a_kept_session_ending_in_a_user_turn_is_refused(tmp_path):
    path = write(tmp_path / "d.jsonl", row(), row(turns=[*TURNS, {"role": "user", "content": "$ "}]))
    with pytest.raises(UsageError, match=r"d\.jsonl:2: field 'turns\[3\]\.role': found 'user'.*expected 'assistant'"):
        list(Sessions(path))


def test_a_rejected_session_may_end_in_a_user_turn(tmp_path):
    rejected = row(keep=False, outcome="turn_limit", turns=[*TURNS, {"role": "user", "content": "$ "}])
    assert len(list(Sessions(write(tmp_path / "d.jsonl", row(), rejected)))) == 1


def test_a_lone_surrogate_is_refused_with_its_field(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps(row()).replace("A terminal.", "\\ud800"))
    with pytest.raises(UsageError, match=r"turns\[0\]\.content.*lone surrogate"):
        list(Sessions(path))


@pytest.mark.parametrize("make", [lambda p: p, lambda p: p.mkdir() or p, lambda p: write(p.with_suffix(".jsonl"))])
def test_nothing_there_is_bad_usage(tmp_path, make):
    with pytest.raises(SchemaError, match="expected"):
        list(Sessions(make(tmp_path / "data")))


def test_nothing_kept_is_bad_usage_naming_the_drops(tmp_path):
    path = write(tmp_path / "d.jsonl", row(keep=False, outcome="unclean"))
    with pytest.raises(UsageError, match=r"none to train on \(1 not kept: unclean"):
        list(Sessions(path))


def test_no_data_at_all_is_bad_usage():
    with pytest.raises(UsageError, match="--data"):
        Sessions([])


class OfSomeLibrary(Exception):
    pass


def test_a_hub_that_does_not_answer_is_told_at_once(tmp_path):
    """The library that streams data sets would try for half a minute."""
    pytest.importorskip("datasets", reason="needs datasets (extra gpu)")
    code = "from tiararodney.sekft.trajectories import Sessions; list(Sessions(['somebody/data']))"
    hub = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | hub, capture_output=True, text=True, timeout=60
    )
    assert "--data somebody/data: no such file or folder, and no data set on the hub" in done.stderr
    assert "Retrying" not in done.stderr


@pytest.mark.parametrize("error", [ConnectionError, ValueError, OfSomeLibrary])
def test_a_hub_that_cannot_be_reached_is_bad_usage(monkeypatch, error):
    datasets = pytest.importorskip("datasets", reason="needs datasets (extra gpu)")

    def unreachable(*_args, **_options):
        raise error("offline\nand more")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_args, **_options: None)
    with pytest.raises(UsageError, match=r"--data somebody/data: .*offline and more"):
        list(Sessions([], hub=["somebody/data"]))


def test_an_exported_data_set_reads_as_from_the_hub(tmp_path, monkeypatch):
    pytest.importorskip("datasets", reason="needs datasets (extra gpu)")
    from tiararodney.posix_sdc.cli import main

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    raw, out = tmp_path / "raw", tmp_path / "set"
    raw.mkdir()
    for n in range(3):
        (raw / f"{n}.json").write_text(json.dumps(row(id=f"t{n}", scenario_id=f"s{n}", keep=n != 1)))
    assert main(["export", "--trajectories", str(raw), "--out", str(out), "--hub"]) == 0
    read = list(Sessions([], hub=[str(out)]))
    assert [(s.id, s.messages) for s in read] == [(s.id, s.messages) for s in Sessions(raw)]


def test_rows_of_the_hub_are_read_as_files_are(monkeypatch):
    datasets = pytest.importorskip("datasets", reason="needs datasets (extra gpu)")
    asked = []

    def rows(*args, **options):
        asked.append((args, options))
        return iter([row(), row(keep=None, verified=False, outcome="unverified")])

    monkeypatch.setattr(datasets, "load_dataset", rows)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_args, **_options: None)
    sessions = Sessions([], hub=["somebody/data"])
    assert [s.source for s in sessions] == ["hub somebody/data: row 1"]
    assert sessions.dropped == {"not kept: unverified": 1}
    assert asked == [(("somebody/data", "trajectories"), {"split": "train", "streaming": True})]


def test_memory_does_not_grow_with_the_number_of_sessions(tmp_path):
    path = tmp_path / "d.jsonl"
    line = json.dumps(row(turns=[*TURNS[:2], {"role": "assistant", "content": "x" * 2000}])) + "\n"
    with path.open("w") as file:
        for _ in range(5000):
            file.write(line)
    tracemalloc.start()
    count = sum(1 for _ in Sessions(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 5000
    assert peak < 1_000_000


def test_held_out_sessions_are_left_out_by_default(tmp_path):
    from tiararodney.sekft.sft.config import TrainConfig

    config = TrainConfig(base=tmp_path, out=tmp_path)
    filters = {"version": config.data_version, "split": config.data_split, "verified": config.verified}
    path = write(tmp_path / "d.jsonl", row(), row(id="t2", split="holdout"), {"messages": TURNS})
    sessions = Sessions(path, **filters)
    assert [s.id for s in sessions] == ["t1", ""]
    assert sessions.dropped == {"split holdout": 1}


@pytest.mark.parametrize(("split", "ids"), [(("holdout",), ["t2"]), (("all",), ["t1", "t2"])])
def test_held_out_sessions_are_taken_when_asked_for(tmp_path, split, ids):
    path = write(tmp_path / "d.jsonl", row(), row(id="t2", split="holdout"))
    assert [s.id for s in Sessions(path, split=split)] == ids


def test_nothing_but_held_out_sessions_names_the_flag(tmp_path):
    path = write(tmp_path / "d.jsonl", row(split="holdout"))
    with pytest.raises(UsageError, match="--data-split all"):
        list(Sessions(path, split=("train",)))


def test_every_kept_trajectory_is_observed(tmp_path):
    path = write(tmp_path / "d.jsonl", row(), row(id="t2", split="holdout"), row(id="t3", keep=False))
    sessions, seen = Sessions(path, split=("train",)), []
    sessions.observe = lambda trajectory: seen.append((trajectory.id, trajectory.split))
    assert len(list(sessions)) == 1
    assert seen == [("t1", "train"), ("t2", "holdout")]


@pytest.mark.parametrize("flag", [{"train": False}, {"weight": 0}])
def test_a_flag_on_a_turn_is_read(tmp_path, flag):
    turns = [*TURNS[:2], {"role": "assistant", "content": "rm x", **flag}, *TURNS[1:]]
    (session,) = Sessions(write(tmp_path / "d.jsonl", row(turns=turns)))
    assert [m.train for m in session.messages] == [True, True, False, True, True]


def test_keys_that_are_not_read_are_counted(tmp_path):
    turns = [{**turn, "name": "x", "tool_calls": []} for turn in TURNS] + [{**TURNS[-1], "loss": False, "n": None}]
    (session,) = Sessions(write(tmp_path / "d.jsonl", row(turns=turns)))
    assert session.unread_keys == {"name": 3, "loss": 1}


@pytest.mark.parametrize("turn", [{"role": "tool", "content": "x"}, {**TURNS[-1], "tool_calls": [{"id": "1"}]}])
def test_tool_calls_are_dropped_by_name(tmp_path, turn):
    path = write(tmp_path / "d.jsonl", row(), row(turns=[*TURNS[:2], turn, *TURNS[2:]]))
    sessions = Sessions(path)
    assert len(list(sessions)) == 1
    assert sessions.dropped == {"tool calls, which are not trained on": 1}
    assert sessions.examples == {"tool calls, which are not trained on": [f"{path}:2"]}


def test_scenarios_given_as_data_are_named(tmp_path):
    (tmp_path / "s.json").write_text(json.dumps({"id": "s1", "provider": {"name": "x"}, "directives": []}))
    with pytest.raises(UsageError, match=r"found a scenario, expected a trajectory.*posix-sdc rollout"):
        list(Sessions(tmp_path))


def test_a_folder_of_other_files_is_refused_by_name(tmp_path):
    (tmp_path / "passwd").write_text("root")
    with pytest.raises(SchemaError, match="a folder without such files"):
        list(Sessions(tmp_path))


def test_text_parts_and_a_byte_order_mark_are_read(tmp_path):
    turns = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in TURNS]
    (tmp_path / "d.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(row(turns=turns)).encode())
    (session,) = Sessions(tmp_path / "d.jsonl")
    assert [m.content for m in session.messages] == [t["content"] for t in TURNS]
