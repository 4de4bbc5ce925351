"""The command line of training: flags, the configuration file, what it refuses and how it says so."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.settings import preset_folder
from tiararodney.sekft.sft.cli import main
from tiararodney.sekft.sft.config import TrainConfig, read, train_config

MINIMUM = ["--data", "d", "--base", "b", "--out", "o"]


def parse(argv: list[str], **settled: object) -> TrainConfig | None:
    return train_config(read(argv, settled=settled))


def test_every_field_is_a_flag_that_states_its_default(capsys: pytest.CaptureFixture[str]):
    config = parse(MINIMUM)
    assert config == TrainConfig(base=Path("b"), out=Path("o"), data=(Path("d"),))
    with pytest.raises(SystemExit):
        read(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name, value in config.to_json().items():
        assert f"--{name.replace('_', '-')}" in text
        if name not in ("base", "out") and not isinstance(value, bool | list | None):
            assert f"default: {getattr(config, name)})" in text


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path: Path):
    file = tmp_path / "run.yaml"
    file.write_text("learning-rate: 1.0e-3\nepochs: 3\nlora_r: 8\nload_4bit: true\ndata: [one, two]\nbase: b\n")
    config = parse(["--config", str(file), "--out", "o", "--epochs", "1"])
    assert config is not None
    assert (config.learning_rate, config.epochs, config.lora_r, config.load_4bit) == (1e-3, 1.0, 8, True)
    assert config.data == (Path("one"), Path("two"))


def test_settings_are_read_from_a_pipe(capsys: pytest.CaptureFixture[str]):
    """As the shell's `--config <(...)` gives one; it can be read once only."""
    ours, theirs = os.pipe()
    os.write(theirs, b"base: no-such-base\ndata: no-such-data\nout: o\n")
    os.close(theirs)
    assert main(["--config", f"/dev/fd/{ours}"]) == 2
    os.close(ours)
    assert "no-such-" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("learning_rat: 1", "learning_rat"),
        ("lora_r: many", "expected a whole number"),
        ("load_4bit: 1", "expected true or false"),
        ("lora_r: true", "expected a whole number"),
        ("lora_r: 2.5", "found 2.5, expected a whole number"),
        ("gradient_checkpointing: sometimes", "expected one of auto"),
        ("epochs: [1, 2]", "expected a number"),
        ("- epochs", "expected lines such as"),
        ("epochs: [", "not YAML"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_its_field(tmp_path: Path, text: str, says: str):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match="--config") as caught:
        parse([*MINIMUM, "--config", str(file)])
    assert says in str(caught.value)


