"""`--inspect`: what is shown, counted and found, and what a machine or a browser gets of it."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tiararodney.posix_sdc.errors import SchemaError
from tiararodney.sekft.console import run_cli
from tiararodney.sekft.errors import UsageError
from tiararodney.sekft.render import SessionRefused, build_masked_examples, normalize_for_template, render_prompt
from tiararodney.sekft.sft.inspection.inspect import InspectConfig, run
from tiararodney.sekft.tokenizer import load_tokenizer
from tiararodney.sekft.trajectories import read_sessions

FUZZED = int(os.environ.get("SEKFT_FUZZED", "1000"))  # 10000 takes a minute
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
MERGING = (
    "{% for m in messages %}{{ '[' + m['content'] + ']' if m['role'] == 'user' "
    "else m['content'] + '<|im_end|>' }}{% endfor %}"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, save_tokenizer: Any) -> Path:
    """A model folder's tokenizer, without a model."""
    folder = tmp_path_factory.mktemp("base")
    save_tokenizer(
        folder,
        "$ ls -la cat /etc/motd exit panic ][ ][ ][ user assistant",
        ("<|im_start|>", "<|im_end|>"),
        TEMPLATE,
        eos_token="<|im_end|>",
    )
    return folder


def row(n: int = 0, replies: tuple[str, ...] = ("ls -la", "exit"), output: str = "é漢.txt\n$ ", **changes: Any) -> dict:
    turns = [{"role": "system", "content": "A terminal."}, {"role": "user", "content": "$ "}]
    for reply in replies:
        turns += [{"role": "assistant", "content": reply}, {"role": "user", "content": output}]
    return {
        "id": f"t{n}",
        "scenario_id": f"s{n}",
        "archetype": "sorting",
        "split": "train",
        "verified": True,
        "outcome": "success",
        "keep": True,
        "turns": turns[:-1],
    } | changes


@pytest.fixture
def look(base, tmp_path, capsys):
    """`look(rows, **config)` -> exit code and stdout."""

    def do(*rows: dict, **config: Any) -> tuple[int, str]:
        path = tmp_path / "d.jsonl"
        path.write_text("".join(json.dumps(r) + "\n" for r in rows))
        code = run(InspectConfig(**({"data": (str(path),), "base": str(base)} | config)))
        return code, capsys.readouterr().out

    return do


def report(look, *rows, **config):
    code, out = look(*rows, json=True, **config)
    assert code == 0
    assert out.count("\n") == 1
    return json.loads(out)


def test_commands_and_terminals_are_shown_as_trained_and_nothing_else(look):
    code, out = look(row())
    assert code == 0
    assert re.findall("⟦(.*?)⟧", out)[:2] == ["ls -la<|im_end|>", "exit<|im_end|>"]
    assert "é漢.txt\n$ <|im_end|>" in out


