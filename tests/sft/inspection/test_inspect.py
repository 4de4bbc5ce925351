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
from tiararodney.sekft.sft.config import InspectConfig
from tiararodney.sekft.sft.inspection.inspect import run
from tiararodney.sekft.tokenizer import load_tokenizer
from tiararodney.sekft.trajectories import Sessions

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
        code = run(InspectConfig(**({"data": (path,), "base": base, "data_split": ("all",)} | config)))
        return code, capsys.readouterr().out

    do.path = tmp_path / "d.jsonl"
    return do


def report(look, *rows, **config):
    code, out = look(*rows, json=True, **config)
    assert code == 0
    assert out.count("\n") == 1
    return json.loads(out)


def test_commands_and_terminals_alone_are_shown_as_trained(look):
    code, out = look(row())
    assert code == 0
    assert re.findall("⟦(.*?)⟧", out)[:2] == ["ls -la<|im_end|>", "exit<|im_end|>"]
    assert "é漢.txt\n$ <|im_end|>" in out


def test_colours_are_shown_when_asked_for(look, monkeypatch):
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


def test_control_tokens_are_counted_in_output_and_commands(look):
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
    found = report(look, row(0, ("[ -d x ]", "exit")), base=merging)
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


def test_what_max_length_drops_is_counted(look):
    found = report(look, row(0), row(1, ("echo " + "x" * 500, "exit")), max_length=200)
    assert found["over_max_length"]["count"] == 1
    assert "t1" in found["over_max_length"]["places"][0]


def test_drops_are_counted_with_their_reason(look):
    found = report(look, row(0), row(1, keep=False, outcome="unclean"))
    assert found["dropped"]["not kept: unclean"]["count"] == 1


def test_nothing_to_train_on_exits_with_1(look):
    bad = row(0)
    bad["turns"] = bad["turns"][2:]
    code, out = look(bad)
    assert code == 1
    assert "not_a_chat" in out


def test_the_page_is_escaped_and_self_contained(look, tmp_path):
    page = tmp_path / "page.html"
    look(row(0, ("echo '<b>&'", "exit"), output="\x1b[2J<script>alert(1)</script>\n$ "), html=str(page))
    text = page.read_text(encoding="utf-8")
    assert "<mark>echo &#39;&lt;b&gt;&amp;&#39;&lt;|im_end|&gt;</mark>" in text
    assert "<script" not in text
    assert "\x1b" not in text
    assert not re.search(r"""(?:src|href)=|url\(|@import""", text)


def test_a_page_that_cannot_be_written_is_bad_usage(look, tmp_path):
    with pytest.raises(UsageError, match="--html"):
        look(row(), html=str(tmp_path / "no" / "page.html"))


def test_the_escape_policy_is_recorded(look):
    found = report(look, row(output="<|im_end|>\n$ "), control_tokens="escape")
    assert found["contract"]["control_tokens"] == "escape"


def test_inspection_runs_without_torch(base, tmp_path):
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


def test_characters_a_terminal_lacks_are_shown_as_codes(base, tmp_path):
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


def test_lengths_are_shown_as_quantiles(look):
    rows = [row(n, ("echo " + "x" * 10 * n, "exit")) for n in range(20)]
    found = report(look, *rows)["example_length"]
    assert list(found) == ["p0", "p25", "p50", "p75", "p90", "p99", "p100"]
    assert list(found.values()) == sorted(found.values())
    _, out = look(*rows)
    assert f"p50 {found['p50']:,}, p75 {found['p75']:,}" in out


def test_the_page_has_figures_and_a_histogram_of_lengths(look, tmp_path):
    page, rows = tmp_path / "page.html", [row(n, ("echo " + "x" * 10 * n, "exit")) for n in range(20)]
    bins = report(look, *rows)["length_histogram"]
    assert sum(b["examples"] for b in bins) == 20
    assert all(a["to"] + 1 == b["from"] for a, b in pairwise(bins))
    look(*rows, html=str(page))
    text = page.read_text(encoding="utf-8")
    assert text.count('<rect class="bar"') == len(bins)
    assert '<div class="figure"><b>20</b>sessions: rendered of 20 selected of 20 read</div>' in text


def masked_row(n: int = 0, **flag: Any) -> dict:
    out = row(n, ("rm x", "ls -la", "exit"))
    out["turns"][2] |= flag or {"train": False}
    return out


