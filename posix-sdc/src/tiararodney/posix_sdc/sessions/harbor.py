"""Export worlds as Harbor tasks: one folder each, with the verdict of a session as the reward.

    NAME/task.toml         limits, users and what the world is made of
    NAME/instruction.md    the orientation and what login prints; no task
    NAME/environment/      Dockerfile (the layers of the world image, then the world) and world.tar
    NAME/tests/            test.sh writes 1 or 0 to /logs/verifier/reward.txt
    NAME/solution/         solve.sh, the reference solution and the right ending

A container has no session that ends: `panic REASON` is a program there that writes its reason down.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc.errors import SchemaError, UsageError
from tiararodney.posix_sdc.records.schema import load_scenarios
from tiararodney.posix_sdc.records.store import output_folder
from tiararodney.posix_sdc.sessions.judgement import one_command
from tiararodney.posix_sdc.sessions.loop import PROMPT, opening, turn_limit
from tiararodney.posix_sdc.worlds import filesystem, gateway
from tiararodney.posix_sdc.worlds.docker.image import DOCKERFILE
from tiararodney.posix_sdc.worlds.filesystem import USER, Entry

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tiararodney.posix_sdc.records.schema import Scenario

ENDING = "/var/lib/session"  # where `panic` leaves its reason
_ENTER = "/usr/local/lib/session/enter"
_SECONDS = 30  # for one command of the agent, thinking included

_PANIC = f"""\
#!/bin/sh
# Gives up, for a reason.
printf '%s\\n' "$*" > {ENDING}/panic
"""

_START = f"""\
#!/bin/sh
# Starts what runs beside the session, then the container's own command.
[ -f {gateway.SERVER} ] && setsid sh {gateway.SERVER} </dev/null >/dev/null 2>&1 &
cd WORKDIR || exit
for program in STARTED; do
    setpriv --reuid={USER} --regid={USER} --clear-groups "$program" </dev/null >/dev/null 2>&1
