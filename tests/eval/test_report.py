"""The report as people read it on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tiararodney.sekft.eval.contestants import Contestant
from tiararodney.sekft.eval.report import (
    build_report,
    facts,
    interval_text,
    more_rows,
    notes,
    p_text,
    table,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tiararodney.sekft.eval.episodes import Episode

FAILED = {"keep": False, "verified": False, "outcome": "unverified"}
RUN: dict[str, Any] = {
    "runtime": "bwrap",
    "scenarios": {"n": 6, "ids": [], "archetypes": {"repair": 6}},
    "config": {"temperature": 0.0, "seed": 0, "max_turns": None, "max_new_tokens": 48, "load_4bit": False},
    "precision": {"dtype": "float32", "reason": "no bf16 here"},
    "notes": ["A note for the reader."],
}


def report_over(episodes: Sequence[Episode], *names: str, contract: str = "match", **config: Any) -> dict[str, Any]:
    field = [Contestant(n, "base" if n == "base" else "adapter", f"/{n}", contract=contract) for n in names]
    return build_report(field, episodes, RUN | {"config": RUN["config"] | config})


@pytest.fixture
def two(episode: Callable[..., Episode]) -> dict[str, Any]:
    """Return a report in which the base fails everywhere and the adapter nowhere."""
    idle = [episode(f"s{i}", "exit at once", **FAILED) for i in range(6)]
    base = [episode(f"s{i}", "base", **FAILED, checks={"copy": False, "mode": True}, seconds=2.0) for i in range(6)]
    tuned = [episode(f"s{i}", "tuned", checks={"copy": True, "mode": True}, seconds=1.0) for i in range(6)]
    return report_over([*base, *tuned, *idle], "base", "tuned")


def test_the_table_shows_rates_pairs_failures_and_notes(two: dict[str, Any]) -> None:
    lines = [" ".join(line.split()) for line in table(two).splitlines()]
    assert lines == [
        (
            "runtime bwrap · scenarios 6 of 1 archetype · decoding greedy · turns by scenario · tokens per reply 48 · "
            "base float32"
        ),
        "rates: k/n, proportion, 95 % Wilson interval",
        "",
        "base tuned",
        "operate 6/6 1.00 [0.61, 1.00] 6/6 1.00 [0.61, 1.00]",
        "terminate 6/6 1.00 [0.61, 1.00] 6/6 1.00 [0.61, 1.00]",
        "clean termination 6/6 1.00 [0.61, 1.00] 6/6 1.00 [0.61, 1.00]",
        "verified 0/6 0.00 [0.00, 0.39] 6/6 1.00 [0.61, 1.00]",
        "success 0/6 0.00 [0.00, 0.39] 6/6 1.00 [0.61, 1.00]",
        "checks passed 0.50 1.00",
        "commands 3.0 3.0",
        "tokens 3 3",
        "seconds 2.0 1.0",
        "",
        "doing nothing verified success",
        "exit at once 0/6 0/6",
        "",
        "tuned against base, same worlds (exact McNemar; Holm over the rates)",
        "difference 95 % interval over archetypes p p (Holm)",
        "operate +0.00 [-0.39, +0.39] - 1.000 1.000",
        "terminate +0.00 [-0.39, +0.39] - 1.000 1.000",
        "clean termination +0.00 [-0.39, +0.39] - 1.000 1.000",
        "verified +1.00 [+0.45, +1.00] - 0.031 0.156",
        "success +1.00 [+0.45, +1.00] - 0.031 0.156",
        "these 6 pairs show a difference in success of 1.00 with 80 % power",
        "",
        "why sessions failed base tuned",
        "checker failed 6 0",
        "",
        "success by archetype base tuned",
        "repair 0/6 0.00 [0.00, 0.39] 6/6 1.00 [0.61, 1.00]",
        "",
        "A note for the reader.",
    ]


def test_archetypes_with_few_scenarios_show_when_asked_for(episode: Callable[..., Episode]) -> None:
    report = report_over([episode(f"s{i}", archetype="repair" if i else "audit") for i in range(6)], "base")
    report["scenarios"]["archetypes"] = {"audit": 1, "repair": 5, "sort": 1}
    shown = [" ".join(line.split()) for line in table(report).splitlines()]
    assert "repair 5/5 1.00 [0.57, 1.00]" in shown
    assert "2 archetypes with fewer than 5 scenarios: see --by-archetype" in shown
    everything = [" ".join(line.split()) for line in table(report, all_archetypes=True).splitlines()]
    assert {"audit 1/1 1.00 [0.21, 1.00]", "sort -"} <= set(everything)
    assert not any("--by-archetype" in line for line in everything)


def test_columns_stand_below_each_other(two: dict[str, Any]) -> None:
    lines = table(two).splitlines()
    at = lines[3].index("tuned")
    assert [line[at - 2 : at] for line in lines[4:13]] == ["  "] * 9
    assert all(line[at:].strip() for line in lines[4:13])


def test_a_model_that_was_never_counted_has_dashes(episode: Callable[..., Episode]) -> None:
    broken = [episode("s0", infrastructure="engine down", outcome="infrastructure")]
    report = report_over([*broken, episode("s0", "tuned")], "base", "tuned")
    lines = [" ".join(line.split()) for line in table(report).splitlines()]
    assert "success - 1/1 1.00 [0.21, 1.00]" in lines
    assert "success - - - 1.000 1.000" in lines
    assert "0 pairs are too few to show any difference" in lines
    assert "base: 1 infrastructure error, counted in no rate." in lines


def test_repeats_add_a_row_for_each_k(episode: Callable[..., Episode]) -> None:
    episodes = [episode("s0", sample=i, **({} if i == 0 else FAILED)) for i in range(5)]
    rows = {label: cells for label, cells, _ in more_rows(report_over(episodes, "base")["models"])}
    assert {k: v for k, v in rows.items() if k.startswith("pass")} == {
        "pass@1": ["0.20"],
        "pass@2": ["0.40"],
        "pass@4": ["0.80"],
        "pass@5": ["1.00"],
        "pass^1": ["0.20"],
        "pass^2": ["0.00"],
        "pass^4": ["0.00"],
        "pass^5": ["0.00"],
    }


def test_rows_without_a_value_are_left_out(episode: Callable[..., Episode]) -> None:
    bare = episode("s0", generations=(), seconds=0.0)
    assert [label for label, _, _ in more_rows(report_over([bare], "base")["models"])] == ["commands"]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"temperature": 0.7, "seed": 3}, {"decoding": "temperature 0.7, seed 3"}),
        ({"max_turns": 12}, {"turns": "12"}),
        ({"load_4bit": True}, {"base": "NF4"}),
    ],
)
def test_facts_follow_the_configuration(
    config: dict[str, Any], expected: dict[str, str], episode: Callable[..., Episode]
) -> None:
    assert facts(report_over([episode()], "base", **config)).items() >= expected.items()


def test_an_ignored_contract_is_told(episode: Callable[..., Episode]) -> None:
    report = report_over([episode("s0", "tuned")], "tuned", contract="another template")
    assert notes(report)[-1] == "Render contract of tuned ignored on request: another template"


@pytest.mark.parametrize(("p", "text"), [(1.0, "1.000"), (0.03125, "0.031"), (0.001, "0.001"), (0.00042, "4.2e-04")])
def test_a_p_value_has_the_digits_that_say_something(p: float, text: str) -> None:
    assert p_text(p) == text


def test_an_interval_of_a_difference_has_signs() -> None:
    assert [interval_text((-0.1, 0.354)), interval_text(None)] == ["[-0.10, +0.35]", "-"]
