"""Reading and writing the two records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiararodney.posix_sdc.errors import SchemaError
from tiararodney.posix_sdc.records.schema import Scenario, Trajectory, load_scenarios, load_trajectories

BUNDLE: dict[str, Any] = {
    "id": "copy-1",
    "version": "1",
    "archetype": "copy",
    "terminal": "exit",
    "split": "train",
    "environment": {"LANG": "C"},
    "workdir": "/work",
    "generator_model": "posix-sdc",
    "provider": {"name": "brask", "documentation": "man", "files": [{"path": "/usr/local/bin/brask", "mode": "755"}]},
    "announcement": {"kind": "motd", "text": "See brask."},
    "directives": [{"id": "1", "text": "Copy a to b."}],
    "fixtures": [{"path": "/work/a", "content": "x"}],
    "checker": {"script": "test -f /work/b"},
    "reference_solution": ["cp a b"],
    "quarantine": "",
}
PUBLISHED = list(BUNDLE)
SESSION: dict[str, Any] = {
    "id": "t1",
    "scenario_id": "copy-1",
    "verified": True,
    "keep": True,
    "turns": [{"role": "user", "content": "$ "}, {"role": "assistant", "content": "exit"}],
}
NESTED = ["environment", "provider", "announcement", "directives", "fixtures", "checker", "reference_solution"]


def test_a_scenario_writes_the_published_fields_in_their_order() -> None:
    assert list(Scenario.from_json(BUNDLE).to_json()) == PUBLISHED


@pytest.mark.parametrize("name", NESTED)
def test_a_nested_field_may_be_an_object_or_a_json_string(name: str) -> None:
    as_text = BUNDLE | {name: json.dumps(BUNDLE[name])}
    assert Scenario.from_json(as_text) == Scenario.from_json(BUNDLE)


def test_unknown_keys_survive_at_every_level() -> None:
    data = BUNDLE | {"novel": 1, "provider": BUNDLE["provider"] | {"colour": "red"}}
    back = Scenario.from_json(data).to_json()
    assert back["novel"] == 1
    assert back["provider"]["colour"] == "red"


def test_shorthand_shapes_are_taken() -> None:
    data = BUNDLE | {"fixtures": {"/work/a": "x"}, "checker": "test -f /work/b", "directives": ["Copy a to b."]}
    scenario = Scenario.from_json(data)
    assert scenario.fixtures == Scenario.from_json(BUNDLE).fixtures
    assert scenario.checker.script == "test -f /work/b"
    assert scenario.directives[0].text == "Copy a to b."


def test_nulls_within_unknown_keys_count_as_absent() -> None:
    given, nulls = {"steps": [{"try": "ls"}]}, {"steps": [{"try": "ls", "always": None}], "more": None}
    announcement = BUNDLE["announcement"]
    read = [Scenario.from_json(BUNDLE | {"announcement": announcement | extra}) for extra in (given, nulls)]
    assert read[0] == read[1]


def test_null_columns_of_a_parquet_row_count_as_absent() -> None:
    data = BUNDLE | {"quarantine": None, "environment": {"LANG": "C", "HOME": None}}
    assert Scenario.from_json(data) == Scenario.from_json(BUNDLE)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"checker": None}, "checker"),
        ({"checker": {"script": " "}}, "checker.script"),
        ({"terminal": "quit"}, "terminal"),
        ({"workdir": "work"}, "workdir"),
        ({"workdir": "/work/../etc"}, "workdir"),
        ({"provider": 7}, "provider"),
        ({"announcement": {"kind": "radio", "text": ""}}, "announcement.kind"),
        ({"announcement": {"kind": "env", "text": "x"}}, "announcement.variable"),
        ({"announcement": {"kind": "file", "text": "x"}}, "announcement.path"),
        ({"fixtures": [{"path": "/a/../../etc/passwd"}]}, "fixtures[0].path"),
        ({"fixtures": [{"path": "relative"}]}, "fixtures[0].path"),
        ({"fixtures": [{"path": "/a", "mode": "rwx"}]}, "fixtures[0].mode"),
        ({"reference_solution": [1]}, "reference_solution[0]"),
        ({"directives": [3]}, "directives[0]"),
    ],
)
def test_a_shape_no_world_can_be_made_of_is_refused_by_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(SchemaError) as caught:
        Scenario.from_json(BUNDLE | change, "bundle.json")
    assert caught.value.field == field
    assert "bundle.json" in str(caught.value)
    assert "expected" in str(caught.value)


def test_messages_are_a_synonym_of_turns() -> None:
    data = {k: v for k, v in SESSION.items() if k != "turns"} | {"messages": SESSION["turns"]}
    assert Trajectory.from_json(data) == Trajectory.from_json(SESSION)


def test_a_bare_chat_is_kept_and_a_verdict_against_it_is_heeded() -> None:
    assert Trajectory.from_json({"messages": SESSION["turns"]}).keep is True
    assert Trajectory.from_json({"messages": SESSION["turns"], "verified": False}).keep is False
    assert Trajectory.from_json(SESSION | {"keep": False}).keep is False


@pytest.mark.parametrize(
    ("turns", "field"),
    [
        ([], "turns"),
        ([{"role": "tool", "content": "x"}], "turns[0].role"),
        ([{"role": "user", "content": None}], "turns[0].content"),
        (["$ "], "turns[0]"),
        ("$ ", "turns"),
    ],
)
def test_what_is_no_session_is_refused_by_field(turns: object, field: str) -> None:
    with pytest.raises(SchemaError) as caught:
        Trajectory.from_json(SESSION | {"turns": turns})
    assert caught.value.field == field


def test_broken_json_in_a_line_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "d.jsonl"
    file.write_text("\n".join([json.dumps(SESSION)] * 6 + ['{"turns": ['] + [json.dumps(SESSION)]))
    with pytest.raises(SchemaError, match=r"d\.jsonl:7: found broken JSON"):
        list(load_trajectories(file))


def test_what_stands_before_a_broken_line_is_read(tmp_path: Path) -> None:
    file = tmp_path / "d.jsonl"
    file.write_text(json.dumps(SESSION) + "\n{")
    stream = load_trajectories(file)
    assert next(stream).id == "t1"


def test_missing_empty_and_foreign_paths_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "e.jsonl").write_text("\n")
    (tmp_path / "none").mkdir()
    for path, found in [
        ("gone", "no such file"),
        ("none", "an empty folder"),
        ("a.txt", "a.txt"),
        ("e.jsonl", "empty"),
    ]:
        with pytest.raises(SchemaError, match=found):
            list(load_trajectories(tmp_path / path))


def test_two_bundles_of_one_id_are_refused(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps(BUNDLE))
    with pytest.raises(SchemaError, match="'copy-1' 2 times"):
        load_scenarios(tmp_path)


@pytest.mark.parametrize("text", ['{"turns": NaN}', "[" * 100_000, "\udcff", '{"a": 1e999}', "null", "[]", "3", '"x"'])
def test_hostile_files_give_our_error_and_no_other(tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.json"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SchemaError):
        list(load_trajectories(file))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(PUBLISHED), json_values))
def test_any_json_makes_a_scenario_that_round_trips_or_a_schema_error(change: dict[str, Any]) -> None:
    try:
        scenario = Scenario.from_json(BUNDLE | change)
    except SchemaError:
        return
    assert Scenario.from_json(json.loads(json.dumps(scenario.to_json()))) == scenario


@given(st.dictionaries(st.sampled_from([*SESSION, "meta", "outcome", "steps", "messages"]), json_values))
def test_any_json_makes_a_trajectory_that_round_trips_or_a_schema_error(change: dict[str, Any]) -> None:
    try:
        trajectory = Trajectory.from_json(SESSION | change)
    except SchemaError:
        return
    assert Trajectory.from_json(json.loads(json.dumps(trajectory.to_json()))) == trajectory


def test_a_time_and_a_start_are_read_and_written_only_where_they_are_told(scenario) -> None:
    plain, told = scenario(
        fixtures=[{"path": "/a"}, {"path": "/b", "mode": "755", "mtime": 5, "start": True}]
    ).to_json()["fixtures"]
    assert "mtime" not in plain
    assert "start" not in plain
    assert (told["mtime"], told["start"]) == (5, True)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"mtime": -1}, "mtime"),
        ({"mtime": "yesterday"}, "mtime"),
        ({"mtime": 2**40}, "mtime"),
        ({"start": True}, "start"),
        ({"start": True, "mode": "755", "kind": "dir"}, "start"),
        ({"start": "yes", "mode": "755"}, "start"),
    ],
)
def test_a_time_or_start_that_cannot_be_is_refused(scenario, change, field) -> None:
    with pytest.raises(SchemaError) as caught:
        scenario(fixtures=[{"path": "/a"} | change])
    assert caught.value.field == f"fixtures[0].{field}"


# ------------------------------------------------------------------------------------------------ turns not trained


def _turns(**flags: Any) -> list[bool]:
    turns = [*SESSION["turns"], {"role": "user", "content": "$ "}, {"role": "assistant", "content": "ls", **flags}]
    return [t.train for t in Trajectory.from_json(SESSION | {"turns": turns}).turns]


def test_turns_are_trained_unless_they_say_otherwise() -> None:
    assert _turns() == _turns(train=True) == _turns(weight=1) == _turns(train=None) == [True] * 4


@pytest.mark.parametrize("flags", [{"train": False}, {"train": 0}, {"weight": 0}, {"weight": 0.0, "train": False}])
def test_train_false_or_weight_0_is_context(flags: dict[str, Any]) -> None:
    assert _turns(**flags) == [True, True, True, False]


def test_messages_carry_the_flag_as_turns_do() -> None:
    chat = {"messages": [{"role": "user", "content": "$ "}, {"role": "assistant", "content": "ls", "weight": 0}]}
    assert [t.train for t in Trajectory.from_json(chat).turns] == [True, False]


@pytest.mark.parametrize(
    ("flags", "field"),
    [({"train": "no"}, "train"), ({"weight": 0.5}, "weight"), ({"weight": 1, "train": False}, "weight")],
)
def test_flags_that_mean_nothing_are_refused(flags: dict[str, Any], field: str) -> None:
    with pytest.raises(SchemaError, match=rf"turns\[3\]\.{field}"):
        _turns(**flags)


def test_only_a_mistake_is_written_with_its_flag() -> None:
    turns = [{"role": "assistant", "content": "ls", "train": False}, {"role": "assistant", "content": "exit"}]
    assert Trajectory.from_json(SESSION | {"turns": turns}).to_json()["turns"] == turns


def test_the_environments_turns_are_never_targets() -> None:
    turns = [{"role": "user", "content": "$ ", "train": False}, {"role": "assistant", "content": "exit"}]
    assert "train" not in Trajectory.from_json(SESSION | {"turns": turns}).to_json()["turns"][0]


def test_text_parts_are_read_as_their_text() -> None:
    parts = [{"type": "text", "text": "l"}, {"type": "text", "text": "s"}]
    turns = [{"role": "user", "content": "$ "}, {"role": "assistant", "content": parts}]
    assert Trajectory.from_json({"messages": turns}).turns[1].content == "ls"


def test_a_part_that_is_no_text_is_refused() -> None:
    turns = [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]
    with pytest.raises(SchemaError, match="list of text parts"):
        Trajectory.from_json({"messages": turns})


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_a_byte_order_mark_is_read_over(tmp_path: Path, name: str) -> None:
    turns = [{"role": "user", "content": "$ "}, {"role": "assistant", "content": "exit"}]
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + json.dumps({"id": "t", "turns": turns}).encode())
    assert [t.id for t in load_trajectories(tmp_path)] == ["t"]


def test_a_folder_of_other_files_is_not_called_empty(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("root")
    with pytest.raises(SchemaError, match="a folder without such files"):
        list(load_trajectories(tmp_path))


def test_a_trajectory_is_no_scenario() -> None:
    data = {"id": "t", "scenario_id": "s", "turns": [{"role": "user", "content": "$ "}]}
    with pytest.raises(
        SchemaError, match=r"t\.json: found a recorded session \(turns\), expected a scenario\. Give the folder"
    ):
        Scenario.from_json(data, "t.json")
