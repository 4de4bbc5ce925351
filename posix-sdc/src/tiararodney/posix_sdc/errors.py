"""The errors of posix-sdc, one tree.

PosixSdcError              anything posix-sdc raises on purpose
+-- UsageError             the user's input cannot be used: exit code 2, one message, no traceback
|   +-- SchemaError        a file on disk has a shape we cannot take
|   +-- NoRuntime          neither a Docker engine nor bwrap can be used here
+-- UnplayableError        a bundle lacks or contradicts what its session needs: that bundle's outcome, nobody's failure
+-- InfrastructureError    a fault of ours (engine down, image missing, disk full): never the model's failure
"""

from __future__ import annotations


class PosixSdcError(Exception):
    """Anything posix-sdc raises on purpose."""


class UsageError(PosixSdcError):
    """The user's input cannot be used. The command line prints the message and exits with 2."""

    exit_code = 2


class SchemaError(UsageError):
    """A record on disk has a shape that cannot be taken.

    Args:
        source: file, with the line where there is one (``data.jsonl:7``).
        field: dotted path of the field (``checker.script``), empty for the record itself.
        found: what was there, shortened.
        expected: what is taken there.
        remedy: what the user can do.
    """

    def __init__(self, source: str, field: str, found: str, expected: str, remedy: str = "") -> None:
        self.source, self.field, self.found, self.expected, self.remedy = source, field, found, expected, remedy
        where = f"{source}: field {field!r}" if field else source
        super().__init__(f"{where}: found {found}, expected {expected}." + (f" {remedy}" if remedy else ""))

    def __reduce__(self) -> tuple[type[SchemaError], tuple[str, str, str, str, str]]:
        return type(self), (self.source, self.field, self.found, self.expected, self.remedy)


class NoRuntime(UsageError):
    """Neither a Docker engine nor bwrap can be used on this machine."""


class UnplayableError(PosixSdcError):
    """A bundle cannot be stood up, or lacks what the operator needs to play it. Recorded as the bundle's outcome."""


class InfrastructureError(PosixSdcError):
    """The world failed for a reason of ours. Retried, then reported apart, never counted against the model."""

    exit_code = 1
