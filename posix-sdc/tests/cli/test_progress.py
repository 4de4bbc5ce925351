"""A run says how far it is, how fast, and how long it will take."""

from tiararodney.posix_sdc.cli.progress import Progress


def test_a_line_tells_rate_time_left_and_outcomes():
    progress = Progress("rollout", 100, _started=0.0)
    progress.done = 20
    progress.outcomes.update({"success": 18, "unverified": 2})
    assert progress.line(10.0) == "rollout 20/100, 2.0 a second, 40 s left, 18 success, 2 unverified"
    assert progress.line(400.0) == "rollout 20/100, 3.0 a minute, 26 min 40 s left, 18 success, 2 unverified"
    assert progress.line(4000.0) == "rollout 20/100, 0.3 a minute, 4 h 26 min left, 18 success, 2 unverified"
    progress.done = 100
    assert progress.line(50.0) == "rollout 100/100, 2.0 a second, 18 success, 2 unverified"


def test_the_end_is_told_and_short_runs_tell_no_more(capsys):
    progress = Progress("gate", 3)
    for _ in range(3):
        progress.step("passed")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gate 3/3, ")
    assert line.endswith(" a second, 3 passed")


def test_long_runs_tell_every_tenth(capsys):
    progress = Progress("gate", 100, _told=-100.0)
    for _ in range(99):
        progress.step()
        progress._told -= 2
    said = [line.split(",")[0] for line in capsys.readouterr().err.splitlines()]
    assert [f"gate {n}/100" for n in (10, 20, 90)] == [
        line for line in said if line in ("gate 10/100", "gate 20/100", "gate 90/100")
    ]
