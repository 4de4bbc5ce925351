"""The command ``sekft-resident``."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from contextlib import ExitStack
from dataclasses import MISSING, dataclass
from importlib import metadata
from pathlib import Path  # noqa: TC003 - the settings' types are read at run time
from typing import TYPE_CHECKING

from tiararodney.sekft import flags, residents
from tiararodney.sekft.console import DONE, INTERRUPTED, configure_logs, naming_the_extra, run_cli
from tiararodney.sekft.errors import RunFailed
from tiararodney.sekft.flags import Common
from tiararodney.sekft.settings import read_settings, setting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from tiararodney.sekft.resident.state import Resident

log = logging.getLogger(__name__)
ABOUT = (
    "Keep a base model loaded and run jobs on it: train, eval, sweep, cycle, load, unload, adapters, status, cancel. "
    "Commands are read from a prompt on a terminal, or as lines from a pipe (exit code 1 where one of them failed); "
    "train and eval take the flags of sekft-train and sekft-eval. Ctrl-C ends the job, not the resident."
)


@dataclass(frozen=True)
class ResidentConfig:
    """Which base is kept loaded, and how."""

    base: Path = flags.base(default=MISSING, group="base model")
    load_4bit: bool = flags.load_4bit()
    no_base_cache: bool = flags.no_base_cache()
    device: str = flags.device()
    dtype: str = flags.dtype()
    kv_memory: float | None = flags.kv_memory()

    name: str | None = setting(
        "also take jobs from other terminals by this name (sekft-train --resident NAME); goes on after the end of a "
        "pipe's lines",
        default=None,
        group="other terminals and serving",
    )
    serve: str | None = setting(
        "also serve OpenAI's completions and vLLM's adapter routes here; goes on after the end of a pipe's lines",
        default=None,
        metavar="HOST:PORT",
    )
    adapter_dirs: tuple[Path, ...] = setting(
        "folder below which adapters may be loaded over HTTP", default=(), flag="--adapter-dir", metavar="DIR"
    )
    api_key_env: str = setting(
        "environment variable with the key that clients have to send; needed to serve beyond this machine",
        default="SEKFT_API_KEY",
        metavar="VAR",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Load the base, carry out commands until the end of input, and return the exit code.

    It is 0 done, 1 a job of a piped run failed, 2 bad usage or input, 130 interrupted.
    """

    def work() -> int:
        given = sys.argv[1:] if argv is None else argv
        settings = read_settings(given, (ResidentConfig, Common), "sekft-resident", ABOUT)
        configure_logs(settings.of(Common).verbosity)
        return serve(settings.of(ResidentConfig))

    return run_cli(work, "sekft-resident")


def serve(config: ResidentConfig) -> int:
    """Load what the configuration says, then read commands from stdin and, where asked to, serve."""
    from tiararodney.sekft.resident.commands import serve_lines
    from tiararodney.sekft.resident.listen import listening
    from tiararodney.sekft.resident.serving.run import read_address, serving

    if config.name is not None:
        residents.check_name(config.name)
    address = None if config.serve is None else read_address(config.serve, config.api_key_env)
    log.info("sekft-resident %s: loading %s", metadata.version("tiararodney.sekft"), config.base)
    with naming_the_extra("a local base"):
        resident = start(config)
    try:
        # Ctrl-C ends a job, so a TERM signal must not look like it: it ends the resident, job and all.
        signal.signal(signal.SIGTERM, _terminate)
        with ExitStack() as stack:
            if address is not None:
                with naming_the_extra("--serve"):
                    from tiararodney.sekft.resident.serving.app import Server

                    app = Server(resident, config.adapter_dirs, os.environ.get(config.api_key_env, "")).app()
                    resident.serving = stack.enter_context(serving(app, *address))
            if config.name is not None:
                stack.enter_context(listening(resident, config.name))
                resident.name = config.name
            log.info("ready; `help` lists the commands")
            code = serve_lines(resident, sys.stdin)
            if (config.serve or config.name) and not resident.quitting and not sys.stdin.isatty():
                log.info("end of the commands; going on until TERM, Ctrl-C or quit")
                threading.Event().wait()
            return code
    except _Terminated:
        if resident.changed:
            raise RunFailed(resident.changed) from None
        if resident.quitting:
            return DONE
        log.warning("terminated")
        return INTERRUPTED


class _Terminated(BaseException):
    pass


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise _Terminated


def start(config: ResidentConfig) -> Resident:
    """Load a base and take the fingerprint of its logits."""
    from tiararodney.sekft.model import Generator, load_base
    from tiararodney.sekft.resident.state import Resident, probe

    base = load_base(config.base, config.load_4bit, config.device, config.dtype, cache=not config.no_base_cache)
    return Resident(base, probe(base), Generator(base, kv_gib=config.kv_memory))


if __name__ == "__main__":
    sys.exit(main())
