"""Settings: flags above the file above the defaults, and what is settled above all."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.flags import Common
from tiararodney.sekft.settings import Settings, flag_of, read_settings, setting, to_json

SCRIPTS = ("sft", "eval", "resident")


@dataclass(frozen=True)
class Some:
    out: Path = setting("where to")
    max_steps: int = setting("steps", default=7, at_least=0)
    rate: float = setting("rate", default=0.5, above=0)
    share: float = setting("fraction", default=0.0, at_least=0, below=1)
    hold: bool = setting("hold it", default=False)
    data: tuple[Path, ...] = setting("what", default=())
    way: str = setting("where", default="up", choices=("up", "down"))
    n: int | None = setting("how many", default=None, also=("--limit",), above=0)


def given(*argv: str, **settled: object) -> Settings:
    return read_settings(argv, (Some, Common), "some", "Does something.", settled=settled)


def read(*argv: str, **settled: object) -> Some:
    return given("--out", "o", *argv, **settled).of(Some)


def from_file(folder: Path, text: str, *argv: str) -> Some:
    file = folder / "some.yaml"
    file.write_text(text)
    return read("--config", str(file), *argv)


def test_flags_win_over_file_over_defaults(tmp_path: Path) -> None:
    some = from_file(tmp_path, "max-steps: 3\nrate: 1e-3\nhold: true\nway: down\n", "--max-steps", "1")
    assert some == Some(out=Path("o"), max_steps=1, rate=1e-3, hold=True, way="down")
    assert from_file(tmp_path, "hold: true", "--no-hold").hold is False


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(
    steps=st.integers(0, 10**9),
    rate=st.floats(0, 1e9, exclude_min=True),
    share=st.floats(0, 1, exclude_max=True),
    hold=st.booleans(),
    data=st.lists(st.text(alphabet="ab/_. -é", min_size=1, max_size=6).map(lambda t: f"x{t}x"), min_size=1, max_size=3),
)
def test_a_file_says_what_flags_say(tmp_path_factory, steps, rate, share, hold, data):
    values = {"max-steps": steps, "rate": rate, "share": share, "hold": hold, "data": data}
    words = [f"--{'' if hold else 'no-'}hold", *(f"--data={path}" for path in data)]
    words += [f"--{name}={values[name]!r}" for name in ("max-steps", "rate", "share")]
    file = tmp_path_factory.getbasetemp() / "same.yaml"
    file.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
    by_flags = read(*words)
    assert by_flags == read("--config", str(file))
    assert by_flags == Some(Path("o"), steps, rate, share, hold, tuple(map(Path, data)))


def test_a_repeated_flag_replaces_the_files_list(tmp_path: Path) -> None:
    assert from_file(tmp_path, "data: [a, b]\n").data == (Path("a"), Path("b"))
    assert from_file(tmp_path, "data: a\n").data == (Path("a"),)
    assert from_file(tmp_path, "data: [a, b]\n", "--data", "c").data == (Path("c"),)


@pytest.mark.parametrize("argv", [["--max_steps", "3"], ["--max_steps=3"], ["--max-steps=3"]])
def test_flags_are_taken_with_underscores(argv: list[str]) -> None:
    assert read(*argv).max_steps == 3


def test_values_keep_their_underscores_and_dashes() -> None:
    assert read("--data=--a_b", "--data", "c_d").data == (Path("--a_b"), Path("c_d"))


def test_limit_is_another_name_of_n() -> None:
    assert read("--limit", "3").n == read("--n", "3").n == 3


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--max-stpes", "3"], "--max-stpes: no such flag; did you mean --max-steps?"),
        (["--max-stpes=3"], "--max-stpes: no such flag; did you mean --max-steps?"),
        (["--qqqqq"], "--qqqqq: no such flag. See some --help."),
        (["word"], "word: no such flag. See some --help."),
        (["--max"], "--max: no such flag"),
        (["--rate"], "--rate: expected one argument"),
        (["--max-steps", "x"], "--max-steps: found 'x', expected a whole number."),
        (["--max-steps", "2.5"], "--max-steps: found '2.5', expected a whole number."),
        (["--max-steps", "-1"], "--max-steps: found -1, expected a number 0 or more."),
        (["--rate", "0"], "--rate: found 0, expected a number above 0."),
        (["--rate", "nan"], "--rate: found nan, expected a number above 0."),
        (["--rate", "inf"], "--rate: found inf, expected a number above 0."),
        (["--share", "1"], "--share: found 1, expected a number 0 or more and below 1."),
        (["--way", "left"], "--way: found left, expected one of up, down."),
        (["--config", "nonsense"], "--config nonsense: no such file or preset"),
        (["--config", "none.yaml"], "--config none.yaml: no such file or preset"),
        (["--config", "n" * 300], "n: File name too long. Give a readable YAML file."),
    ],
)
def test_a_flag_that_does_not_fit_is_one_line(argv: list[str], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(*argv)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_steps: 2.5", "field 'max_steps': found 2.5, expected a whole number"),
        ("max_steps: true", "expected a whole number"),
        ("max_steps: [1]", "expected a whole number"),
        ("max_steps: -1", "expected a number 0 or more"),
        ("data: [[a]]", "expected a path"),
        ("hold: 1", "expected true or false"),
        ("way: left", "expected one of up, down"),
        ("config: other.yaml", "no such setting of some"),
        ("max_stpes: 1", "no such setting of some; did you mean max-steps?"),
        ("- hold", "found a list, expected lines such as"),
        ("hold: [", "not YAML"),
    ],
)
def test_a_bad_file_is_named_with_its_field(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=r"--config .*some\.yaml") as caught:
        from_file(tmp_path, text)
    assert says in str(caught.value)


def test_a_missing_required_setting_says_what_it_is() -> None:
    with pytest.raises(UsageError, match=r"--out is missing \(where to\)\. See some --help"):
        given().of(Some)


def test_settled_values_may_be_repeated_but_not_changed() -> None:
    assert read(hold=True).hold is True
    assert read("--max-steps", "3", max_steps=3).max_steps == 3
    assert read("--way", "up", way="up").way == "up"
    with pytest.raises(UsageError, match="--max-steps 4: the loaded base has 3"):
        read("--max-steps", "4", max_steps=3)
    with pytest.raises(UsageError, match="--hold: the loaded base has none"):
        read("--hold", hold=False)


def test_what_is_settled_wins_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "some.yaml").write_text("max_steps: 4\nrate: 2\n")
    some = read("--config", str(tmp_path / "some.yaml"), max_steps=3)
    assert (some.max_steps, some.rate) == (3, 2.0)


def test_version_prints_and_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        given("--version")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("some ")


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_fast_and_loads_nothing_heavy(script: str) -> None:
    code = (
        "import sys\n"
        f"from tiararodney.sekft.{script}.cli import main\n"
        "code = main(['--help'])\n"
        "heavy = {'torch', 'transformers', 'tokenizers', 'peft', 'datasets', 'docker', 'jinja2', 'yaml'}\n"
        "sys.exit(f'imported {heavy & set(sys.modules)}' if heavy & set(sys.modules) else code)\n"
    )
    started = time.process_time()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert time.process_time() - started < 1
    assert done.returncode == 0, done.stderr
    assert "--load-4bit" in done.stdout


def test_settings_are_json_as_they_stand() -> None:
    told = to_json(read("--data", "a", "--data", "b"))
    assert told["data"] == ["a", "b"]
    assert told["out"] == "o"
    assert flag_of("max_steps") == "--max-steps"
