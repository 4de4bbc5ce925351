"""The torch boundary: load a base model, attach and detach adapters, generate.

Importing this package imports torch. Everything that must start fast (`--help`, `--inspect`) imports it inside
the function that needs it.
"""

from tiararodney.sekft.model.adapters import attach_adapter, changes_logits, detach_adapter, use_adapter
from tiararodney.sekft.model.base import Adapters, Base, load_base
from tiararodney.sekft.model.fingerprint import base_fingerprint, weights_checksum
from tiararodney.sekft.model.generate import Generated, Generator
from tiararodney.sekft.model.sampling import Sampling, Token

__all__ = [
    "Adapters",
    "Base",
    "Generated",
    "Generator",
    "Sampling",
    "Token",
    "attach_adapter",
    "base_fingerprint",
    "changes_logits",
    "detach_adapter",
    "load_base",
    "use_adapter",
    "weights_checksum",
]
