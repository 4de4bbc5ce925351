from __future__ import annotations

import pytest

from tiararodney.posix_sdc.errors import InfrastructureError, UsageError
from tiararodney.posix_sdc.worlds.docker import engine, image, runtime


def test_a_method_that_is_none_is_refused():
    with pytest.raises(UsageError, match="found method 'magic', expected one of auto, dockerfile, debootstrap"):
        image.build("magic")


def test_without_an_engine_there_is_nothing_to_build_in(monkeypatch):
    def connect():
        raise InfrastructureError("no container engine answers: connection refused")

    monkeypatch.setattr(engine, "connect", connect)
    with pytest.raises(UsageError, match=r"no container engine to build an image in: .*refused"):
        image.build()


def test_auto_makes_a_root_of_its_own_where_no_registry_answers(monkeypatch):
    def unreachable(client, tag):
        raise InfrastructureError("no registry")

    monkeypatch.setattr(engine, "connect", lambda: "client")
    monkeypatch.setattr(image, "_from_dockerfile", unreachable)
    monkeypatch.setattr(image, "_from_debootstrap", lambda client, tag, mirror: f"{client} {tag} {mirror}")
    assert image.build(mirror="M") == f"client {engine.IMAGE} M"
    with pytest.raises(InfrastructureError, match="no registry"):
        image.build("dockerfile")


def test_debootstrap_says_what_it_needs(monkeypatch):
    monkeypatch.setattr(engine, "connect", lambda: "client")
    monkeypatch.setattr(image.shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match="Install debootstrap"):
        image.build("debootstrap")


def test_a_finished_root_has_the_user_and_no_ballast(tmp_path, monkeypatch):
    monkeypatch.setattr(image.shutil, "chown", lambda *args: None)
    for name in ("etc", "usr/share/doc/x", "var/cache/apt/archives", "tmp", "usr/bin"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\n")
    (tmp_path / "etc/resolv.conf").write_text("nameserver 192.0.2.1\n")
    (tmp_path / "tmp/f").write_text("x")
    image._finish(tmp_path)
    assert (tmp_path / "etc/passwd").read_text().endswith("\nagent:x:1000:1000:agent:/home/agent:/bin/sh\n")
    assert (tmp_path / "home/agent").is_dir()
    assert not (tmp_path / "etc/resolv.conf").exists()
    assert not list((tmp_path / "usr/share/doc").iterdir())
    assert not list((tmp_path / "tmp").iterdir())
    assert (tmp_path / "usr/bin").is_dir()


@pytest.mark.docker
def test_a_missing_image_names_the_command_that_builds_it(scenario, monkeypatch):
    reason = engine.unusable()
    if reason is not None:
        pytest.skip(reason)
    monkeypatch.setattr(engine, "IMAGE", "tiararodney/no-such-image:0")
    assert "posix-sdc image" in str(engine.unusable())
    from tiararodney.posix_sdc.worlds.protocol import Limits

    with pytest.raises(InfrastructureError, match="posix-sdc image"):
        runtime.start(scenario(), Limits())
