"""The resident's prompt: Tab completes commands, flags, adapters and paths; history stays between sessions."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from tiararodney.sekft.eval.config import EvalConfig
from tiararodney.sekft.resident.commands import COMMANDS
from tiararodney.sekft.settings import settings_of
from tiararodney.sekft.sft.config import InspectConfig, TrainConfig

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prompt_toolkit.completion import CompleteEvent

    from tiararodney.sekft.resident.state import Resident

PROMPT = "sekft> "
RECORDS = {"train": (TrainConfig, InspectConfig), "eval": (EvalConfig,)}
TAKE_ADAPTERS = ("load", "unload", "--adapter", "--init-adapter")


def prompt_lines(resident: Resident) -> Iterator[str]:
    """Yield command lines from the terminal until Ctrl-D; the resident's adapters are completed by name."""
    session: PromptSession[str] = PromptSession(history=_history(), completer=LineCompleter(resident))
    while True:
        try:
            yield session.prompt(PROMPT)
        except KeyboardInterrupt:  # Ctrl-C at the prompt clears the line
            continue
        except EOFError:
            print(file=sys.stderr)
            return


def _history() -> History:
    """The lines of earlier sessions, kept where XDG keeps a program's state."""
    state = os.environ.get("XDG_STATE_HOME")
    folder = (Path(state) if state else Path("~/.local/state").expanduser()) / "sekft"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "history").touch(mode=0o600)
    except (OSError, RuntimeError):
        return InMemoryHistory()
    return FileHistory(str(folder / "history"))


class LineCompleter(Completer):
    """Completes the word before the cursor; the resident knows the adapters."""

    def __init__(self, resident: Resident) -> None:
        self._resident, self._paths = resident, PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Return what the word can become, as every `Completer` does."""
        *before, word = document.text_before_cursor.split(" ")
        before = [item for item in before if item]
        paths: Iterable[Completion] = ()
        if not before:
            known: Iterable[str] = COMMANDS
        elif word.startswith("-"):
            settings = [s for record in RECORDS.get(before[0], ()) for s in settings_of(record)]
            known = ["--help", *(s.flag for s in settings if s.name not in self._resident.base.settings())]
        else:
            known = self._resident.adapters if before[-1] in TAKE_ADAPTERS else ()
            paths = self._paths.get_completions(Document(word, len(word)), complete_event)
        return (*(Completion(k + " ", -len(word), display=k) for k in known if k.startswith(word)), *paths)
