from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tiararodney.posix_sdc.worlds.output import Collector

MARKS = (b"\n<one-mark>\n", b"\n<two-mark>\n")


def fed(limit: int, *pieces: bytes) -> Collector:
    out = Collector(limit, MARKS)
    for piece in pieces:
        out.feed(piece)
    return out


def test_ends_at_the_mark_and_drops_what_follows():
    out = fed(100, b"hello\n", b"\n<one-mark>\nlater")
    assert out.complete
    assert out.text() == "hello\n"


def test_takes_the_earlier_of_two_marks():
    assert fed(100, b"a\n<two-mark>\nb\n<one-mark>\n").text() == "a"


@given(st.binary(max_size=300), st.lists(st.integers(1, 40), max_size=30))
def test_the_mark_is_found_however_the_stream_is_cut(data, cuts):
    stream = data + MARKS[1] + b"rest"
    out, at = Collector(10_000, MARKS), 0
    for cut in [*cuts, len(stream)]:
        out.feed(stream[at : at + cut])
        at += cut
    first = min(i for i in (stream.find(m) for m in MARKS) if i >= 0)
    assert out.complete
    assert out.text() == data[:first].decode("utf-8", "replace").replace("\0", "")


@given(st.integers(2, 60), st.integers(0, 500), st.integers(1, 50))
def test_keeps_both_ends_and_counts_what_it_left_out(limit, size, step):
    data = bytes(65 + i % 26 for i in range(size))
    out = Collector(limit, MARKS)
    for at in range(0, size, step):
        out.feed(data[at : at + step])
    out.feed(MARKS[0])
    half = limit // 2
    if size <= 2 * half:
        assert out.text() == data.decode()
    else:
        head, tail = data[:half].decode(), data[-half:].decode()
        assert out.text() == f"{head}\n[... {size - 2 * half} bytes left out ...]\n{tail}"


def test_memory_stays_flat_however_much_comes():
    out = Collector(1000, MARKS)
    for _ in range(10_000):
        out.feed(b"x" * 1000)
    assert len(out._head) + len(out._tail) <= 1000 + len(MARKS[0])


def test_invalid_utf8_is_replaced_and_nul_dropped():
    assert fed(100, b"a\xff\0b", MARKS[0]).text() == "a\N{REPLACEMENT CHARACTER}b"


def test_a_cut_through_a_character_leaves_no_half_of_it():
    out = fed(10, "ééééééééé".encode(), MARKS[0])
    assert "\N{REPLACEMENT CHARACTER}" not in out.text()
    assert out.text() == "éé\n[... 8 bytes left out ...]\néé"
