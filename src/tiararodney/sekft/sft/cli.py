"""The command ``sekft-train``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tiararodney.sekft.console import configure_logs, naming_the_extra, run_cli
from tiararodney.sekft.errors import RunFailed
from tiararodney.sekft.sft.flags import parse

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from tiararodney.sekft.model import Base
    from tiararodney.sekft.sft.config import TrainConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Train, or inspect; the adapter's folder goes to stdout.

    Args:
        argv: The arguments, the program's own where None.

    Returns:
        0 done, 1 the run failed, 2 bad usage or input, 130 interrupted.
    """

    def work() -> int:
        config, args = parse(list(sys.argv[1:] if argv is None else argv))
        configure_logs(-1 if args.quiet else args.verbose)
        if config is None:
            return _inspect(args)
        _train_and_print(config, None)
        return 0

    return run_cli(work, "sekft-train")


def run(argv: Sequence[str], base: Base, prog: str) -> TrainConfig | None:
    """Do the same work on a base that is loaded already.

    Args:
        argv: The flags of sekft-train; --base, --load-4bit, --device and --dtype are the loaded base's.
        base: The hot base.
        prog: What the command is called in messages.

    Returns:
        The configuration of the run that was done; None after --inspect.

    Raises:
        RunFailed: With --inspect, not one session can be trained on, or the endpoint differs.
    """
    config, args = parse(list(argv), prog, base.settings())
    if config is None:
        if _inspect(args):
            raise RunFailed(
                f"{prog} --inspect: every session is refused, or the endpoint differs; the reasons stand above."
            )
        return None
    _train_and_print(config, base)
    return config


def _inspect(args: argparse.Namespace) -> int:
    from tiararodney.sekft.sft.inspection.inspect import InspectConfig
    from tiararodney.sekft.sft.inspection.inspect import run as inspect
    from tiararodney.sekft.trajectories import chosen

    return inspect(
        InspectConfig(
            data=tuple(map(str, args.data)),
            base=str(args.base),
            hub=args.hub,
            max_length=args.max_length,
            show=args.show,
            json=args.json,
            html=args.html,
            filters=chosen(args.data_version, args.data_split, args.verified, quarantine=args.quarantined),
            control_tokens=args.control_tokens,
            endpoint=args.endpoint,
            model=args.model or "",
            api_key_env=args.api_key_env,
            endpoint_sessions=args.endpoint_sessions,
            request_seconds=args.request_seconds,
        )
    )


def _train_and_print(config: TrainConfig, base: Base | None) -> None:
    with naming_the_extra("training (not --inspect)"):
        from tiararodney.sekft.sft.ranks import launched
        from tiararodney.sekft.sft.train import train
    out = train(config, base)
    if launched().writes:
        print(out)


if __name__ == "__main__":
    sys.exit(main())
