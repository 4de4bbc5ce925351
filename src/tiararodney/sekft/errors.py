"""The errors of sekft, one tree.

    SekftError                 anything sekft raises on purpose
    +-- UsageError             the user's input cannot be used: exit code 2, one message, no traceback
    |   +-- ContractMismatch   an adapter's render contract differs from the one at hand
    +-- SessionRefused         one session cannot be rendered exactly (carries a `RefusalReason`)
    +-- RunFailed              the work itself failed: exit code 1

A message names what was found, where (file, line, field), what is expected, and the remedy.
"""


class SekftError(Exception):
    """Anything sekft raises on purpose."""


class UsageError(SekftError):
    """The user's input cannot be used. The command line prints the message and exits with 2."""

    exit_code = 2


class ContractMismatch(UsageError):
    """The render contract an adapter carries differs from the tokenizer or template at hand."""


class RunFailed(SekftError):
    """The work failed for a reason other than its input. The command line exits with 1."""

    exit_code = 1
