"""Records are written whole, counts and exports say what is there."""

import errno

import pytest

from tiararodney.posix_sdc.errors import InfrastructureError, UsageError
from tiararodney.posix_sdc.factory.bundles import dumps, generate
from tiararodney.posix_sdc.records.schema import load_scenarios, load_trajectories
from tiararodney.posix_sdc.records.show import page, transcript
from tiararodney.posix_sdc.records.store import count_by, file_name, finished, output_folder, write_record
from tiararodney.posix_sdc.support.whole import write_text


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.json"
    write_text(path, "old")
    with pytest.raises(TypeError):
        write_text(path, b"no text")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    def full(_handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "new" / "a.json"
    write_text(path, "old")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InfrastructureError, match=r"a\.json: cannot be written \(No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_a_record_reads_back(tmp_path, session):
    write_record(tmp_path / "a.json", session("a"))
    assert list(load_trajectories(tmp_path)) == [session("a")]
    assert finished(tmp_path) == {"a.json"}


def test_a_file_in_the_way_of_the_output_folder_is_named(tmp_path):
    (tmp_path / "x").write_text("")
    for path in (tmp_path / "x", tmp_path / "x" / "y"):
        with pytest.raises(UsageError, match="found a file there, expected a folder"):
            output_folder(path)


def test_counts_are_largest_first():
    assert list(count_by("abcbcc", lambda c: c).items()) == [("c", 3), ("b", 2), ("a", 1)]


def test_a_transcript_looks_like_the_terminal(session):
    assert transcript(session("a")) == ("## a  text_count  success  kept\n# facts\n$ cat <<E\n> hi\n> E\nhi\n$ exit\n")
    assert "\033[1mexit\033[0m" in transcript(session("a"), colour=True)


def test_a_page_shows_directive_solution_and_checker(tmp_path):
    (scenario,) = generate(1, 0)
    write_text(tmp_path / "s.json", dumps(scenario))
    shown = page(load_scenarios(tmp_path)[0])
    for part in (scenario.directives[0].text, scenario.reference_solution[0], "ok 1 - ", scenario.provider.name):
        assert part in shown


def test_an_id_that_is_no_file_name_cannot_lead_elsewhere():
    assert file_name("train-0-00001-text_count") == "train-0-00001-text_count.json"
    names = {file_name(x) for x in ("../../etc/x", "/etc/x", ".hidden", "a/b", "a_b", "", "x" * 500, "é")}
    assert len(names) == 8
    assert not [n for n in names if "/" in n or n.startswith(".") or len(n) > 230]
