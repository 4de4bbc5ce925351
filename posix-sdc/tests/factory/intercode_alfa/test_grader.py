"""Our verdicts against those of the package's own grader, which is given worlds of ours in place of its containers."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
import sys
import types
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from tiararodney.posix_sdc.factory.intercode_alfa.bundle import scenario_of
from tiararodney.posix_sdc.factory.intercode_alfa.outcome import _STATE, BASH, any_order, play
from tiararodney.posix_sdc.factory.intercode_alfa.package import read_package
from tiararodney.posix_sdc.factory.intercode_alfa.standup import stand_up, world_of
from tiararodney.posix_sdc.sessions.judgement import PRINTED
from tiararodney.posix_sdc.sessions.loop import run_session
from tiararodney.posix_sdc.sessions.operators.scripted import ScriptedOperator
from tiararodney.posix_sdc.worlds.protocol import Limits, _unusable, open_world
from tiararodney.posix_sdc.worlds.shell import quoted

# Tasks of the first, second, third and fifth file system: output, new files, changed files, removed files.
TASKS = (4, 5, 17, 42, 61, 79, 114, 152, 173, 190, 219, 284)
OTHERS = ("true", "cat setup_nl2b_fs_1.sh")
LIMITS = Limits(command_seconds=20, output_bytes=4 * 1024**2)


class Ran(NamedTuple):
    exit_code: int
    output: bytes


class Container:
    """A world as the grader asks a container: by lines of bash, among them git's and md5sum's."""

    def __init__(self, world):
        self.world = world
        self.before = self._state()

    def _state(self):
        files = {}
        for line in self.world.run(_STATE).output.removesuffix("\n").split("\n"):
            found = re.fullmatch(r"(\w) (\d+) ([^\t]*)\t(.*)", line)
            path, told = (found[3], (found[1], found[4])) if found else line.rsplit(" ", 3)[:2]
            files.setdefault(path, []).append(told)
        # git knows files and links, their contents, and no folders.
        return {path: told for path, told in files.items() if told[0][0] != "d"}

    def exec_run(self, line):
        script = line.removeprefix(f'{BASH} -c "').removesuffix('"')
        if script.startswith("git reset"):
            return Ran(0, b"")
        if script.startswith("git status"):
            return Ran(0, self._status().encode())
        script = re.sub(r"^md5deep -r (.*)", r"find \1 -type f | sort | xargs md5sum", script)
        result = self.world.run(f"{BASH} -c {quoted(script)}")
        return Ran(result.status or 0, result.output.encode())

    def _status(self):
        after = self._state()
        lines = [f"?? {path[1:]}" for path in after if path not in self.before]
        lines += [f"D {path[1:]}" for path in self.before if path not in after]
        lines += [f"M {path[1:]}" for path in after if path in self.before and after[path] != self.before[path]]
        return "".join(f"{line}\n" for line in sorted(lines))


@pytest.fixture
def grader(monkeypatch):
    """Yield the package's environment class; modules that it imports and that grading never uses may be missing."""
    if importlib.util.find_spec("icalfa") is None:
        pytest.skip("icalfa is not installed (pip install --no-deps icalfa)")
    imported = ("gymnasium", "pandas", "sklearn", "sklearn.feature_extraction", "sklearn.feature_extraction.text")
    for name in [n for n in imported if importlib.util.find_spec(n.partition(".")[0]) is None]:
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(Env=object, TfidfVectorizer=None))
    for name in [name for name in sys.modules if name.partition(".")[0] == "icalfa"]:
        monkeypatch.delitem(sys.modules, name)
    yield importlib.import_module("icalfa.envs.bash.bash_env").BashEnv
    for name in [name for name in sys.modules if name.partition(".")[0] == "icalfa"]:
        del sys.modules[name]  # `find_spec` of other tests would find it there before their own


def reward(grader, task, fixtures, variables, command):
    """Return what the grader gives a command, by its exact and its file-system parts: the mode names no model."""
    with ExitStack() as stack:
        mine, golds = (
            Container(stack.enter_context(open_world(world_of(fixtures, variables), "bwrap", LIMITS))) for _ in range(2)
        )
        env = object.__new__(grader)
        env.container, env.container_eval, env.gold, env.info = mine, golds, task.gold, {}
        env.image_name, env.logger = "intercode-bash-1", logging.getLogger("grader")
        env.observation = mine.exec_run(f'{BASH} -c "{command}"').output.decode()
        return env.get_reward(task.query, [(command, env.observation)], "exact", None)[0]


@pytest.mark.slow
@pytest.mark.bwrap
def test_verdicts_are_those_of_the_packages_grader(grader):
    """Where they differ ours sees more of the files (empty folders, modes, contents of files that were there before),
    or the command's lines come in another order.
    """
    if (reason := _unusable("bwrap")) is not None:
        pytest.skip(reason)
    package, agreed, right = read_package(), 0, 0
    fixtures = {n: stand_up(system, "bwrap") for n, system in package.file_systems.items()}
    for task in (package.tasks[i] for i in TASKS):
        files, variables = fixtures[task.file_system], package.file_systems[task.file_system].variables
        outcome = play(world_of(files, variables), task.gold, "bwrap")
        scenario = scenario_of(package, task, files, outcome, "plain", "holdout")
        for command in dict.fromkeys((task.gold, task.second, *OTHERS)):
            ours = run_session(scenario, ScriptedOperator([command]), "bwrap")
            theirs = reward(grader, task, files, variables, command) == 1
            agreed += ours.verified == theirs
            right += theirs
            if ours.verified and not theirs:
                assert any_order(task.gold), (task.index, command)
            if theirs and not ours.verified:
                failed = [name for name, passed in ours.meta["checks"].items() if not passed]
                assert PRINTED not in failed, (task.index, command)
    print(f"{agreed} of {len(TASKS) * (2 + len(OTHERS))} verdicts agree, {right} of them right")
    assert right >= len(TASKS)
