"""The session loop."""

from tiararodney.posix_sdc.sessions.loop import (
    ATTEMPTS,
    MAX_TURNS,
    OUTCOMES,
    PROMPT,
    BatchOperator,
    Operator,
    ahead_of,
    run_batch,
    run_session,
)

__all__ = [
    "ATTEMPTS",
    "MAX_TURNS",
    "OUTCOMES",
    "PROMPT",
    "BatchOperator",
    "Operator",
    "ahead_of",
    "run_batch",
    "run_session",
]
