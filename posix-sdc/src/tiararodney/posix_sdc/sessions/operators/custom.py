"""An operator of the user's own: a function in a file or a module that returns one for a scenario."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from tiararodney.posix_sdc.records.schema import Scenario
    from tiararodney.posix_sdc.sessions.loop import Operator

_EXPECTED = "MODULE:FUNCTION or FILE.py:FUNCTION, a function that takes a scenario and returns an operator"


def custom_operator(spec: str) -> Callable[[Scenario], Operator]:
    """Return the function that makes operators, as ``--operator`` names it.

    Args:
        spec: ``MODULE:FUNCTION`` (the current folder is searched too) or ``FILE.py:FUNCTION``.

    Returns:
        The function; what it returns is checked to have a method ``reply(messages) -> str``.

    Raises:
        UsageError: there is no such module, file or function, or what it returns is no operator.
    """
    place, _, name = spec.rpartition(":")
    if not place or not name.isidentifier():
        raise UsageError(f"--operator: found {spec!r}, expected 'reference', a URL, or {_EXPECTED}.")
    function = getattr(_module(place), name, None)
    if not callable(function):
        raise UsageError(f"--operator {spec}: found no function {name!r} in {place}, expected {_EXPECTED}.")

    def make(scenario: Scenario) -> Operator:
        operator: Operator = function(scenario)
        if not callable(getattr(operator, "reply", None)):
            raise UsageError(
                f"--operator {spec}: found a {type(operator).__name__} without a method reply(messages), "
                f"expected {_EXPECTED}."
            )
        return operator

    return make


def _module(place: str) -> ModuleType:
    if not place.endswith(".py"):
        sys.path.insert(0, "")  # as `python -m` does
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as error:
            raise UsageError(
                f"--operator: cannot import {place}: {error}. Is it installed, or in this folder?"
            ) from None
        finally:
            sys.path.remove("")
    spec = importlib.util.spec_from_file_location(Path(place).stem, place)
    if not Path(place).is_file() or spec is None or spec.loader is None:
        raise UsageError(f"--operator: found no file {place}, expected {_EXPECTED}.")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(module.__name__, module)
    spec.loader.exec_module(module)
    return module
