"""Settings: flags above the file above the defaults, and what is settled above all."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.settings import add_common_flags, flag_of, parse_flags, to_json


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="some")
    made.add_argument("--max-steps", type=int, default=7)
    made.add_argument("--rate", type=float, default=0.5)
    made.add_argument("--hold", action="store_true")
    made.add_argument("--data", type=Path, action="append")
    made.add_argument("--way", choices=("up", "down"), default="up")
    add_common_flags(made, verbose="more")
    return made


def read(folder: Path, text: str, *argv: str) -> argparse.Namespace:
    file = folder / "some.yaml"
    file.write_text(text)
    return parse_flags(parser(), ["--config", str(file), *argv])


def test_flags_stand_above_the_file_and_the_file_above_the_defaults(tmp_path: Path) -> None:
    args = read(tmp_path, "max-steps: 3\nrate: 1e-3\nhold: true\nway: down\nverbose: 1\n", "--max-steps", "1")
    assert (args.max_steps, args.rate, args.hold, args.way, args.verbose) == (1, 1e-3, True, "down", 1)


def test_a_list_of_flags_replaces_the_list_of_the_file(tmp_path: Path) -> None:
    assert read(tmp_path, "data: [a, b]\n").data == [Path("a"), Path("b")]
    assert read(tmp_path, "data: a\n").data == [Path("a")]
    assert read(tmp_path, "data: [a, b]\n", "--data", "c").data == [Path("c")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_steps: 2.5", "field 'max_steps': found 2.5, expected int"),
        ("max_steps: true", "expected one value"),
        ("max_steps: [1]", "expected one value"),
        ("data: [[a]]", "expected a list of values"),
        ("hold: 1", "expected true or false"),
        ("way: left", "expected one of up, down"),
        ("config: other.yaml", "no flag of some"),
        ("nonsense: 1", "no flag of some"),
        ("- hold", "found a list, expected lines such as"),
        ("hold: [", "no YAML"),
    ],
)
def test_a_file_that_does_not_fit_is_named_with_its_field(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=r"--config .*some\.yaml") as caught:
        read(tmp_path, text)
    assert says in str(caught.value)


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        parse_flags(parser(), ["--config", str(tmp_path / "none.yaml")])


def test_what_is_settled_may_be_repeated_but_not_changed() -> None:
    assert parse_flags(parser(), [], {"hold": True}).hold is True
    assert parse_flags(parser(), ["--max-steps", "3"], {"max_steps": 3}).max_steps == 3
    with pytest.raises(UsageError, match="--max-steps: found 4, but here it is 3"):
        parse_flags(parser(), ["--max-steps", "4"], {"max_steps": 3})


def test_a_record_is_told_in_json_values() -> None:
    @dataclass(frozen=True)
    class Some:
        out: Path
        data: tuple[Path, ...]
        rate: float

    told = to_json(Some(Path("o"), (Path("a"), Path("b")), 0.5))
    assert told == {"out": "o", "data": ["a", "b"], "rate": 0.5}
    assert json.loads(json.dumps(told)) == told
    assert flag_of("max_steps") == "--max-steps"
