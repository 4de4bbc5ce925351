"""Flags, ``--config`` and what is refused before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.eval.config import EvalConfig, parse
from tiararodney.sekft.settings import to_json

NEEDED = ["--scenarios", "worlds", "--out", "out"]


def test_flags_become_one_record_with_the_stated_defaults() -> None:
    config = parse(["--base", "b", "--adapter", "x", "--adapter", "y", "--n", "16", *NEEDED])
    assert config == EvalConfig(
        scenarios=Path("worlds"), out=Path("out"), base=Path("b"), adapters=(Path("x"), Path("y")), n=16
    )
    assert (config.max_turns, config.max_new_tokens, config.temperature, config.concurrency) == (None, 48, 0.0, 16)


def test_a_yaml_file_gives_defaults_and_flags_win(tmp_path: Path) -> None:
    file = tmp_path / "eval.yaml"
    file.write_text("base: b\nadapter: [x, y]\nn: 8\nmax-turns: 4\nload_4bit: true\nscenarios: worlds\nout: out\n")
    config = parse(["--config", str(file), "--n", "2"])
    assert (config.n, config.max_turns, config.load_4bit, config.adapters) == (2, 4, True, (Path("x"), Path("y")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("turns: 4\n", "field 'turns': no such setting"),
        ("n: many\n", "field 'n': found 'many', expected a whole number"),
        ("load-4bit: 1\n", "field 'load-4bit': found 1, expected true or false"),
        ("runtime: vm\n", "field 'runtime': found vm, expected one of auto, docker, bwrap"),
        ("- n\n", "found a list, expected lines such as"),
        ("n: [1\n", "not YAML"),
    ],
)
def test_a_yaml_file_that_does_not_fit_is_named_with_its_field(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "eval.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        parse(["--config", str(file), "--base", "b", *NEEDED])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (NEEDED, "--base is missing"),
        (["--base", "b", "--out", "o"], "--scenarios is missing"),
        (["--base", "b", "--scenarios", "s"], "--out is missing"),
        (["--base", "b", "--no-base", *NEEDED], "--no-base leaves nothing"),
        (["--base", "b", "--n", "0", *NEEDED], "--n: found 0, expected a number above 0"),
        (["--base", "b", "--temperature", "-1", *NEEDED], "--temperature: found -1"),
        (["--base", "b", "--temperature", "nan", *NEEDED], "--temperature: found nan"),
        (["--base", "b", "--endpoint", "http://h/v1", *NEEDED], "in two runs"),
        (["--endpoint", "http://h/v1", *NEEDED], "--endpoint needs --model"),
        (["--base", "b", "--model", "m", *NEEDED], "--model names a model of an endpoint"),
    ],
)
def test_what_does_not_fit_together_is_refused(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(argv)


def test_a_settled_value_may_be_repeated_but_not_changed() -> None:
    settled = {"base": Path("hot"), "load_4bit": True}
    assert parse(NEEDED, settled=settled).base == Path("hot")
    assert parse([*NEEDED, "--base", "hot", "--load-4bit"], settled=settled).load_4bit is True
    with pytest.raises(UsageError, match="--base cold: the loaded base has hot"):
        parse([*NEEDED, "--base", "cold"], settled=settled)


def test_the_record_as_json_holds_every_setting() -> None:
    config = EvalConfig(scenarios=Path("w"), out=Path("o"), base=Path("b"), adapters=(Path("x"),))
    assert to_json(config)["adapters"] == ["x"]
    assert set(to_json(config)) == set(EvalConfig.__dataclass_fields__)
