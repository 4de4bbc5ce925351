"""The command line ``posix-sdc``."""

from tiararodney.posix_sdc.cli.arguments import main

__all__ = ["main"]
