"""The report's page, in a real browser where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tiararodney.sekft.eval.contestants import Contestant
from tiararodney.sekft.eval.exports import page
from tiararodney.sekft.eval.report import build_report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tiararodney.sekft.eval.episodes import Episode

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LONG = "a-very-long-name-without-any-space-" * 6
MEASURE = """<script>addEventListener("load", () => {
  document.querySelectorAll("details").forEach(d => d.open = true);
  document.title = "width " + document.documentElement.scrollWidth + " of " + innerWidth;
});</script></body>"""


def two_models(episode: Callable[..., Episode]) -> str:
    checks = {"the copy exists": False, "nothing else was made": True}
    failed = {"keep": False, "verified": False, "outcome": "unverified", "checks": checks}
    episodes = [
        episode(f"{LONG}{i}", model, archetype=f"kind_{i % 2}", **({} if model == "tuned" else failed))
        for i in range(6)
        for model in ("base", "tuned")
    ]
    report = build_report(
        [Contestant("base", "base", "/b"), Contestant("tuned", "adapter", "/a", contract="match")],
        episodes,
        {
            "runtime": "bwrap",
            "notes": ["A note for the reader."],
            "scenarios": {"n": 6, "ids": [], "archetypes": {"kind_0": 3, "kind_1": 3}},
            "config": {"temperature": 0, "seed": 0, "max_turns": None, "max_new_tokens": 48, "load_4bit": True,
                       "endpoint": []},
            "finished": "2026-01-02T03:04:05+00:00",
            "versions": {},
        },
    )  # fmt: skip
    return page(report, episodes, {f"{LONG}{i}": {"id": i} for i in range(6)})


def test_models_of_one_scenario_stand_side_by_side(episode: Callable[..., Episode]) -> None:
    html = two_models(episode)
    assert html.count('<details class="episode"') == 6
    first = html.split('<details class="episode"')[1]
    assert first.count('<div class="side">') == 2
    assert 'data-results="checker failed|success"' in first
    assert "✗ the copy exists" in first
    assert "✓ nothing else was made" in first
    assert "scenario bundle" in first
    assert "A note for the reader." in html


def test_the_page_asks_for_nothing_outside(episode: Callable[..., Episode]) -> None:
    html = two_models(episode)
    assert not re.findall(r"(?:src|href)=|url\(|@import|https?://", html)
    assert "default-src 'none'" in html


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\x1b[2Jb\r", "a␛[2Jb␍"), ("\u202eabc\u200f", "\\u202eabc\\u200f"), ("tab\tline\n$ ", "tab\tline\n$ ")],
)
def test_controls_of_a_transcript_are_shown_as_symbols(episode: Callable[..., Episode], text: str, shown: str) -> None:
    html = two_models(partial(episode, messages=({"role": "user", "content": text},)))
    assert f'<pre class="term">{shown}</pre>' in html


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize("width", [1280, 500])  # headless chromium has no narrower window
def test_a_browser_shows_the_page_without_errors_or_overflow(
    width: int, episode: Callable[..., Episode], tmp_path: Path
) -> None:
    assert CHROMIUM is not None
    file = tmp_path / "report.html"
    file.write_text(two_models(episode).replace("</body>", MEASURE))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--dump-dom"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900", "--virtual-time-budget=2000"]
    command: list[Any] = [CHROMIUM, *flags, file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    title = re.search(r"<title>width (\d+) of (\d+)</title>", done.stdout)
    assert title, done.stderr[-2000:]
    assert int(title[1]) <= int(title[2]), "the page is wider than its window"
    assert ":CONSOLE" not in done.stderr
