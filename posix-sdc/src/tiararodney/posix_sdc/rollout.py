"""The session loop."""

from tiararodney.posix_sdc.sessions.loop import (
    ATTEMPTS,
    OUTCOMES,
    PROMPT,
    BatchOperator,
    Mistake,
    Operator,
    ahead_of,
    run_session,
    session_id,
    turn_limit,
)
from tiararodney.posix_sdc.sessions.many import play, run_batch

__all__ = [
    "ATTEMPTS",
    "OUTCOMES",
    "PROMPT",
    "BatchOperator",
    "Mistake",
    "Operator",
    "ahead_of",
    "play",
    "run_batch",
    "run_session",
    "session_id",
    "turn_limit",
]
