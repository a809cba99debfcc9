"""The token that lets somebody write: from the environment or a private file, never from a command line."""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final, Self, final

from legion.foundation.errors import IntegrityError, InvalidValueError, UsageError, WorldError
from legion.neuro_architecture.registry.regular import open_regular

__all__ = ["VARIABLE", "WriteToken", "load_token"]

VARIABLE: Final = "LEGION_REGISTRY_TOKEN"
_FORM: Final = re.compile(r"[!-~]{16,512}")
_MAX_FILE_BYTES: Final = 1024
_OTHERS: Final = 0o077
_MAKE_ONE: Final = "(umask 077; python3 -c 'import secrets; print(secrets.token_urlsafe(32))' > token)"


@final
class WriteToken:
    """Knows a token when it sees it. Only its SHA-256 is kept, so that nothing can print it.

    Args:
        digest: SHA-256 of the token.
    """

    __slots__ = ("_digest",)

    def __init__(self, digest: bytes) -> None:
        self._digest = digest

    @classmethod
    def of(cls, secret: str, *, where: str) -> Self:
        """The token with this text.

        Raises:
            InvalidValueError: it is easily guessed, or cannot stand in a header; the message does not repeat it.
        """
        if not _FORM.fullmatch(secret):
            raise InvalidValueError(
                f"the token in {where} is not 16 to 512 printable characters without blanks",
                hint=f"make one: {_MAKE_ONE}",
            )
        return cls(sha256(secret.encode()).digest())

    def matches(self, offered: bytes) -> bool:
        """Whether this is the token; takes the same time for every wrong one."""
        return hmac.compare_digest(sha256(offered).digest(), self._digest)


def load_token(file: Path | None = None, *, environment: Mapping[str, str] | None = None) -> WriteToken | None:
    """The token in `file`, else that in LEGION_REGISTRY_TOKEN, or None where there is none.

    Raises:
        UsageError: the file is missing, no regular file, or others may read it; or the token is no good one.
        WorldError: the file cannot be read.
    """
    if file is not None:
        return WriteToken.of(_read(file), where=str(file))
    secret = (os.environ if environment is None else environment).get(VARIABLE)
    return WriteToken.of(secret, where=VARIABLE) if secret else None


def _read(path: Path) -> str:
    try:
        with open_regular(path) as (file, _):
            status = os.fstat(file.fileno())
            if status.st_mode & _OTHERS or status.st_uid not in {0, os.geteuid()}:
                raise UsageError(
                    f"others may read or write the token in {path}",
                    cause=f"its mode is {status.st_mode & 0o777:04o}, its owner {status.st_uid}",
                    hint=f"chmod 600 {path}",
                )
            content = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise UsageError(f"no file {path}", hint=f"make one: {_MAKE_ONE}") from error
    except IntegrityError as error:
        raise UsageError(error.message, hint=error.hint) from error
    except OSError as error:
        raise WorldError(f"cannot read {path}", cause=str(error)) from error
    return content.decode("ascii", "replace").strip()
