"""Every archetype's checker tells the solution from the untouched world and from near misses, in a plain folder."""

import contextlib
import re
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_folder import PLAIN, SEEDS, author, failed, passes

from tiararodney.posix_sdc.factory.archetypes import AUTHORS, FOLLOWS
from tiararodney.posix_sdc.factory.checks import (
    Source,
    Unsuitable,
    holds,
    number_in,
    text_file,
    untouched,
    unwritten,
)
from tiararodney.posix_sdc.factory.taxonomy import BY_NAME


@pytest.mark.parametrize("name", PLAIN)
def test_the_checker_passes_on_the_solution_and_on_nothing_less(name, tmp_path):
    work = author(name, 0)
    assert passes(work, work.solution, tmp_path / "solved")
    assert not passes(work, (), tmp_path / "untouched")
    for i, commands in enumerate(work.near_misses):
        assert not passes(work, commands, tmp_path / f"near{i}"), commands


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(PLAIN), seed=st.integers(0, 10**9), pick=st.integers(0, 99))
def test_any_seed_gives_a_checker_that_holds(name, seed, pick):
    work = author(name, seed)
    with tempfile.TemporaryDirectory() as folder:
        assert passes(work, work.solution, Path(folder) / "solved")
        assert not passes(work, (), Path(folder) / "untouched")
        near = work.near_misses[pick % len(work.near_misses)]
        assert not passes(work, near, Path(folder) / "near"), near


@pytest.mark.parametrize("name", PLAIN)
def test_the_checker_passes_whichever_way_a_person_goes_and_verifies(name, tmp_path):
    work = author(name, 11)
    for i, way in enumerate(work.ways):
        assert len(way) == len(work.solution)
        assert way != work.solution
        assert passes(work, way, tmp_path / f"way{i}"), way
    assert passes(work, (*work.solution, *work.verify), tmp_path / "verified"), work.verify


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(FOLLOWS)), first=st.sampled_from(PLAIN), seed=st.integers(0, 10**9))
def test_what_goes_on_with_a_former_result_has_a_checker_that_holds(name, first, seed):
    source = author(first, seed).result or Source("plum.txt", ("fig 12 oak", "sage 7 elm", "fig 44 ash", "teak 3 fir"))
    try:
        work = author(name, seed, source=source)
    except Unsuitable:
        return
    if source.path in work.outputs:  # two draws know nothing of each other's names
        return
    assert source.path in work.solution[0]
    assert source.path not in {f.path for f in work.fixtures}
    given = [text_file(source.path, source.lines)]
    with tempfile.TemporaryDirectory() as folder:
        assert passes(work, work.solution, Path(folder) / "solved", given)
        assert not passes(work, (), Path(folder) / "untouched", given)
        for i, near in enumerate(work.near_misses):
            assert not passes(work, near, Path(folder) / f"near{i}", given), near


@pytest.mark.parametrize("name", sorted(FOLLOWS))
def test_a_filter_goes_on_with_lines_like_its_own(name):
    for seed in range(8):
        own = next(f for f in author(name, seed).fixtures if not f.path.startswith("/"))
        lines = tuple(own.content.splitlines())
        with contextlib.suppress(Unsuitable):
            assert "former.txt" in author(name, seed, source=Source("former.txt", lines)).solution[0]
            return
    pytest.fail("it takes none of eight files of its own making")


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("seed", SEEDS)
def test_breaking_any_one_constraint_fails_its_check(name, seed, tmp_path):
    """Each constraint is broken alone, over a world in which all of them hold."""
    work = author(name, seed)
    for i, check in enumerate(work.checks):
        assert check.broken_by, check.says
        assert check.says in failed(work, (*work.solution, *check.broken_by), tmp_path / str(i)), check


BANS = re.compile(
    r"no other|and nothing else|never|\b(not|without)\b.*(unpack|change)|[Ll]eave|only|stay|unchanged|do not"
)