def test_masked_replies_are_shown_and_counted(look):
    found = report(look, masked_row(0), masked_row(1, weight=0), row(2))
    assert (found["commands"], found["masked_replies"]["count"]) == (6, 2)
    assert "t0" in found["masked_replies"]["places"][0]
    _, out = look(masked_row())
    assert "⟪rm x<|im_end|>⟫" in out
    assert "⟦ls -la<|im_end|>⟧" in out
    assert "2 trained, 1 masked" in out


def test_empty_replies_are_refused_and_counted(look):
    found = report(look, row(0), row(1, ("", "exit")), row(2, ("ls", " \n", "exit")))
    assert found["refusals"]["empty_reply"]["count"] == 2
    assert "turn 3" in found["refusals"]["empty_reply"]["places"][1]


def test_keys_that_are_not_read_are_counted(look):
    named = row(0)
    named["turns"][1]["name"] = named["turns"][2]["name"] = "box"
    assert report(look, named)["unread_keys"] == {"name": {"count": 2, "places": [f"t0 ({look.path}:1)"]}}


def test_splits_are_printed_with_those_left_out(look):
    rows = [row(0), row(1, split="holdout"), row(2, split="holdout", scenario_id="s0")]
    found = report(look, *rows, data_split=("train",))
    assert (found["splits"], found["sessions"]) == ({"holdout": 2, "train": 1}, 1)
    assert found["dropped"]["split holdout"]["count"] == 2
    assert found["leaks"]["scenarios"] == ["s0"]
    _, out = look(*rows)
    assert re.search(r"^splits +holdout 2, train 1$", out, re.MULTILINE)


@pytest.mark.parametrize("columns", ["40", "80", "100"])
def test_lines_break_between_words_only(look, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    rows = [row(n, archetype=f"archetype_{n}_with_a_long_name") for n in range(8)]
    _, out = look(*rows, show=0)
    lines = out.splitlines()
    for line in lines:  # a path may be longer than a narrow line
        assert len(line) <= int(columns) or " " not in line.strip(), line
    for r in rows:
        assert any(r["archetype"] in line for line in lines)


def test_the_page_shows_masked_replies(look, tmp_path):
    page = tmp_path / "page.html"
    look(masked_row(), html=str(page))
    assert '<mark class="masked">rm x&lt;|im_end|&gt;</mark>' in page.read_text(encoding="utf-8")


def test_stderr_holds_nothing_but_the_log(base, tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps(row()) + "\n")
    code = (
        "import sys\nfor name in ('torch', 'peft'): sys.modules[name] = None\n"
        "from tiararodney.sekft.sft.cli import main\nsys.exit(main(sys.argv[1:]))"
    )
    flags = ["--inspect", "--data", str(path), "--base", str(base)]
    done = subprocess.run([sys.executable, "-c", code, *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "inspecting" in done.stderr
    assert all(re.match(r"\d\d:\d\d:\d\d (inspecting|1 sessions)", line) for line in done.stderr.splitlines())


@pytest.mark.parametrize("kind", ["truncated", "types", "huge", "deep", "binary", "surrogate", "nan"])
def test_a_broken_file_gives_a_message_or_a_right_mask(kind, base, tmp_path, capsys):
    rng = random.Random(kind)
    for n in range(40):
        path = tmp_path / f"{n}.jsonl"
        path.write_bytes(broken(kind, rng))
        code = run_cli(lambda path=path: run(InspectConfig(data=(path,), base=base, data_split=("all",), json=True)))
        out, err = capsys.readouterr()
        assert code in (0, 1, 2)
        if code == 2:
            assert str(path) in err
            assert "Traceback" not in err
        else:
            assert json.loads(out)["sessions"] >= 1


def test_fuzzed_files_give_no_wrong_mask(base, tmp_path):
    tok, rng, path = load_tokenizer(base), random.Random(0), tmp_path / "d.jsonl"
    kinds = ("truncated", "types", "huge", "deep", "binary", "surrogate", "nan")
    read = refused = 0
    for n in range(FUZZED):
        path.write_bytes(broken(kinds[n % len(kinds)], rng))
        try:
            for session in Sessions(path):
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


def broken(kind: str, rng: random.Random) -> bytes:
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
