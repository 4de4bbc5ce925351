"""The authors of every archetype, one module a family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiararodney.posix_sdc.archetypes import (
    archive,
    build,
    config,
    convert,
    files,
    logs,
    mail,
    rights,
    schedule,
    service,
    session,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tiararodney.posix_sdc.archetypes.base import Author

_MODULES = (text, files, rights, config, logs, archive, convert, session, build, mail, schedule, service)
AUTHORS: Mapping[str, Author] = {name: author for module in _MODULES for name, author in module.AUTHORS.items()}
