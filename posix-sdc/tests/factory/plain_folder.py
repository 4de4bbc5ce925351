"""Judges one piece of work in a plain folder: what most archetypes need no world for."""

import random
import subprocess

import pytest

from tiararodney.posix_sdc.factory.archetypes import AUTHORS
from tiararodney.posix_sdc.factory.checks import Request, script
from tiararodney.posix_sdc.factory.vocabulary import Draw
from tiararodney.posix_sdc.worlds.verdict import verdict

ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/home/agent", "LC_ALL": "C.UTF-8"}
# These start programs, some of them root's: they need a world, which the tests of the gate give them.
SEEDS = [pytest.param(seed, marks=[pytest.mark.sweep] if seed else []) for seed in range(5)]
PLAIN = sorted(name for name in AUTHORS if not name.startswith("process_"))


def author(name, seed, **brief):
    return AUTHORS[name](Request(Draw(random.Random(f"{name}/{seed}")), **brief))


def passes(work, commands, folder, given=()):
    """Say whether every check holds after these commands."""
    return not failed(work, commands, folder, given)


def failed(work, commands, folder, given=()):
    """Stand the fixtures up, run the commands in one shell, and return the checks that do not hold."""
    folder.mkdir()
    for f in (*work.fixtures, *given):
        path = folder / (f"root{f.path}" if f.path.startswith("/") else f.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f.content)
        path.chmod(int(f.mode, 8))
    run = {
        "cwd": folder,
        "env": {**ENVIRONMENT, "PATH": f"{folder}/root/usr/local/bin:{ENVIRONMENT['PATH']}"}
        if any(f.path.startswith("/") for f in work.fixtures)
        else ENVIRONMENT,
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
    }
    subprocess.run(["/bin/sh", "-c", "\n".join(commands)], check=False, timeout=20, **run)
    judged = subprocess.run(
        ["/bin/sh", "-c", script(work.checks)], check=False, timeout=20, **run | {"stdout": subprocess.PIPE}, text=True
    )
    found = verdict(judged.returncode, judged.stdout).checks
    assert len(found) == len(work.checks)
    assert (judged.returncode == 0) is all(check.passed for check in found)
    return [check.name for check in found if not check.passed]
