"""Every kind of provider answers as its documentation says, and refuses what it does not say."""

import random

import pytest

from tiararodney.posix_sdc.factory.providers.design import make_provider
from tiararodney.posix_sdc.factory.providers.programs import Entry
from tiararodney.posix_sdc.factory.taxonomy import DEPTHS, LISTINGS, PROVIDERS
from tiararodney.posix_sdc.factory.vocabulary import Draw
from tiararodney.posix_sdc.records.axes import how_to_read
from tiararodney.posix_sdc.records.schema import DOCUMENTATION_KINDS
from tiararodney.posix_sdc.worlds.protocol import NoRuntime, open_world, resolve_runtime

MINE, DONE, OTHER = Entry("Water the fern."), Entry("Sweep the hall.", state="done"), Entry("Feed the cat.", "mara")


def provider(kind, seed=0, documentation="help", depth="short", entries=(DONE, MINE, OTHER)):
    return make_provider(Draw(random.Random(f"{kind.name}/{seed}")), kind, documentation, depth, list(entries))


def test_every_way_of_listing_has_its_kind():
    assert {kind.listing for kind in PROVIDERS} == set(LISTINGS)


@pytest.mark.parametrize("kind", PROVIDERS, ids=lambda k: k.name)
def test_the_documentation_tells_every_word_that_the_calls_take(kind):
    for seed in range(6):
        made, directives = provider(kind, seed, DOCUMENTATION_KINDS[seed % 3], DEPTHS[seed % 4])
        page = next(f.content for f in made.files if f.path.endswith(("/doc", ".txt")))
        assert all(tell in page for tell in made.extra["tells"])
        own = {w for call in made.verbs.values() for w in call.split()} - {"echo", "|", "cat", "{id}", "{path}", "2"}
        lane = {made.verbs["list"].split()[-1]} if kind.listing == "queues" else set()
        assert all(word in page for word in own - lane), own
        assert [d.text for d in directives] == [MINE.text]


@pytest.mark.parametrize("kind", PROVIDERS, ids=lambda k: k.name)
def test_no_two_providers_of_a_kind_are_called_alike(kind):
    calls = [tuple(provider(kind, seed)[0].verbs.values()) for seed in range(40)]
    assert len(set(calls)) == 40


@pytest.mark.bwrap
@pytest.mark.parametrize("kind", PROVIDERS, ids=lambda k: k.name)
def test_a_provider_shows_its_entries_to_who_has_read(kind, scenario):
    try:
        resolve_runtime("bwrap")
    except NoRuntime as reason:
        pytest.skip(str(reason))
    made, (directive,) = provider(kind, 3, "help", "pages")
    data = [f.__dict__ | {"extra": {}} for f in made.files]
    bundle = scenario(
        provider={"name": made.name, "files": [{k: v for k, v in f.items() if k != "extra"} for f in data]}
    )
    with open_world(bundle, "bwrap") as world:

        def run(call):
            return world.run(
                call.replace("{id}", directive.id).replace("{path}", f"/var/spool/{made.name}/{directive.id}")
            )

        assert run(how_to_read(made)).status == 0
        assert run(f"{made.name} nonsense").status == 2
        verbs = dict(made.verbs)
        if "begin" in verbs:
            assert run(verbs["list"]).status == 1
            assert run(verbs["begin"]).status == 0
        if "claim" in verbs:
            assert run(verbs["show"]).status == 1
            assert run(verbs["claim"]).output == f"{directive.id} taken\n"
        if "queues" in verbs:
            assert "of agent" in run(verbs["queues"]).output
        listed = (
            run(verbs["list"]).output + (run(verbs["more"]).output if "more" in verbs else "")
            if "list" in verbs
            else ""
        )
        shown = run(verbs["show"])
        assert (shown.status, MINE.text in shown.output) == (0, True)
        if listed:
            assert directive.id in listed
            assert DONE.text not in shown.output
        if "{id}" in verbs["show"] and kind.listing != "stdin":
            assert world.run(verbs["show"].replace("{id}", "nobody")).status == 1


@pytest.mark.bwrap
@pytest.mark.parametrize("kind", PROVIDERS, ids=lambda k: k.name)
def test_nothing_can_be_read_that_was_not_handed_out(kind, scenario):
    """Every file that the session's user can read, before the provider was asked for anything."""
    try:
        resolve_runtime("bwrap")
    except NoRuntime as reason:
        pytest.skip(str(reason))
    made, _ = provider(kind, 5)
    files = [{k: v for k, v in f.__dict__.items() if k != "extra"} for f in made.files]
    with open_world(scenario(provider={"name": made.name, "files": files}), "bwrap") as world:
        world.run(f"{how_to_read(made)}; cat /usr/local/share/*/all")
        places = "/etc /home /opt /root /run /srv /tmp /usr/local /var /work"
        found = world.run(f"grep -rlsE '{MINE.text}|{DONE.text}|{OTHER.text}' {places}")
        assert found.output == ""