@pytest.mark.parametrize("name", sorted(entry.name.removesuffix(".yaml") for entry in preset_folder().iterdir()))
def test_a_preset_is_taken_by_its_name(name: str):
    config = parse(["--config", name, "--data", "d", "--out", "o"])
    assert config is not None
    assert config.load_4bit
    assert str(config.base).count("/") == 1


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--base", "b", "--out", "o"], "--data is missing"),
        (["--data", "d", "--out", "o"], "--base is missing"),
        (["--data", "d", "--base", "b"], "--out is missing"),
        ([*MINIMUM, "--lora-r", "0"], "--lora-r: found 0, expected a number above 0"),
        ([*MINIMUM, "--learning-rate", "nan"], "--learning-rate"),
        ([*MINIMUM, "--max-steps", "-1"], "--max-steps: found -1, expected a number 0 or more"),
        ([*MINIMUM, "--warmup-ratio", "1"], "--warmup-ratio"),
        ([*MINIMUM, "--patience", "2"], "--validation-fraction"),
        ([*MINIMUM, "--html", "page.html"], "--html belongs to --inspect"),
        ([*MINIMUM, "--json"], "--json belongs to --inspect"),
        ([*MINIMUM, "--endpoint", "http://h/v1"], "--endpoint belongs to --inspect"),
        ([*MINIMUM, "--show", "-1"], "--show: found -1, expected a number 0 or more"),
    ],
)
def test_flags_that_do_not_fit_are_refused_by_name(flags: list[str], says: str, capsys: pytest.CaptureFixture[str]):
    assert main(flags) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_a_resident_settles_the_base_and_refuses_another(tmp_path: Path):
    config = parse(["--data", "d", "--out", "o"], base=Path("hot"), load_4bit=True)
    assert config is not None
    assert (config.base, config.load_4bit) == (Path("hot"), True)
    with pytest.raises(UsageError, match="--base cold: the loaded base has hot"):
        parse(["--data", "d", "--out", "o", "--base", "cold"], base=Path("hot"))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--data", "{data}", "--base", "{base}", "--out", "{data}"], "--out {data}: exists."),
        (["--data", "{base}/nope", "--base", "{base}", "--out", "o"], "--data {base}/nope: no such file or folder."),
        (["--data", "{data}", "--base", "{base}/nope", "--out", "o"], "--base {base}/nope: no such folder"),
        (["--data", "{data}", "--base", "{base}", "--out", "{base}/config.json/o"], "config.json is a file, expected"),
    ],
)
def test_wrong_folders_are_told_before_torch_is_imported(data: Path, tiny_base: Path, flags: list[str], says: str):
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from tiararodney.sekft.sft.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    names = {"data": data, "base": tiny_base}
    words = [sys.executable, "-c", code, *(flag.format(**names) for flag in flags)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert says.format(**names) in done.stderr
    assert done.stderr.count("\n") == 1


def _train(data: Path, base: Path, out: Path, *more: str) -> int:
    return main(["--data", str(data), "--base", str(base), "--out", str(out), "--device", "cpu", "-q", *more])


@pytest.mark.torch
def test_a_run_prints_its_folder_and_nothing_else(
    data: Path, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("peft", reason="needs peft (extra gpu)")
    assert _train(data, tiny_base, tmp_path / "o", "--max-steps", "1") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'o'}\n"


@pytest.mark.torch
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ("missing", "nowhere"),
        ("empty", "none"),
        ("broken line", "set.jsonl:7: found broken JSON"),
        ("ends in a user turn", "expected 'assistant'"),
        ("no base", "not a model folder"),
        ("an adapter as base", "it holds an adapter"),
    ],
)
def test_input_that_cannot_be_used_ends_with_2_and_one_message(
    data: Path, tiny_base: Path, tmp_path: Path, spoil: str, says: str, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("peft", reason="needs peft (extra gpu)")
    base = tiny_base
    if spoil == "missing":
        data = tmp_path / "nowhere"
    elif spoil == "empty":
        data = tmp_path / "none"
        data.mkdir()
    elif spoil == "broken line":
        lines = [json.dumps(json.loads(file.read_text())) for file in sorted(data.iterdir())]
        data = tmp_path / "set.jsonl"
        data.write_text("\n".join([*lines[:6], '{"id": ', *lines[7:]]) + "\n")
    elif spoil == "ends in a user turn":
        session = json.loads((data / "03.json").read_text())
        session["turns"].pop()
        (data / "03.json").write_text(json.dumps(session))
    else:
        base = tmp_path / "base"
        base.mkdir()
        if spoil == "an adapter as base":
            (base / "adapter_config.json").write_text("{}")
    assert _train(data, base, tmp_path / "o") == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert "Traceback" not in captured.err
    assert not (tmp_path / "o").exists()


def test_inspect_works_without_torch(data: Path, tiny_base: Path):
    """`--inspect` in an interpreter where torch and its kin cannot be imported."""
    code = (
        "import sys\n"
        "for name in ('torch', 'peft', 'bitsandbytes', 'safetensors', 'accelerate'):\n"
        "    sys.modules[name] = None\n"
        "from tiararodney.sekft.sft.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    flags = ["--data", str(data), "--base", str(tiny_base), "--inspect", "--show", "1"]
    done = subprocess.run([sys.executable, "-c", code, *flags], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "12 rendered of 12 selected" in done.stdout


def test_training_without_torch_names_the_extra(data: Path, tiny_base: Path, tmp_path: Path):
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from tiararodney.sekft.sft.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    flags = ["--data", str(data), "--base", str(tiny_base), "--out", str(tmp_path / "o")]
    done = subprocess.run([sys.executable, "-c", code, *flags], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "tiararodney.sekft[gpu]" in done.stderr
    assert "Traceback" not in done.stderr
