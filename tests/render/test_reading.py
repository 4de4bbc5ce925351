"""What is read off a template's syntax tree."""

from __future__ import annotations

import pytest
from jinja2 import Environment, nodes

from tiararodney.sekft.render.reading import Question, shortened


@pytest.mark.parametrize(
    ("edge", "holds"),
    [
        (1, lambda count, number: count > number),
        (0, lambda count, number: count >= number),
        (0, lambda count, number: count < number),
        (1, lambda count, number: count <= number),
        (None, lambda count, number: count == number),
    ],
)
def test_two_numbers_differ_where_one_count_finds_them_otherwise(edge, holds):
    question = Question(("ns", "last"), edge, 0)
    for counts in ([], [0], [0, 1, 2], [1, 3], [2, 2, 5]):
        for one in range(-3, 8):
            for other in range(-3, 8):
                finds = [[holds(count, number) for count in counts] for number in (one, other)]
                assert question.differs(counts, one, other) is (finds[0] != finds[1])


def loops_cut(source):
    environment = Environment(extensions=["jinja2.ext.loopcontrols"], autoescape=False)
    return [
        isinstance(n.body[-1], nodes.If) and bool(list(n.body[-1].find_all(nodes.Break)))
        for n in shortened(environment.parse(source).body)
        if isinstance(n, nodes.For)
    ]


FLAGGED = "{% if ns.open and m %}{% set ns.open = false %}{% endif %}"


@pytest.mark.parametrize(
    ("body", "cut"),
    [
        (FLAGGED, True),
        ("{% set n = (messages | length - 1) - loop.index0 %}" + FLAGGED, True),
        (FLAGGED + FLAGGED, True),
        ("x" + FLAGGED, False),
        ("{% set n = m.content + 'x' %}" + FLAGGED, False),
        ("{% set n = m | length %}" + FLAGGED, False),
        ("{% set ns.n = 1 %}" + FLAGGED, False),
        ("{% if ns.open %}x{% else %}y{% endif %}", False),
        ("{% if ns.open %}x{% elif m %}y{% endif %}", False),
        ("{% if ns.open or m %}x{% endif %}", False),
        ("{% if m and ns.open %}x{% endif %}", False),
        ("{% if m.open %}x{% endif %}", False),
        (FLAGGED + "{% if ns.other %}{% set ns.open = true %}{% endif %}", False),
        ("{% set n = 1 %}", False),
    ],
)
def test_a_loop_is_cut_short_only_where_nothing_is_left_to_do(body, cut):
    assert loops_cut("{% for m in messages %}" + body + "{% endfor %}") == [cut]
