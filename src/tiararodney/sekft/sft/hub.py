"""Put an adapter on the hub."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tiararodney.sekft.errors import RunFailed, UsageError

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)


def check_hub(name: str) -> None:
    """Refuse a place on the hub that cannot be written, before hours are spent.

    Args:
        name: The repository, such as ``me/adapter``.

    Raises:
        UsageError: It is no repository's name, nobody is logged in, or the hub does not answer.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UsageError(f"--push-to-hub {name}: {error} Expected a name such as me/adapter.") from None
    try:
        who = HfApi().whoami()["name"]
    except LocalTokenNotFoundError:
        raise UsageError(f"--push-to-hub {name}: nobody is logged in. Run `hf auth login`, or set HF_TOKEN.") from None
    except (HfHubHTTPError, OSError) as error:
        raise UsageError(
            f"--push-to-hub {name}: the hub refuses: {error}. Look at the token and the network."
        ) from None
    log.info("the adapter will be uploaded to %s as %s", name, who)


def push(folder: Path, name: str, *, public: bool) -> str:
    """Upload a folder.

    Args:
        folder: The adapter's.
        name: The repository; made where it does not exist.
        public: Whether everybody may see a repository that is made.

    Returns:
        The upload's address.

    Raises:
        RunFailed: The hub refuses; the folder is complete all the same.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    files = sorted(file for file in folder.iterdir() if file.is_file())
    listed = ", ".join(f"{file.name} ({file.stat().st_size} bytes)" for file in files)
    log.info("uploading to %s (%s): %s", name, "public" if public else "private", listed)
    try:
        api = HfApi()
        api.create_repo(name, private=not public, exist_ok=True)
        done = api.upload_folder(repo_id=name, folder_path=folder, commit_message="Adapter trained by sekft-train")
    except (HfHubHTTPError, OSError) as error:
        raise RunFailed(
            f"--push-to-hub {name}: the hub refuses: {error}. The adapter is complete in {folder}; "
            f"upload it with `hf upload {name} {folder}`."
        ) from error
    return str(done)
