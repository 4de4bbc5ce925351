"""Harbor tasks: what Harbor's own models read, and what a trial would come to."""

import io
import subprocess
import tarfile
import tomllib

import pytest

from tiararodney.posix_sdc.cli import main
from tiararodney.posix_sdc.errors import InfrastructureError
from tiararodney.posix_sdc.factory.bundles import dumps, generate
from tiararodney.posix_sdc.sessions.harbor import task_files, write_task
from tiararodney.posix_sdc.sessions.loop import orientation
from tiararodney.posix_sdc.worlds.docker.image import DOCKERFILE

WORLDS = list(generate(24, 0))
PANIC = next(s for s in WORLDS if s.terminal == "panic")


@pytest.fixture
def bundles(tmp_path):
    folder = tmp_path / "bundles"
    folder.mkdir()
    for s in WORLDS[:3]:
        (folder / f"{s.id}.json").write_text(dumps(s))
    return folder


def test_export_writes_a_folder_a_world(bundles, tmp_path, capsys):
    out = tmp_path / "tasks"
    assert main(["export", "--scenarios", str(bundles), "--harbor", str(out)]) == 0
    assert capsys.readouterr().out == f"3 tasks written to {out}, 0 left out\n"
    assert sorted(p.name for p in out.iterdir()) == sorted(s.id for s in WORLDS[:3])
    for folder in out.iterdir():
        assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) == [
            "environment/Dockerfile",
            "environment/world.tar",
            "instruction.md",
            "solution/solve.sh",
            "task.toml",
            "tests/checker",
            "tests/test.sh",
        ]
    assert main(["export", "--scenarios", str(bundles), "--harbor", str(out), "--hub"]) == 2


@pytest.mark.parametrize("scenario", WORLDS, ids=lambda s: s.id)
def test_a_task_holds_what_its_world_does(scenario):
    files = {name: text for name, (text, _) in task_files(scenario).items()}
    config = tomllib.loads(files["task.toml"])
    assert config["metadata"]["terminal"] == scenario.terminal
    assert config["environment"]["workdir"] == scenario.workdir
    assert (config["agent"]["user"], config["verifier"]["user"]) == ("agent", "root")
    assert files["environment/Dockerfile"].startswith(DOCKERFILE)  # the layers that all worlds share
    with tarfile.open(fileobj=io.BytesIO(files["environment/world.tar"])) as tar:
        names = {f"/{m.name.lstrip('/')}" for m in tar.getmembers()}
    assert {f.path for f in scenario.fixtures} <= names
    for name in ("tests/test.sh", "solution/solve.sh"):
        assert subprocess.run(["/bin/sh", "-n"], input=files[name].encode(), check=False).returncode == 0, name
    assert all(command in files["solution/solve.sh"] for command in scenario.reference_solution)


def test_the_instruction_is_the_orientation_and_no_task():
    for scenario in WORLDS:
        told = str(task_files(scenario)["instruction.md"][0])
        assert told.startswith(orientation())
        assert not [d.text for d in scenario.directives if d.text in told]


def test_the_right_ending_and_a_passed_check_earn_the_reward(tmp_path):
    """test.sh itself, its places moved into a folder: the reward for each ending and verdict."""
    text = str(task_files(PANIC)["tests/test.sh"][0])
    for ended, passes, reward in (("panic", True, 1), ("panic", False, 0), ("exit", True, 0), ("nonsense", True, 0)):
        root = tmp_path / f"{ended}-{passes}"
        (root / "session").mkdir(parents=True)
        if ended != "exit":
            said = task_files(PANIC)["solution/solve.sh"][0].splitlines()[-1].partition(" ")[2]
            (root / "session" / "panic").write_text(f"{said if ended == 'panic' else 'no idea'}\n")
        (root / "checker").write_text(f"exit {int(not passes)}\n")
        script = text.replace("/logs/verifier", str(root / "logs")).replace("/var/lib/session", str(root / "session"))
        script = script.replace("/tests/checker", str(root / "checker")).replace(f"cd {PANIC.workdir}", f"cd {root}")
        script = script.replace("^Uid:.1000.", "^Uid: of nobody")
        subprocess.run(["/bin/sh"], input=script.encode(), check=True, capture_output=True)
        assert (root / "logs" / "reward.txt").read_text() == f"{reward}\n", (ended, passes)


def test_harbors_own_models_read_a_task(tmp_path):
    task = pytest.importorskip("harbor.models.task.task", reason="needs harbor, which needs Python 3.12")
    for scenario in WORLDS[:5]:
        write_task(scenario, tmp_path / scenario.id)
        read = task.Task(tmp_path / scenario.id)
        assert read.config.environment.workdir == scenario.workdir
        assert read.instruction.startswith(orientation())


# ---------------------------------------------------------------------------------------------- trials, as Harbor runs


@pytest.fixture(scope="module")
def engine():
    import docker

    from tiararodney.posix_sdc.worlds.docker.engine import IMAGE, connect

    try:
        client = connect()
        client.images.get(IMAGE)
    except (InfrastructureError, docker.errors.DockerException) as reason:
        pytest.skip(str(reason)[:100])
    yield client
    client.close()


def _trial(client, scenario, folder, commands):
    """Build a task's environment, run commands as its agent, then its tests as root; return the reward."""
    from tiararodney.posix_sdc.worlds.docker.engine import IMAGE

    write_task(scenario, folder)
    # No registry here: the layers that all tasks share are the image of our own worlds.
    dockerfile = folder / "environment" / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text().replace(DOCKERFILE, f"FROM {IMAGE}\n"))
    image, _ = client.images.build(path=str(folder / "environment"), rm=True, forcerm=True)
    container = client.containers.run(image.id, detach=True, network_mode="none", init=True)
    try:
        pack = io.BytesIO()
        with tarfile.open(fileobj=pack, mode="w") as tar:
            tar.add(folder / "tests", "tests")
            tar.add(folder / "solution", "solution")
        container.put_archive("/", pack.getvalue())
        for command in commands:
            container.exec_run(["sh", "-c", command], user="agent", workdir=scenario.workdir)
        container.exec_run(["/tests/test.sh"], user="root")
        return container.exec_run(["cat", "/logs/verifier/reward.txt"]).output.decode().strip()
    finally:
        container.remove(force=True)
        client.images.remove(image.id, force=True)


@pytest.mark.docker
@pytest.mark.parametrize("scenario", [PANIC, *[s for s in WORLDS if s.terminal == "exit"][:1]], ids=lambda s: s.id)
def test_the_oracle_passes_and_nobody_else_does(engine, scenario, tmp_path):
    assert _trial(engine, scenario, tmp_path / "oracle", ["/solution/solve.sh"]) == "1"
    assert _trial(engine, scenario, tmp_path / "nop", []) == "0"
    assert _trial(engine, scenario, tmp_path / "panic", ["panic"]) == "0"
