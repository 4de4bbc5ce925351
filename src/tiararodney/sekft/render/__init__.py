"""The render contract: what a model is trained on is what it is served. Pure: no torch, no transformers, no effects.

The data's way:

    session (records) -> normalize -> template (text) -> reply (what of it is trained) -> encode (ids) -> mask (labels)

What they need of a tokenizer is in `tokens`. Beside the way: `contract/`, which travels with an adapter, and `preview`,
the mask for people.
"""

from tiararodney.sekft.render.contract.canonical import canonical_chat_template
from tiararodney.sekft.render.contract.folder import (
    Fingerprint,
    apply_policy,
    check_contract,
    contract_tokenizer,
    read_contract,
    save_contract,
    take_fingerprint,
)
from tiararodney.sekft.render.mask import build_masked_examples
from tiararodney.sekft.render.normalize import normalize_for_template
from tiararodney.sekft.render.session import (
    IGNORED,
    Example,
    Message,
    Messages,
    RefusalReason,
    SessionRefused,
    weigh_terminal,
)
from tiararodney.sekft.render.template import render_prompt
from tiararodney.sekft.render.tokens import Tokenizer

__all__ = [
    "IGNORED", "Example", "Fingerprint", "Message", "Messages", "RefusalReason", "SessionRefused", "Tokenizer",
    "apply_policy", "build_masked_examples", "canonical_chat_template", "check_contract", "contract_tokenizer",
    "normalize_for_template", "read_contract", "render_prompt", "save_contract", "take_fingerprint", "weigh_terminal",
]  # fmt: skip
