"""Flags that mean the same in every command."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from tiararodney.sekft.settings import setting

DTYPES = ("auto", "bf16", "fp16", "fp32", "bfloat16", "float16", "float32")


@dataclass(frozen=True)
class Common:
    """What every command takes."""

    config: str | None = setting(
        "read settings from this file (keys are the flags' names), or from a preset of this name; flags win",
        default=None,
        metavar="FILE.yaml|NAME",
        group="this command",
    )
    verbose: bool = setting("show debug messages", default=False, also=("-v",))
    quiet: bool = setting("show warnings and errors only", default=False, also=("-q",))

    @property
    def verbosity(self) -> int:
        """The level for `console.configure_logs`."""
        return -1 if self.quiet else int(self.verbose)


# Fields of several commands' records; `setting` takes what differs.
base = partial(setting, "base model: a folder, or its id on the hub", default=None, metavar="DIR|HUB_ID")
load_4bit = partial(setting, "load the base in 4-bit (NF4); --dtype is then the compute type", default=False)
no_base_cache = partial(setting, "with --load-4bit: do not keep the quantised base in the cache folder", default=False)
kv_memory = partial(
    setting,
    "most memory for the KV caches of running and finished replies, in GiB (default: half of what is free)",
    default=None,
    metavar="GIB",
    above=0,
)
device = partial(setting, "auto, cpu, cuda, cuda:0, ...", default="auto", metavar="DEVICE")
dtype = partial(
    setting,
    "compute type; auto takes the one that the device multiplies fast (bf16, else fp32)",
    default="auto",
    choices=DTYPES,
)
api_key_env = partial(setting, "environment variable with the endpoint's key", default="OPENAI_API_KEY", metavar="VAR")
request_seconds = partial(setting, "timeout of one request to the endpoint, in seconds", metavar="S", above=0)
