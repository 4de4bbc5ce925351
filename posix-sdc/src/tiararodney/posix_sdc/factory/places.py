"""The folder of the work: where a session starts, or elsewhere, named or to be found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc.factory.leads import Lead
from tiararodney.posix_sdc.records.schema import Fixture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.posix_sdc.factory.compose import Piece
    from tiararodney.posix_sdc.factory.vocabulary import Draw

_TOPS = ("/srv", "/opt", "/home/agent", "/var/lib")
_FOUND = 0.4  # of the places elsewhere, those that a directive does not name

_NAMED = (
    "(In|Under|Inside|Within) {0}: {1}",
    "{0}: {1}",
    "(Go|Change|Move) to {0}. {1}",
    "(Folder|Directory|Place|Location|Where): {0}\n{1}",
    "{1} ((All of this|All this|It all) is in {0}.|(Everything|The lot) lies in {0}.|Place: {0}|[{0}])",
    "(For|Concerning|Regarding|About) (the folder |){0}: {1}",
)
_HIDDEN = (
    "(Somewhere|In a folder) (below|under) {0}: {1}",
    "{1} (\\(I forgot|\\(No idea|\\(Do not ask me) (where|in which folder); (it is|look) (below|under) {0}\\)",
    "{1} (The files are|It all lies|All of it is|That is|You find it|Everything lies) somewhere (below|under|in) {0}.",
    "(Look|Search) (below|under) {0} for (the files|what this is about): {1}",
)


@dataclass(frozen=True)
class Place:
    """Where the work lies.

    Args:
        path: absolute.
        away: it is not where the session begins, so one has to go there.
        top: what directives name instead of it, empty where they name it.
    """

    path: str
    away: bool = False
    top: str = ""

    def text(self, draw: Draw, text: str) -> str:
        """Return a directive's text with the place added."""
        if not self.away:
            return text
        template = draw.say(_HIDDEN if self.top else _NAMED)
        joined = text if text[-1] in ".?!" or not template.startswith("{1}") else f"{text}."
        return template.replace("{0}", self.top or self.path).replace("{1}", joined)

    def guide(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        """Return what the reference operator needs to get there, empty if the session starts there."""
        if not self.away:
            return {}
        return {"place": {"path": self.path, "leads": [lead.to_json() for lead in self._leads(pieces)]}}

    def _leads(self, pieces: Sequence[Piece]) -> tuple[Lead, ...]:
        if not self.top:
            return ()
        file = _wanted(pieces)
        return (Lead((f"find {self.top} -name {file}", f"find {self.top} -type f -name {file}"), (self.path,)),)

    def folder(self) -> tuple[Fixture, ...]:
        """Return the place as a folder that the session's user may write to, if it is not the working directory."""
        return (Fixture(self.path, kind="dir"),) if self.away else ()

    def into(self) -> tuple[str, ...]:
        """Return the commands that go there."""
        return (f"cd {self.path}",) if self.away else ()

    def placed(self, fixture: Fixture) -> Fixture:
        """Return a fixture of the work where it lies."""
        return fixture if fixture.path.startswith("/") else replace(fixture, path=f"{self.path}/{fixture.path}")


def _wanted(pieces: Sequence[Piece]) -> str:
    """Return the name of an initial file that a directive names, empty if there is none."""
    for piece in pieces:
        kept = {f.path for f in piece.fixtures if f.kind == "file"}
        found = [path for path in piece.work.inputs if path in kept and "/" not in path and path in piece.text]
        if found and piece.block != "missing":
            return found[0]
    return ""


def choose(draw: Draw, workdir: str, directives: Sequence[Sequence[Piece]], share: float) -> Place:
    """Choose where the work lies.

    Args:
        draw: source of choices.
        workdir: where the session begins.
        directives: each as its pieces.
        share: how often the work lies elsewhere.
    """
    runs = any(f.start for pieces in directives for p in pieces for f in p.fixtures)  # where the session begins
    if runs or not draw.chance(share):
        return Place(workdir)
    top = draw.pick(_TOPS)
    path = "/".join((top, *draw.nouns(draw.number(1, 3))))
    hidden = all(map(_wanted, directives)) and draw.chance(_FOUND)
    return Place(path, away=True, top=top if hidden else "")