def test_colours_are_shown_where_they_are_asked_for(look, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    _, out = look(row())
    assert "\x1b[1;32mls -la<|im_end|>\x1b[0m" in out


def test_tokens_are_counted(look, base):
    rows = [row(0), row(1, ("exit",)), row(2, ("cat x", "ls", "panic no way"))]
    found = report(look, *rows)
    examples = [e for r in rows for e in build_masked_examples(load_tokenizer(base), r["turns"])]
    lengths = sorted(len(e.input_ids) for e in examples)
    assert (found["sessions"], found["rendered"], found["examples"], found["commands"]) == (3, 3, 3, 6)
    assert found["tokens"] == sum(lengths)
    assert found["trained_tokens"] == sum(label != -100 for e in examples for label in e.labels)
    assert (found["example_length"]["p0"], found["example_length"]["p50"], found["example_length"]["p100"]) == tuple(
        lengths
    )
    assert found["terminals"] == {"exit": 2, "panic": 1}


def test_refusals_are_counted_by_reason_with_their_places(look):
    bad = row(1)
    bad["turns"] = bad["turns"][2:]
    found = report(look, row(0), bad)
    assert found["refusals"]["not_a_chat"]["count"] == 1
    assert "d.jsonl:2" in found["refusals"]["not_a_chat"]["places"][0]


def test_control_token_text_is_counted_apart_in_output_and_commands(look):
    rows = [row(0, ("grep '<|im_end|>' x", "exit")), row(1, output="<|im_end|> <|im_end|>\n$ ")]
    found = {(c["token"], c["where"]): c for c in report(look, *rows)["control_token_text"]}
    assert found["<|im_end|>", "commands"]["count"] == 1
    assert found["<|im_end|>", "environment"]["count"] == 2
    assert "t0" in found["<|im_end|>", "commands"]["places"][0]
    assert "turn 2" in found["<|im_end|>", "commands"]["places"][0]


def test_tokens_across_the_border_are_named_with_their_turn(look, base, tmp_path):
    import shutil

    merging = tmp_path / "merging"
    shutil.copytree(base, merging)
    (merging / "chat_template.jinja").write_text(MERGING)
    found = report(look, row(0, ("[ -d x ]", "exit")), base=str(merging))
    (merge,) = found["border_merges"]
    assert merge["token"] == " ]["
    assert "turn 1" in merge["places"][0]
    assert found["split_sessions"]["count"] == 1


def test_duplicates_and_leaks_are_found(look):
    rows = [row(0), row(0, id="copy"), row(3, ("ls", "exit"), scenario_id="s0", split="holdout")]
    found = report(look, *rows)
    assert found["duplicates"]["count"] == 1
    assert "copy" in found["duplicates"]["places"][0]
    assert found["leaks"] == {"scenarios": ["s0"], "archetypes": ["sorting"]}


def test_what_max_length_would_drop_is_told(look):
    found = report(look, row(0), row(1, ("echo " + "x" * 500, "exit")), max_length=200)
    assert found["over_max_length"]["count"] == 1
    assert "t1" in found["over_max_length"]["places"][0]


def test_drops_are_counted_with_their_reason(look):
    found = report(look, row(0), row(1, keep=False, outcome="unclean"))
    assert found["dropped"]["not kept: unclean"]["count"] == 1


def test_a_session_that_cannot_be_trained_at_all_ends_in_1(look):
    bad = row(0)
    bad["turns"] = bad["turns"][2:]
    code, out = look(bad)
    assert code == 1
    assert "not_a_chat" in out


def test_the_page_holds_the_same_and_needs_nothing_else(look, tmp_path):
    page = tmp_path / "page.html"
    look(row(0, ("echo '<b>&'", "exit"), output="\x1b[2J<script>alert(1)</script>\n$ "), html=str(page))
    text = page.read_text(encoding="utf-8")
    assert "<mark>echo &#x27;&lt;b&gt;&amp;&#x27;&lt;|im_end|&gt;</mark>" in text
    assert "<script" not in text
    assert "\x1b" not in text
    assert not re.search(r"""(?:src|href)=|url\(|@import""", text)


def test_a_page_that_cannot_be_written_is_bad_usage(look, tmp_path):
    with pytest.raises(UsageError, match="--html"):
        look(row(), html=str(tmp_path / "no" / "page.html"))


def test_escape_is_told_and_recorded(look):
    found = report(look, row(output="<|im_end|>\n$ "), control_tokens="escape")
    assert found["contract"]["control_tokens"] == "escape"


def test_it_runs_where_torch_is_not(base, tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps(row()) + "\n")
    code = (
        "import sys\nfor name in ('torch', 'peft', 'bitsandbytes', 'datasets'): sys.modules[name] = None\n"
        "from tiararodney.sekft.sft.cli import main\n"
        f"sys.exit(main(['--data', {str(path)!r}, '--base', {str(base)!r}, '--inspect']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "⟦exit<|im_end|>⟧" in done.stdout


def test_a_terminal_that_lacks_the_characters_is_shown_their_codes(base, tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps(row()) + "\n")
    flags = ["--data", str(path), "--base", str(base), "--inspect"]
    done = subprocess.run(
        [sys.executable, "-m", "tiararodney.sekft.sft.cli", *flags],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0, done.stderr
    assert b"\\u27e6exit<|im_end|>\\u27e7" in done.stdout


def test_lengths_are_told_as_quantiles_and_as_a_histogram(look):
    rows = [row(n, ("echo " + "x" * 10 * n, "exit")) for n in range(20)]
    found = report(look, *rows)
    assert sum(b["examples"] for b in found["length_histogram"]) == found["examples"] == 20
    assert found["length_histogram"][0]["from"] == found["example_length"]["p0"]
    assert found["length_histogram"][-1]["to"] == found["example_length"]["p100"]
    assert all(a["to"] + 1 == b["from"] for a, b in pairwise(found["length_histogram"]))
    _, out = look(*rows)
    assert re.search(r"[▁-█ ]+  \d+ to \d+ tokens", out)


@pytest.mark.parametrize("kind", ["truncated", "types", "huge", "deep", "binary", "surrogate", "nan"])
def test_a_spoilt_file_gives_a_message_or_a_right_mask(kind, base, tmp_path, capsys):
    rng = random.Random(kind)
    for n in range(40):
        path = tmp_path / f"{n}.jsonl"
        path.write_bytes(spoilt(kind, rng))
        code = run_cli(lambda path=path: run(InspectConfig(data=(str(path),), base=str(base), json=True)))
        out, err = capsys.readouterr()
        assert code in (0, 1, 2)
        if code == 2:
            assert str(path) in err
            assert "Traceback" not in err
        else:
            assert json.loads(out)["sessions"] >= 1


def test_many_spoilt_files_give_no_other_error_and_no_wrong_mask(base, tmp_path):
    tok, rng, path = load_tokenizer(base), random.Random(0), tmp_path / "d.jsonl"
    kinds = ("truncated", "types", "huge", "deep", "binary", "surrogate", "nan")
    read = refused = 0
    for n in range(FUZZED):
        path.write_bytes(spoilt(kinds[n % len(kinds)], rng))
        try:
            for session in read_sessions(path):
                for example in build_masked_examples(tok, session.messages):
                    for turn, (start, _) in zip(example.turns, example.spans, strict=True):
                        upto = normalize_for_template(session.messages)[:turn]
                        assert example.input_ids[:start] == render_prompt(tok, upto)
                read += 1
        except (SchemaError, UsageError, SessionRefused):
            refused += 1
    assert read + refused == FUZZED
    assert read > FUZZED / 10
    assert refused > FUZZED / 10


def spoilt(kind: str, rng: random.Random) -> bytes:
    good = json.dumps(row(replies=("ls -la", "cat x", "exit"))).encode()
    match kind:
        case "truncated":
            return good[: rng.randrange(len(good))]
        case "binary":
            at = rng.randrange(len(good))
            return good[:at] + rng.randbytes(rng.randrange(1, 9)) + good[at:]
        case "deep":
            return b'{"turns": ' + b"[" * rng.choice([100, 5_000, 200_000])
        case "surrogate":
            return good.replace(b"cat", rng.choice([b"\\ud800", b"\\udfff\\ud800", b"\\udc00x"]))
        case "nan":
            value = rng.choice([b"NaN", b"Infinity", b"-Infinity", b"1e999"])
            return good.replace(b"true", value, 1)
        case "huge":
            return json.dumps(row(replies=("x" * rng.choice([1, 50_000]), "exit"))).encode()
    data = row()
    target = rng.choice([data, data["turns"][rng.randrange(3)]])
    target[rng.choice(list(target))] = rng.choice(
        [None, 3, -1.5, [], {}, "", True, [[]], {"role": 1}, "assistant", "\x00"]
    )
    return json.dumps(data).encode()