done
exec "$@"
"""

_TEST = f"""\
#!/bin/sh
# The reward is 1 for the right ending with every check passed, else 0.
mkdir -p /logs/verifier
echo 0 > /logs/verifier/reward.txt
for status in /proc/[0-9]*/status; do
    pid=${{status#/proc/}}
    grep -q '^Uid:.1000.' "$status" 2>/dev/null && kill -9 "${{pid%/status}}"
done
ending=exit
[ -e {ENDING}/panic ] && ending=panic
echo "the session ended with $ending, expected TERMINAL"
[ "$ending" = TERMINAL ] || exit 0
REASONcd WORKDIR || exit 0
env -i HOME=/root LANG=C.UTF-8 PATH={filesystem.PATH} INTERPRETER /tests/checker </dev/null || exit 0
echo 1 > /logs/verifier/reward.txt
"""


def export_tasks(scenarios: Path, out: Path, *, everything: bool = False) -> dict[str, int]:
    """Write every bundle that is not quarantined as a Harbor task.

    Args:
        scenarios: a folder or file of bundles.
        out: folder, one task a folder; tasks of the same names are written anew.
        everything: quarantined bundles too.

    Returns:
        Counts: ``tasks`` written and ``left_out``.

    Raises:
        SchemaError: a bundle cannot be stood up.
        UsageError: there is nothing to write.
    """
    found = load_scenarios(scenarios)
    fit = [s for s in found if everything or not s.quarantine]
    if not fit:
        raise UsageError(f"{scenarios}: found no scenario that is not quarantined among {len(found)}.")
    output_folder(out)
    for scenario in fit:
        write_task(scenario, out / name_of_task(scenario))
    return {"tasks": len(fit), "left_out": len(found) - len(fit)}


def name_of_task(scenario: Scenario) -> str:
    """Return a task's name: the scenario's id in the letters that Harbor takes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", scenario.id).strip(".-") or "world"


def write_task(scenario: Scenario, folder: Path) -> None:
    """Write one task.

    Raises:
        SchemaError: the bundle cannot be stood up.
    """
    for name, (text, mode) in task_files(scenario).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"))
        path.chmod(mode)


def task_files(scenario: Scenario) -> dict[str, tuple[str | bytes, int]]:
    """Return a task's files by their path, each with its mode.

    Raises:
        SchemaError: the bundle cannot be stood up, or its verdict needs what a session printed.
    """
    if one_command(scenario):
        here = "a world of a single command that is judged by what it prints"
        raise SchemaError(f"scenario {scenario.id!r}", "checker.command", here, "one that is judged by its files")
    _, login = opening(scenario)
    instruction = opening(scenario)[0].content + "\n\n" + login.content.removesuffix(PROMPT)
    script = {"WORKDIR": shlex.quote(scenario.workdir), "TERMINAL": scenario.terminal}
    test = _filled(_TEST, script | {"INTERPRETER": scenario.checker.interpreter, "REASON": _reason_check(scenario)})
    return {
        "task.toml": (_config(scenario), 0o644),
        "instruction.md": (instruction.rstrip("\n") + "\n", 0o644),
        "environment/Dockerfile": (_dockerfile(scenario), 0o644),
        "environment/world.tar": (_world(scenario), 0o644),
        "tests/test.sh": (test, 0o755),
        "tests/checker": (scenario.checker.script, 0o644),
        "solution/solve.sh": (_solution(scenario), 0o755),
    }


def _filled(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def _reason_check(scenario: Scenario) -> str:
    """Return the test's lines that judge the reason of a `panic`: of each group of words it names one."""
    groups = scenario.checker.extra.get("reason", []) if scenario.terminal == "panic" else []
    lines = [
        f"grep -qiF {' '.join(f'-e {shlex.quote(word)}' for word in words)} {ENDING}/panic || exit 0\n"
        for words in groups
        if words
    ]
    return "".join(lines)


def _solution(scenario: Scenario) -> str:
    commands = [f"cd {shlex.quote(scenario.workdir)} || exit", *scenario.reference_solution]
    if scenario.terminal == "panic":
        works = [w for d in scenario.directives for w in d.extra.get("works", ())]
        reason = next((str(w["reason"]) for w in works if w.get("block")), "the directive cannot be done")
        commands.append(f"panic {shlex.quote(reason)}")
    return "#!/bin/sh\n" + "\n".join(commands) + "\n"


def _world(scenario: Scenario) -> bytes:
    started = " ".join(map(shlex.quote, filesystem.started(scenario)))
    enter = _filled(_START, {"WORKDIR": shlex.quote(scenario.workdir), "STARTED": started})
    entries = [
        *filesystem.entries(scenario, base=False),
        Entry("/usr/local/lib"),
        Entry("/usr/local/lib/session"),
        Entry(_ENTER, "file", 0o755, data=enter.encode()),
        Entry("/usr/local/bin/panic", "file", 0o755, data=_PANIC.encode()),
        Entry(ENDING, mode=0o1777),
    ]
    return filesystem.archive([e for e in entries if e.path != "/"])


def _dockerfile(scenario: Scenario) -> str:
    variables = filesystem.environment(scenario)
    lines = [f"ENV {name}={_quoted(value)}" for name, value in variables.items() if name not in ("HOME", "USER")]
    return "".join(
        [
            DOCKERFILE,
            "# Up to here the same for all worlds: built once.\n",
            "ADD world.tar /\n",
            *(f"{line}\n" for line in lines),
            f"WORKDIR {scenario.workdir}\n",
            f'ENTRYPOINT ["{_ENTER}"]\n',
            'CMD ["sleep", "infinity"]\n',
        ]
    )


def _quoted(value: str) -> str:
    if "\n" in value:
        raise SchemaError("environment", "", repr(value)[:60], "a variable of one line, which a Dockerfile can hold")
    return '"' + re.sub(r'(["$\\])', r"\\\1", value) + '"'


def _config(scenario: Scenario) -> str:
    """Return `task.toml`. JSON's strings, numbers and lists are TOML's too."""
    tables: dict[str, dict[str, Any]] = {
        "task": {
            "name": f"posix-sdc/{name_of_task(scenario)}",
            "description": "A POSIX shell session without a task in the prompt.",
            "keywords": ["shell", "posix", scenario.archetype],
        },
        "metadata": {
            "scenario": scenario.id,
            "archetype": scenario.archetype,
            "split": scenario.split,
            "terminal": scenario.terminal,
            "version": scenario.version,
            "generator": scenario.generator_model,
        },
        "verifier": {"timeout_sec": 120.0, "user": "root"},
        "agent": {"timeout_sec": float(_SECONDS * turn_limit(scenario)), "user": USER},
        "environment": {
            "build_timeout_sec": 600.0,
            "network_mode": "no-network",
            "workdir": scenario.workdir,
            "cpus": 1,
            "memory_mb": 512,
        },
    }
    lines = ['schema_version = "1.4"']
    for table, values in tables.items():
        lines += ["", f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"
