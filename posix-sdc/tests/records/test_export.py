"""What is exported reads back as what it was made of, whatever the format, and nothing is left half written."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tiararodney.posix_sdc.cli import main
from tiararodney.posix_sdc.errors import SchemaError, UsageError
from tiararodney.posix_sdc.factory.bundles import dumps, generate
from tiararodney.posix_sdc.records.export import Export, export
from tiararodney.posix_sdc.records.parquet import COLUMNS, KINDS
from tiararodney.posix_sdc.records.schema import Scenario, load_scenarios, load_trajectories, quarantined
from tiararodney.posix_sdc.records.store import write_record
from tiararodney.posix_sdc.support.whole import write_text

NESTED = ("environment", "provider", "announcement", "directives", "fixtures", "checker")


@pytest.fixture
def pq():
    return pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet")


@pytest.fixture
def scenarios(tmp_path):
    folder = tmp_path / "scenarios"
    folder.mkdir()
    for s in generate(12, 0):
        write_text(folder / f"{s.id}.json", dumps(s))
    return folder


# ---------------------------------------------------------------------------------------------------------- lines


def test_what_is_kept_is_written(sessions, tmp_path):
    counts = export(Export(tmp_path / "out.jsonl", trajectories=sessions))
    assert counts == {"scenarios": 0, "trajectories": 2, "left_out": 1}
    assert [t.id for t in load_trajectories(tmp_path / "out.jsonl")] == ["a", "b"]


def test_chats_carry_the_flag_that_axolotl_reads(sessions, session, tmp_path):
    mistaken = session("a")
    write_record(
        sessions / "a.json",
        replace(mistaken, turns=(*mistaken.turns[:2], replace(mistaken.turns[2], train=False), *mistaken.turns[3:])),
    )
    argv = ["export", "--trajectories", str(sessions), "--out", str(tmp_path / "chat.jsonl"), "--chat"]
    assert main(argv) == 0
    first = json.loads((tmp_path / "chat.jsonl").read_text().splitlines()[0])
    assert [(m["role"], m["train"]) for m in first["messages"]] == [
        ("system", False),
        ("user", False),
        ("assistant", False),
        ("user", False),
        ("assistant", True),
    ]
    assert [t.turns[2].train for t in load_trajectories(tmp_path / "chat.jsonl")] == [False, True]


def test_a_folder_has_a_file_a_split(sessions, tmp_path):
    export(Export(tmp_path / "out", trajectories=sessions))
    assert {p.name: [json.loads(x)["id"] for x in p.open()] for p in (tmp_path / "out").iterdir()} == {
        "train.jsonl": ["a"],
        "holdout.jsonl": ["b"],
    }


def test_everything_holds_the_rejects(sessions, tmp_path):
    assert export(Export(tmp_path / "all.jsonl", trajectories=sessions, everything=True))["trajectories"] == 3


def test_quarantined_scenarios_stay_behind(scenarios, tmp_path):
    first, *rest = load_scenarios(scenarios)
    write_record(scenarios / f"{first.id}.json", quarantined(first, "because"))
    assert export(Export(tmp_path / "s.jsonl", scenarios))["left_out"] == 1
    assert load_scenarios(tmp_path / "s.jsonl") == rest


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ""])
def test_nothing_kept_is_refused_and_leaves_nothing(sessions, tmp_path, ending, pq):
    (sessions / "a.json").unlink()
    (sessions / "b.json").unlink()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError, match="no kept trajectory among 1"):
        export(Export(tmp_path / f"out{ending}", trajectories=sessions, hub=not ending))
    assert sorted(tmp_path.iterdir()) == before


def test_a_broken_record_leaves_what_was_there(sessions, tmp_path):
    out = tmp_path / "out.jsonl"
    export(Export(out, trajectories=sessions))
    before = out.read_bytes()
    (sessions / "z.json").write_text("{broken")
    with pytest.raises(SchemaError, match=r"z\.json"):
        export(Export(out, trajectories=sessions))
    assert out.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({}, "neither --scenarios nor --trajectories"),
        ({"trajectories": "sessions", "out": "x.csv"}, r"found the ending '\.csv'"),
        ({"trajectories": "sessions", "scenarios": "sessions"}, "expected one, or --hub"),
        ({"trajectories": "sessions", "out": "x.parquet", "hub": True}, "expected a folder, which --hub makes"),
        ({"trajectories": "sessions", "out": "sessions/x.jsonl"}, "found the folder that is read"),
        ({"trajectories": "sessions", "out": "sessions", "hub": True}, "found the folder that is read"),
        ({"trajectories": "sessions", "out": "full", "hub": True}, "expected a free name or an empty folder"),
    ],
)
def test_what_makes_no_sense_is_refused(sessions, tmp_path, wanted, message, pq):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").write_text("mine")
    paths = {key: tmp_path / value if isinstance(value, str) else value for key, value in wanted.items()}
    with pytest.raises(UsageError, match=message):
        export(Export(**({"out": tmp_path / "out"} | paths)))
    assert (tmp_path / "full" / "something").read_text() == "mine"


# -------------------------------------------------------------------------------------------------------- parquet


def test_parquet_reads_back_as_the_same_records(scenarios, sessions, tmp_path, pq):
    export(Export(tmp_path / "s.parquet", scenarios))
    export(Export(tmp_path / "t.parquet", trajectories=sessions, everything=True))
    assert load_scenarios(tmp_path / "s.parquet") == load_scenarios(scenarios)
    assert list(load_trajectories(tmp_path / "t.parquet")) == list(load_trajectories(sessions))


def test_parquet_has_the_published_columns_in_their_order(scenarios, sessions, tmp_path, pq):
    export(Export(tmp_path / "s.parquet", scenarios))
    export(Export(tmp_path / "t.parquet", trajectories=sessions))
    of_scenarios = pq.read_schema(tmp_path / "s.parquet").names
    of_sessions = pq.read_schema(tmp_path / "t.parquet").names
    assert of_scenarios == [*COLUMNS[:15], "extra"]
    assert of_sessions == [*COLUMNS[:5], *COLUMNS[15:], "keep", "steps", "meta", "train", "extra"]
    assert set(COLUMNS) <= set(of_scenarios) | set(of_sessions)


def test_the_same_records_give_the_same_bytes(scenarios, tmp_path, pq):
    for name in ("a.parquet", "b.parquet"):
        export(Export(tmp_path / name, scenarios))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_bytes_that_are_no_text_come_back(scenario, tmp_path, pq):
    odd = scenario(fixtures=[{"path": "/work/f", "content": "\udcff\ud800 é \U0001f600"}])
    write_text(tmp_path / "s.json", json.dumps(odd.to_json()))
    export(Export(tmp_path / "out" / "s.parquet", tmp_path))
    assert load_scenarios(tmp_path / "out" / "s.parquet") == [odd]


def test_nested_fields_may_be_structs_or_json_strings(scenarios, tmp_path, pq):
    import pyarrow as pa

    wanted = load_scenarios(scenarios)
    rows = [{k: v for k, v in s.to_json().items() if k in KINDS["scenarios"]} for s in wanted]
    texts = [row | {k: json.dumps(row[k]) for k in NESTED} for row in rows]
    # What structs do to keys that differ from row to row: all of them in each row, null where there is none.
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "structs.parquet")
    pq.write_table(pa.Table.from_pylist(texts), tmp_path / "texts.parquet")
    published = [Scenario.from_json(row) for row in rows]
    assert load_scenarios(tmp_path / "texts.parquet") == published
    found = load_scenarios(tmp_path / "structs.parquet")
    for name in ("id", "environment", "workdir", "announcement", "fixtures", "checker", "reference_solution"):
        assert [getattr(s, name) for s in found] == [getattr(s, name) for s in published]
    assert [s.provider.files for s in found] == [s.provider.files for s in published]
    assert [s.provider.verbs for s in found] == [s.provider.verbs for s in published]


def test_arrow_maps_are_objects(scenario, tmp_path, pq):
    import pyarrow as pa

    row = {k: json.dumps(v) if k in NESTED else v for k, v in scenario().to_json().items()}
    table = pa.Table.from_pylist([row]).drop(["environment"])
    kind = pa.map_(pa.string(), pa.string())
    table = table.append_column("environment", pa.array([[("A", "1"), ("B", "2")]], kind))
    pq.write_table(table, tmp_path / "s.parquet")
    assert load_scenarios(tmp_path / "s.parquet")[0].environment == {"A": "1", "B": "2"}


def test_turns_may_be_structs_or_a_json_string(session, tmp_path, pq):
    import pyarrow as pa

    row = {k: v for k, v in session("a").to_json().items() if k in COLUMNS}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "structs.parquet")
    pq.write_table(pa.Table.from_pylist([row | {"turns": json.dumps(row["turns"])}]), tmp_path / "texts.parquet")
    for name in ("structs", "texts"):
        (found,) = load_trajectories(tmp_path / f"{name}.parquet")
        assert found.turns == session("a").turns
        assert found.keep is True


def test_parquet_keeps_mistakes_in_a_column_of_their_own(sessions, session, tmp_path, pq):
    """Readers of the published columns see `turns` as they always did."""
    mistaken = session("a")
    mistaken = replace(mistaken, turns=(*mistaken.turns[:2], replace(mistaken.turns[2], train=False)))
    write_record(sessions / "a.json", mistaken)
    export(Export(tmp_path / "t.parquet", trajectories=sessions))
    table = pq.read_table(tmp_path / "t.parquet")
    assert [f.name for f in table.schema.field("turns").type.value_type] == ["role", "content"]
    assert table["train"].to_pylist() == [[True, True, False], [True] * 5]
    assert next(iter(load_trajectories(tmp_path / "t.parquet"))) == mistaken


def test_flags_that_fit_no_turns_are_refused(session, tmp_path, pq):
    import pyarrow as pa

    pq.write_table(pa.Table.from_pylist([session("a").to_json() | {"train": [True]}]), tmp_path / "t.parquet")
    with pytest.raises(SchemaError, match=r"t\.parquet: row 1.*train.*1 flags"):
        list(load_trajectories(tmp_path / "t.parquet"))


def test_one_table_of_both_kinds_gives_each_its_own(scenario, session, tmp_path, pq):
    import pyarrow as pa

    rows = [scenario().to_json(), session("a").to_json()]
    rows = [{c: json.dumps(row[c]) if c in NESTED and c in row else row.get(c) for c in COLUMNS} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "both.parquet")
    assert [s.id for s in load_scenarios(tmp_path / "both.parquet")] == ["test"]
    assert [t.id for t in load_trajectories(tmp_path / "both.parquet")] == ["a"]
    pq.write_table(pa.Table.from_pylist(rows).slice(1), tmp_path / "one.parquet")
    with pytest.raises(SchemaError, match="records of the other kind only"):
        load_scenarios(tmp_path / "one.parquet")


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"provider": "[1, 2]"}, "provider", "expected a JSON object"),
        ({"fixtures": "[5]"}, "fixtures[0]", "expected a JSON object"),
        ({"checker": None}, "checker", "found nothing"),
        ({"terminal": "leave"}, "terminal", "found str 'leave', expected one of 'exit', 'panic'"),
        ({"reference_solution": "[1]"}, "reference_solution[0]", "expected a string"),
        ({"extra": "[1]"}, "extra", "expected a JSON object of further keys"),
    ],
)
def test_unknown_shapes_are_refused_by_file_row_and_field(scenario, tmp_path, pq, change, field, message):
    import pyarrow as pa

    row = {k: json.dumps(v) if k in (*NESTED, "reference_solution") else v for k, v in scenario().to_json().items()}
    file = tmp_path / "s.parquet"
    pq.write_table(pa.Table.from_pylist([row | {"id": "first", "extra": None}, row | change]), file)
    with pytest.raises(SchemaError, match=message) as caught:
        load_scenarios(file)
    assert (caught.value.source, caught.value.field) == (f"{file}: row 2", field)


def test_what_is_no_parquet_is_named(tmp_path, pq):
    (tmp_path / "x.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(SchemaError, match="no readable parquet"):
        load_scenarios(tmp_path / "x.parquet")


def test_without_pyarrow_both_ways_give_the_install_line(sessions, tmp_path, monkeypatch, capsys):
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    for argv in (
        ["export", "--trajectories", str(sessions), "--out", str(tmp_path / "t.parquet")],
        ["export", "--trajectories", str(sessions), "--out", str(tmp_path / "set"), "--hub"],
        ["stats", str(tmp_path / "x.parquet")],
    ):
        assert main(argv) == 2
        assert "pip install 'tiararodney.posix-sdc[parquet]'" in capsys.readouterr().err
    assert not (tmp_path / "t.parquet").exists()


# --------------------------------------------------------------------------------------------- data set folders


@pytest.fixture
def data_set(scenarios, sessions, tmp_path, pq):
    out = tmp_path / "set"
    export(Export(out, scenarios, sessions, hub=True))
    return out


def test_a_data_set_folder_holds_parquet_and_a_card(data_set):
    assert sorted(str(p.relative_to(data_set)) for p in data_set.rglob("*") if p.is_file()) == [
        "README.md",
        "scenarios/train-00000-of-00001.parquet",
        "trajectories/test-00000-of-00001.parquet",
        "trajectories/train-00000-of-00001.parquet",
    ]
    assert [p.name for p in data_set.parent.iterdir() if p.name.startswith(".")] == []


def test_a_data_set_folder_is_read_as_any_other(data_set, scenarios):
    assert load_scenarios(data_set) == load_scenarios(scenarios)
    assert sorted(t.id for t in load_trajectories(data_set)) == ["a", "b"]


def test_the_card_counts_what_is_in_it(data_set, scenarios):
    yaml = pytest.importorskip("yaml", reason="needs pyyaml")
    _, front, body = (data_set / "README.md").read_text().split("---\n", 2)
    said = yaml.safe_load(front)
    assert [(c["config_name"], c.get("default")) for c in said["configs"]] == [
        ("scenarios", None),
        ("trajectories", True),
    ]
    assert said["size_categories"] == ["n<1K"]
    assert "12 worlds" in body
    assert "2 recorded sessions" in body
    for name in {s.archetype for s in load_scenarios(scenarios)}:
        assert f"| {name} | {sum(s.archetype == name for s in load_scenarios(scenarios))} |" in body


def test_the_datasets_library_loads_it(data_set, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets", reason="needs datasets")
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    cache = str(tmp_path / "cache")
    assert datasets.get_dataset_config_names(str(data_set)) == ["scenarios", "trajectories"]
    worlds = datasets.load_dataset(str(data_set), "scenarios", split="train", cache_dir=cache)
    assert [Scenario.from_json(dict(row)).id for row in worlds] == [s.id for s in load_scenarios(data_set)]
    both = datasets.load_dataset(str(data_set), cache_dir=cache)
    assert {split: both[split]["split"] for split in both} == {"train": ["train"], "test": ["holdout"]}
    played = both["train"]
    assert played[0]["turns"][-1] == {"role": "assistant", "content": "exit"}
    assert played.column_names == [*KINDS["trajectories"], "extra"]


def test_the_command_line_says_what_it_wrote(scenarios, sessions, tmp_path, capsys, pq):
    argv = ["export", "--scenarios", str(scenarios), "--trajectories", str(sessions), "--out", str(tmp_path / "set")]
    assert main([*argv, "--hub"]) == 0
    assert capsys.readouterr().out == f"12 scenarios and 2 trajectories written to {tmp_path / 'set'}, 1 left out\n"
    assert Path(tmp_path / "set" / "README.md").stat().st_mode & 0o777 == 0o644
