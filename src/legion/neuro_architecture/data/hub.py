"""Base models by hub id: only the files that are safe and needed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from legion.foundation.errors import ModelError, WorldError
from legion.neuro_architecture.data.quiet import quiet_transformers

__all__ = ["download_base", "is_hub_id"]

_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_WANTED: Final = [
    "*.safetensors",
    "*.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.txt",
    "merges.txt",
    "*.jinja",
]
_UNWANTED: Final = ["*/*", "adapter_*", "consolidated*"]


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form `owner/model`."""
    return _HUB_ID.fullmatch(name) is not None


def download_base(name: str) -> Path:
    """The folder of a hub model in the hub's own cache, fetched where it is not there yet.

    `HF_HUB_OFFLINE=1` answers from the cache alone.

    Raises:
        ModelError: there is no such model, or it is gated.
        WorldError: the hub cannot be reached and the model is not in its cache.
    """
    import huggingface_hub
    from huggingface_hub import errors

    try:
        with quiet_transformers():
            folder = huggingface_hub.snapshot_download(name, allow_patterns=_WANTED, ignore_patterns=_UNWANTED)
    except errors.GatedRepoError as error:
        raise ModelError(
            f"base model {name!r} is gated", cause="its licence must be accepted first", hint="hf auth login"
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise ModelError(
            f"no base model {name!r}", cause="no folder and no hub model has this name", hint="legion assets ls"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise WorldError(
            f"base model {name!r} is not on this machine",
            cause="it is not in the hub's cache, and the hub cannot be asked (no network, or HF_HUB_OFFLINE=1)",
            hint="use an embedded one (minilm-l6, smollm2-135m), a local folder, or unset HF_HUB_OFFLINE",
        ) from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise WorldError(
            f"cannot fetch base model {name!r}", cause=type(error).__name__, hint="check the network and the disk"
        ) from error
    return Path(folder)
