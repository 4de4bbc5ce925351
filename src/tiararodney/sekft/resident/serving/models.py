"""The names that are served: the base's, and those of the adapters that hang on it."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.errors import ContractMismatch, SekftError
from tiararodney.sekft.eval.operators import reply_text, stop_ids
from tiararodney.sekft.render import check_contract, contract_tokenizer
from tiararodney.sekft.resident.serving.requests import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from tiararodney.sekft.model import Base
    from tiararodney.sekft.render import Tokenizer


class Served:
    """One name, with what renders for it and what ends its replies.

    Args:
        name: as clients give it.
        adapter: name of the attached adapter, None for the base.
        tokenizer: renders, encodes and decodes for it.
        eos: `eos_token_id` of the base's generation settings.
    """

    def __init__(self, name: str, adapter: str | None, tokenizer: Tokenizer, eos: Any) -> None:
        self.name, self.adapter, self.tokenizer = name, adapter, tokenizer
        self.stop_ids = stop_ids(tokenizer, eos)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, control tokens left out."""
        return reply_text(self.tokenizer, ids)


class ServedModels:
    """Finds what a request's ``model`` names, and loads and unloads adapters over HTTP.

    Args:
        base: the hot base.
        name: what the base is called.
        folders: adapters may be loaded over HTTP from below these.
        turn: held while adapters come and go; a job that walks over the model's modules must not meet that.
    """

    def __init__(
        self,
        base: Base,
        name: str,
        folders: Sequence[Path] = (),
        turn: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.base, self.name, self._turn = base, name, turn
        self._folders = [folder.resolve() for folder in folders]
        self._cache: dict[str, tuple[Path, Served]] = {}
        self._lock = Lock()
        self._eos = getattr(base.model.generation_config, "eos_token_id", None)
        self._base = Served(name, None, base.tokenizer, self._eos)

    def find(self, name: str) -> Served:
        """Return what a name stands for; ``base`` is the base whatever it is called.

        Raises:
            ApiError: 404, no such model, or the adapter's contract does not hold for this base.
        """
        folder = self.base.adapters.folders.get(name)
        if folder is None:
            if name in (self.name, "base", str(self.base.path)):
                return self._base
            known = ", ".join([self.name, *self.base.adapters.folders])
            raise ApiError(404, f"model {name!r} is not served here. Served: {known}.", "model", "model_not_found")
        with self._lock:
            if self._cache.get(name, (None,))[0] != folder:
                try:
                    check_contract(folder, self.base.tokenizer)
                    tokenizer = contract_tokenizer(self.base.tokenizer, folder)
                except ContractMismatch as error:
                    raise ApiError(400, str(error), "model") from None
                self._cache[name] = folder, Served(name, name, tokenizer, self._eos)
            return self._cache[name][1]

    def load(self, name: str, path: str, *, in_place: bool) -> None:
        """Attach an adapter, as vLLM's ``/v1/load_lora_adapter``.

        Args:
            name: what to call it.
            path: its folder.
            in_place: replace an adapter of that name.

        Raises:
            ApiError: the path is not below an allowed folder, the name is taken, or the adapter does not fit the base.
        """
        from tiararodney.sekft.model import attach_adapter, detach_adapter

        folder = Path(path).expanduser().resolve()
        if not any(folder.is_relative_to(allowed) for allowed in self._folders):
            told = ", ".join(map(str, self._folders)) or "none; start with --adapter-dir DIR"
            raise ApiError(403, f"lora_path: {path} is not below a folder that may be served ({told}).", "lora_path")
        if name in (self.name, "base"):
            raise ApiError(400, f"lora_name: {name!r} is the base's name. Choose another.", "lora_name")
        with self._turn(), self._lock:
            if name in self.base.adapters.folders:
                if not in_place:
                    message = f"lora_name: {name!r} is loaded already. Unload it, or give load_inplace: true."
                    raise ApiError(400, message, "lora_name")
                if not (folder / "adapter_config.json").is_file():  # before the one that it replaces is gone
                    raise ApiError(400, f"lora_path: found no adapter_config.json in {folder}.", "lora_path")
                detach_adapter(self.base, name)
            try:
                attach_adapter(self.base, folder, name)
            except SekftError as error:
                raise ApiError(400, str(error), "lora_path") from None
            finally:
                self._cache.pop(name, None)

    def unload(self, name: str) -> None:
        """Take an adapter off, as vLLM's ``/v1/unload_lora_adapter``.

        Raises:
            ApiError: 404, none of that name is loaded.
        """
        from tiararodney.sekft.model import detach_adapter

        with self._turn(), self._lock:
            if name not in self.base.adapters.folders:
                raise ApiError(404, f"lora_name: {name!r} is not loaded.", "lora_name")
            detach_adapter(self.base, name)
            self._cache.pop(name, None)
