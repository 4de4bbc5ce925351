"""The authors of every archetype, one module a family (text and files have two: lines and words, files and folders)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.archetypes import (
    archive,
    build,
    compare,
    config,
    convert,
    files,
    folders,
    logs,
    mail,
    process,
    rewriting,
    rights,
    schedule,
    service,
    session,
    survey,
    text,
    ticket,
    tools,
)
from tiararodney.posix_sdc.factory.archetypes.filters import follows
from tiararodney.posix_sdc.factory.checks import completed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tiararodney.posix_sdc.factory.checks import Author

_MODULES = (
    text,
    rewriting,
    files,
    folders,
    rights,
    config,
    logs,
    archive,
    convert,
    session,
    build,
    mail,
    ticket,
    schedule,
    service,
    process,
    compare,
    survey,
    tools,
)


def _complete(author: Author) -> Author:
    return lambda request: completed(author(request))


AUTHORS: Mapping[str, Author] = {
    name: _complete(author) for module in _MODULES for name, author in module.AUTHORS.items()
}
# Archetypes that can begin with a file which a former step makes.
FOLLOWS: frozenset[str] = (
    frozenset(name for module in (text, rewriting, logs, convert) for name, row in module.TABLE.items() if follows(row))
    | frozenset(("files_copy", "files_join", "files_link", "rights_mode", "rights_private", "text_paste"))
    | frozenset(tools.TABLE)
)
