"""What README, docs and examples tell people to type is taken by the commands it is told of."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXTS = sorted(
    path
    for pattern in ("README.md", "docs/*.md", "posix-sdc/README.md", "examples/*/run.sh")
    for path in ROOT.glob(pattern)
)
OURS = ("sekft-train", "sekft-eval", "sekft-resident", "posix-sdc")
AT_THE_PROMPT = {"train": "sekft-train", "eval": "sekft-eval"}


def commands(text: str, *, script: bool) -> list[list[str]]:
    """Lines of code that begin with a command of ours; continued lines are joined, a script's variables filled in."""
    defaults = dict(re.findall(r"(\w+)=\$\{\d:-([^}]+)\}", text)) if script else {}
    filled = re.sub(r'"?\$\{\w+\[@\]\}"?', "", text.replace("\\\n", " "))
    filled = re.sub(r"\$(\w+)", lambda found: defaults.get(found[1], "x"), filled)
    indent = r"(?:\[[^\]]*\] \|\| )?" if script else " {4}"
    lines = re.findall(rf"^{indent}([a-z]+(?:-[a-z]+)? .*)$", filled, re.MULTILINE)
    ours = [line for line in lines if line.split()[0] in (*OURS, *AT_THE_PROMPT)]
    return [shlex.split(line, comments=True) for line in ours if "..." not in line and " -> " not in line]


def parse(words: list[str]) -> None:
    """Read a command's flags with its own parser."""
    name, *flags = words
    settled = {}
    if name in AT_THE_PROMPT:
        name, settled = AT_THE_PROMPT[name], {"base": Path("base"), "load_4bit": True}
    if name == "sekft-train":
        from tiararodney.sekft.sft.config import read, train_config

        train_config(read(flags, settled=settled))
    elif name == "sekft-eval" and flags[:1] != ["compare"]:
        from tiararodney.sekft.eval.config import parse as eval_flags

        eval_flags(flags, settled=settled)
    elif name == "sekft-resident":
        from tiararodney.sekft.flags import Common
        from tiararodney.sekft.resident.cli import ResidentConfig
        from tiararodney.sekft.settings import read_settings

        read_settings(flags, (ResidentConfig, Common), name, "").of(ResidentConfig)
    elif name == "posix-sdc":
        from tiararodney.posix_sdc.cli.arguments import _parser

        _parser().parse_args(flags)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_texts_are_taken(path: Path) -> None:
    for words in commands(path.read_text(encoding="utf-8"), script=path.suffix == ".sh"):
        try:
            parse(words)
        except SystemExit as stop:
            assert stop.code in (None, 0), f"{path.name}: {shlex.join(words)}"  # noqa: PT017 - argparse says why on stderr
        except Exception as error:
            raise AssertionError(f"{path.name}: {shlex.join(words)}: {error}") from error


def test_the_texts_hold_commands_of_each_kind() -> None:
    if not TEXTS:
        pytest.skip("needs the repository's texts")
    seen = {words[0] for path in TEXTS for words in commands(path.read_text(), script=path.suffix == ".sh")}
    assert seen == {*OURS, *AT_THE_PROMPT}


def test_a_flag_that_is_gone_is_found() -> None:
    (words,) = commands("    sekft-eval --base b --scenarios s --out o --gone 3\n", script=False)
    with pytest.raises(Exception, match="--gone: no such flag"):
        parse(words)


def test_links_between_texts_lead_somewhere() -> None:
    for path in TEXTS:
        if path.suffix == ".md":
            for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
                assert (path.parent / target).exists(), f"{path.name}: {target}"
