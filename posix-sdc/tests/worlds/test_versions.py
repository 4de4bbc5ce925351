"""A record says what its world was made of."""

import pytest

from tiararodney.posix_sdc.sessions.loop import run_session
from tiararodney.posix_sdc.sessions.operators.scripted import ScriptedOperator
from tiararodney.posix_sdc.worlds import versions
from tiararodney.posix_sdc.worlds.versions import made_of


@pytest.mark.parametrize("dpkg", [True, False])
def test_a_sandbox_names_the_hosts_utilities(dpkg, monkeypatch):
    if not dpkg:
        monkeypatch.setattr(versions, "_packages", dict)
    made_of.cache_clear()
    found = made_of("bwrap")
    assert {"dash", "sed", "grep", "tar"} <= set(found)
    assert all(found.values())
    made_of.cache_clear()


def test_worlds_of_no_known_runtime_are_made_of_nothing():
    assert made_of("memory") == {}


@pytest.mark.bwrap
def test_each_record_says_what_its_world_was_made_of(scenario):
    versions._digests()
    played = run_session(scenario(), ScriptedOperator(["touch done"]), "bwrap")
    assert played.meta["made_of"] == made_of("bwrap") != {}


@pytest.mark.docker
def test_a_container_names_its_images_digest():
    assert made_of("docker")["digest"].startswith("sha256:")