@pytest.mark.parametrize("name", AUTHORS)
def test_a_directive_that_forbids_something_has_a_check_of_what_stays(name):
    """A word that forbids or protects stands for a check that something is absent, or as it was."""
    for seed in range(12):
        work = author(name, seed)
        if BANS.search(work.text):
            kept = [
                c for c in work.checks if re.search("as it was|there is no|has the mode|no others|in any order", c.says)
            ]
            assert kept or len(work.checks) > 1 or "right content" in work.checks[0].says, work.text


@pytest.mark.parametrize("name", AUTHORS)
def test_an_archetype_names_three_near_misses_and_what_its_blocks_need(name):
    work = author(name, 5)
    blocks = BY_NAME[name].blocks
    assert len(work.near_misses) >= 3
    assert len(work.solution) == BY_NAME[name].steps
    assert work.inputs or not {"missing", "denied"} & set(blocks)
    assert work.outputs or "contradiction" not in blocks
    if "failing" in blocks:
        failing = author(name, 0, failing=True)
        assert failing.reason
        assert set(failing.may_change) <= {f.path for f in failing.fixtures}


@pytest.mark.parametrize("name", AUTHORS)
def test_a_solution_follows_from_the_directive_and_the_files(name):
    for seed in range(8):
        work = author(name, seed)
        known = work.text + " ".join(f.path for f in work.fixtures)
        for path in (*work.inputs, *work.outputs):
            stem = path.rpartition("/")[2]
            assert stem.removesuffix(".gz") in known or name in ("archive_unpack", "archive_extract")


@pytest.mark.parametrize("name", AUTHORS)
def test_every_wording_names_what_the_work_begins_with(name):
    """A file, a folder above it or, of a program that runs, what its files are called by."""
    for seed in range(40):
        work = author(name, seed)
        for path in work.inputs:
            assert any(part.partition(".")[0] in work.text for part in path.split("/")), (path, work.text)


@pytest.mark.parametrize("name", AUTHORS)
def test_wording_varies(name):
    shapes = {" ".join(w for w in author(name, seed).text.split() if w.islower() and w.isalpha()) for seed in range(40)}
    assert len(shapes) >= 3


def sh(check, folder):
    return subprocess.run(["/bin/sh", "-c", check.test], cwd=folder, check=False, capture_output=True).returncode == 0


def test_holds_forgives_a_missing_last_newline_and_nothing_else(tmp_path):
    check = holds("it's.txt", ["a 'b' $c", "  d"])
    for text, right in [("a 'b' $c\n  d", True), ("a 'b' $c\n  d\n", True), ("a 'b' $c\n d\n", False), ("", False)]:
        (tmp_path / "it's.txt").write_text(text)
        assert sh(check, tmp_path) is right, text


def test_a_file_that_no_shell_can_hold_is_known_by_its_digest(tmp_path):
    check = untouched(text_file("a.tar", ["x\0y"]))
    assert "\0" not in check.test
    for text, right in [("x\0y\n", True), ("xy\n", False), ("x\0z\n", False)]:
        (tmp_path / "a.tar").write_text(text)
        assert sh(check, tmp_path) is right, text
    (tmp_path / "a.tar").unlink()
    assert not sh(check, tmp_path)


def test_holds_refuses_a_folder_and_nothing_at_all(tmp_path):
    assert not sh(holds("x", []), tmp_path)
    (tmp_path / "x").mkdir()
    assert not sh(holds("x", []), tmp_path)


def test_number_in_takes_blanks_and_no_second_word(tmp_path):
    for text, right in [("  7\n", True), ("7", True), ("7 plum.txt\n", False), ("8\n", False), ("", False)]:
        (tmp_path / "n").write_text(text)
        assert sh(number_in("n", 7), tmp_path) is right, text


def test_unwritten_takes_an_empty_file_that_a_redirection_left(tmp_path):
    assert sh(unwritten("o"), tmp_path)
    (tmp_path / "o").write_text("")
    assert sh(unwritten("o"), tmp_path)
    (tmp_path / "o").write_text("7\n")
    assert not sh(unwritten("o"), tmp_path)


def test_text_file_ends_in_a_newline():
    assert text_file("a", ["x", "y"]).content == "x\ny\n"
