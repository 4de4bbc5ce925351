"""An operator behind an OpenAI-compatible endpoint, with an optional scaffold prompt that is not recorded."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.support.chat_completions import Endpoint, chat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.posix_sdc.records.schema import Message

SCAFFOLD = """\
You are at a terminal. Whatever you reply is typed into the shell as it stands, so reply with one command and nothing \
else: no explanation, no code fence, no prompt sign.
Somewhere it is announced which program holds your directives: in what login prints, in a file here, or in the \
environment. Read that program's documentation, get the directives from it, do what they say, check your work, and \
then reply exit. Reply panic REASON only if a directive cannot be carried out: something it needs is missing, not \
permitted or broken, or it contradicts itself. Never make up what is missing."""

_log = logging.getLogger(__name__)
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_FENCED = re.compile(r"\A\s*```[a-z]*\n(.*?)\n?```\s*\Z", re.DOTALL)


@dataclass(frozen=True)
class EndpointOperator:
    """A model behind a chat completions endpoint.

    Args:
        endpoint: whom to ask.
        scaffold: extra system prompt; never recorded.
    """

    endpoint: Endpoint
    scaffold: str = SCAFFOLD

    @property
    def name(self) -> str:
        """Its name in records."""
        return self.endpoint.model

    def reply(self, messages: Sequence[Message]) -> str:
        """Return the model's next command.

        Raises:
            UsageError: the endpoint refuses the request for good (wrong address, model or key).
            InfrastructureError: it cannot be reached, fails, or answers with something that is no chat completion.
        """
        prompt = [dict(m) for m in messages]
        if self.scaffold:
            prompt[0] = {"role": "system", "content": f"{self.scaffold}\n\n{prompt[0]['content']}"}
        completion = chat(self.endpoint, prompt)
        if completion.without_content:
            _log.warning("%s: the reply has %s", self.endpoint.url, completion.without_content)
        return bare(completion.text)


def bare(reply: str) -> str:
    """Return a reply without thoughts, a fence, a prompt sign and blank lines around the command."""
    reply = _THOUGHT.sub("", reply)
    fenced = _FENCED.match(reply)
    text = (fenced.group(1) if fenced else reply).strip("\n").rstrip()
    return text.removeprefix("$ ")
