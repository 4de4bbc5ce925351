"""Statistics name every value of every axis, as JSON and as a table."""

import json

import pytest

from tiararodney.posix_sdc.errors import SchemaError
from tiararodney.posix_sdc.factory.bundles import dumps, generate
from tiararodney.posix_sdc.records.stats import SHARES, as_json, statistics, table
from tiararodney.posix_sdc.support.whole import write_text


@pytest.fixture
def scenarios(tmp_path):
    folder = tmp_path / "scenarios"
    folder.mkdir()
    for s in generate(60, 0):
        write_text(folder / f"{s.id}.json", dumps(s))
    return folder


def test_both_kinds_are_counted_apart(scenarios, sessions):
    for path in scenarios.iterdir():
        path.rename(sessions / path.name)
    parts = statistics(sessions)
    assert parts["trajectories"]["outcome"] == {"success": 2, "unverified": 1}
    assert parts["trajectories"]["kept"] == 2
    assert parts["trajectories"]["kept_share"] == 0.6667
    assert parts["trajectories"]["steps"] == {"min": 2, "median": 2, "p90": 2, "max": 2}
    assert parts["scenarios"]["n"] == 60
    assert json.loads(as_json(parts)) == parts


def test_every_axis_counts_every_scenario_once(scenarios):
    part = statistics(scenarios)["scenarios"]
    made = list(generate(60, 0))
    assert part["archetype"] == {
        name: sum(s.archetype == name for s in made)
        for name in sorted({s.archetype for s in made}, key=lambda n: (-sum(s.archetype == n for s in made), n))
    }
    axes = {name: counts for name, counts in part.items() if isinstance(counts, dict) and name not in SHARES}
    assert {"family", "provider", "announcement", "documentation", "depth", "commands", "directives"} <= set(axes)
    assert {sum(counts.values()) for counts in axes.values()} == {60}
    assert part["panic_share"] == round(sum(s.terminal == "panic" for s in made) / 60, 4)


def test_numbers_stand_in_their_order(scenarios):
    counts = [int(n) for n in statistics(scenarios)["scenarios"]["solution_commands"]]
    assert counts == sorted(counts)


def test_the_table_names_each_value_with_its_share(scenarios):
    part = statistics(scenarios)["scenarios"]
    lines = table({"scenarios": part}).splitlines()
    skills = f"{part['compositions']} compositions of skills"
    assert lines[0] == f"scenarios: 60, {100 * part['panic_share']:.1f} % panic, 0 of 60 quarantined, {skills}"
    assert f"  archetype ({len(part['archetype'])})" in lines
    lines = lines[lines.index(f"  provider ({len(part['provider'])})") :]
    lines = lines[: lines.index("")]  # families are named like providers
    for name, count in part["provider"].items():
        (line,) = [x for x in lines if x.split()[:2] == [name, str(count)]]
        assert f" {100 * count / 60:.1f} % " in line


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(SchemaError, match="an empty folder"):
        statistics(tmp_path)
