"""The session loop, and corrections of sessions that went wrong."""

from tiararodney.posix_sdc.sessions.corrections import correct
from tiararodney.posix_sdc.sessions.loop import (
    ATTEMPTS,
    OUTCOMES,
    PROMPT,
    Mistake,
    Operator,
    ahead_of,
    run_session,
    session_id,
    turn_limit,
)
from tiararodney.posix_sdc.sessions.many import play

__all__ = [
    "ATTEMPTS",
    "OUTCOMES",
    "PROMPT",
    "Mistake",
    "Operator",
    "ahead_of",
    "correct",
    "play",
    "run_session",
    "session_id",
    "turn_limit",
]
