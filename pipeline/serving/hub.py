"""A kept model as a repository of the Hugging Face hub, or of a server that speaks its language."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.common.errors import ConfigError, ModelError, is_disk_fault, is_out_of_memory
from pipeline.common.secrets import masked, masked_message
from pipeline.common.text import cut, printable

PREFIX = "hub:"
CARD = "README.md"
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def repository_of(target: str) -> str:
    """Return the repository that ``hub:OWNER/NAME`` names.

    Raises:
        ConfigError: for anything else.
    """
    name = target.removeprefix(PREFIX)
    if name == target or not _REPOSITORY.fullmatch(name):
        raise ConfigError(
            f"{printable(target)}: expected hub:OWNER/NAME, such as hub:acme/tweet-sentiment."
        )
    return name


def push(files: list[Path], card: str, repository: str, *, public: bool, force: bool) -> str:
    """Write a model's files and its card into a repository, in one commit; return its address.

    Args:
        files: files, and folders with all that is in them.
        card: the text of its README.md.
        repository: its owner and name; it is made where it is not there.
        public: whether everybody may read one that is made.
        force: whether files of one that is there are replaced.

    Raises:
        ModelError: where the hub cannot be reached or refuses it, or the repository exists.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, ModelCard
    from huggingface_hub.errors import HfHubHTTPError

    # Of its own client, which is another library from release to release.
    client_error = next(
        kind
        for kind in HfHubHTTPError.__mro__
        if issubclass(kind, Exception) and kind.__name__ == "HTTPError"
    )
    parts = [
        CommitOperationAdd(str(path.relative_to(root.parent)), path)
        for root in files
        for path in (sorted(root.rglob("*")) if root.is_dir() else [root])
        if path.is_file()
    ]
    parts.append(CommitOperationAdd(CARD, card.encode()))
    hub = HfApi()
    try:
        ModelCard(card).validate()  # before a repository is made that would stay empty
        made = hub.create_repo(repository, private=not public, exist_ok=force)
        hub.create_commit(repository, parts, commit_message="Add a model of tunewright")
    # ValueError: of the card or the repository's name; RuntimeError: of the upload of a large file.
    except (client_error, OSError, ValueError, RuntimeError) as error:
        if is_disk_fault(error) or is_out_of_memory(error):
            raise
        raise ModelError(f"{PREFIX}{repository}: {_refusal(error, hub.endpoint)}") from error
    return str(made)


def _refusal(error: Exception, endpoint: str) -> str:
    from huggingface_hub.errors import OfflineModeIsEnabled

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE=1 keeps the hub out of reach; unset it."
    if status == 409:
        return (
            "this repository exists already; expected a new name, or --force, which replaces its "
            "files of the same names."
        )
    said = getattr(error, "server_message", None) or str(error) or type(error).__name__
    if isinstance(error, RuntimeError) and error.__cause__:
        said += f" {error.__cause__}"
    reason = cut(" ".join(masked_message(said).split()), 500).rstrip(".")
    if status in (401, 403):
        reason += ". Log in with a token that may write: `hf auth login`, or the variable HF_TOKEN"
    if status is None and not isinstance(error, ValueError | RuntimeError):
        return (
            f"{masked(endpoint)} cannot be reached: {reason}. Check the network, and HF_ENDPOINT, "
            "which names the hub."
        )
    return f"the hub cannot take it: {reason}."
