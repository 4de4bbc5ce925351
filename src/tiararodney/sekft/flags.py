"""Flags that mean the same in every command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tiararodney.sekft.settings import setting

DTYPES = ("auto", "bfloat16", "float16", "float32")
_SHORT = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


@dataclass(frozen=True)
class Common:
    """What every command takes."""

    config: str | None = setting(
        "read settings from this file (keys are the flags' names), or from a preset of this name; flags win",
        default=None,
        metavar="FILE.yaml|NAME",
        group="this command",
    )
    verbose: int = setting("show debug messages", default=0, also=("-v",))
    quiet: bool = setting("show warnings and errors only", default=False, also=("-q",))

    @property
    def verbosity(self) -> int:
        """The level for `console.configure_logs`."""
        return -1 if self.quiet else self.verbose


def base(default: Any = None, **more: Any) -> Any:
    """``--base``."""
    return setting("base model: a folder, or its id on the hub", default=default, metavar="DIR|HUB_ID", **more)


def load_4bit() -> Any:
    """``--load-4bit``."""
    return setting("load the base in 4-bit (NF4); --dtype is then the compute type", default=False)


def no_base_cache() -> Any:
    """``--no-base-cache``."""
    return setting("with --load-4bit: do not keep the quantised base in the cache folder", default=False)


def kv_memory() -> Any:
    """``--kv-memory``."""
    return setting(
        "most memory for the KV caches of running and finished replies, in GiB (default: half of what is free)",
        default=None,
        metavar="GIB",
        above=0,
    )


def device() -> Any:
    """``--device``."""
    return setting("auto, cpu, cuda, cuda:0, ...", default="auto", metavar="DEVICE")


def dtype() -> Any:
    """``--dtype``."""
    text = "compute type; auto takes the one that the device multiplies fast (bf16, else fp32)"
    return setting(text, default="auto", choices=DTYPES, synonyms=_SHORT)


def api_key_env() -> Any:
    """``--api-key-env``."""
    return setting("environment variable with the endpoint's key", default="OPENAI_API_KEY", metavar="VAR")


def request_seconds(default: float) -> Any:
    """``--request-seconds``."""
    return setting("timeout of one request to the endpoint, in seconds", default=default, metavar="S", above=0)
