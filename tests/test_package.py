"""What the two wheels promise from outside: names, scripts, marks."""

from __future__ import annotations

import importlib.util
import inspect
import subprocess
import sys
from importlib.metadata import distribution, entry_points
from pathlib import Path

import pytest

SCRIPTS = ("sekft-train", "sekft-eval", "sekft-resident", "posix-sdc")

# Imports torch or transformers and you are out: the guard is a finder, so even a guarded import is seen.
BLOCK = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "transformers", "peft", "bitsandbytes", "datasets", "accelerate", "docker"}:
            raise AssertionError(f"imported {name}")
sys.meta_path.insert(0, Refuse())
"""


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_answers_without_any_heavy_import(script: str) -> None:
    (entry,) = entry_points(group="console_scripts", name=script)
    code = f"{BLOCK}\nfrom {entry.module} import {entry.attr}\nsys.exit({entry.attr}(['--help']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {script}")
    assert done.stderr == ""


def test_the_guard_against_heavy_imports_can_fail() -> None:
    done = subprocess.run([sys.executable, "-c", f"{BLOCK}\nimport docker"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "imported docker" in done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_wrong_flags_are_bad_usage_without_a_traceback(script: str) -> None:
    (entry,) = entry_points(group="console_scripts", name=script)
    code = f"import sys; from {entry.module} import {entry.attr} as m; sys.exit(m(['--no-such-flag']))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert script in done.stderr
    if script != "posix-sdc":
        assert done.stderr == f"{script}: --no-such-flag: no such flag. See {script} --help.\n"


@pytest.mark.parametrize("name", ["tiararodney.sekft", "tiararodney.posix_sdc"])
def test_both_packages_are_typed_and_share_a_namespace(name: str) -> None:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    assert (folder / "py.typed").is_file()
    assert not (folder.parent / "__init__.py").exists()


@pytest.mark.parametrize("name", ["tiararodney.sekft", "tiararodney.posix-sdc"])
def test_the_licence_is_declared_and_shipped(name: str) -> None:
    meta = distribution(name).metadata
    assert meta["License-Expression"] == "GPL-2.0-only"
    assert meta.get_all("License-File") == ["LICENSE"]


def test_torch_is_no_base_dependency() -> None:
    requires = distribution("tiararodney.sekft").requires or []
    base = {r.split(";")[0].strip() for r in requires if "extra ==" not in r}
    assert not [r for r in base if r.startswith(("torch", "peft", "bitsandbytes", "accelerate", "datasets"))]


def names(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_the_names_that_others_rely_on_keep_their_signatures() -> None:
    from tiararodney.posix_sdc.rollout import run_session
    from tiararodney.posix_sdc.schema import Scenario, Trajectory, load_scenarios, load_trajectories
    from tiararodney.posix_sdc.world import CommandResult, Verdict, open_world
    from tiararodney.sekft.render import (
        Example,
        build_masked_examples,
        canonical_chat_template,
        normalize_for_template,
        render_prompt,
    )

    assert names(normalize_for_template)[:1] == ["messages"]
    assert names(render_prompt)[:2] == ["tokenizer", "messages"]
    assert names(build_masked_examples)[:2] == ["tokenizer", "messages"]
    assert names(canonical_chat_template)[:1] == ["template"]
    assert names(Example)[:2] == ["input_ids", "labels"]
    assert names(open_world)[:2] == ["scenario", "runtime"]
    assert inspect.signature(open_world).parameters["runtime"].default == "auto"
    assert names(CommandResult)[:3] == ["output", "status", "ended"]
    assert names(Verdict)[:2] == ["passed", "detail"]
    assert names(run_session)[:2] == ["scenario", "operator"]
    assert {"runtime", "limits"} <= set(names(run_session))
    assert names(load_scenarios) == ["path"]
    assert names(load_trajectories) == ["path"]
    for record in (Scenario, Trajectory):
        assert callable(record.from_json)
        assert callable(record.to_json)
