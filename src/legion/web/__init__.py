"""Floor 8: the registry over HTTP, for reading by whoever reaches it and for writing by whoever holds the token."""

from legion.foundation.errors import WorldError

try:
    import fastapi  # noqa: F401
    import uvicorn  # noqa: F401
except ImportError as error:
    raise WorldError(
        "the registry's server needs fastapi and uvicorn",
        cause=str(error),
        hint="pip install 'legion-neuro-rewriter[server]'",
    ) from error

from legion.web.application import create_app
from legion.web.serving import serve
from legion.web.tokens import WriteToken, load_token

__all__ = ["WriteToken", "create_app", "load_token", "serve"]
