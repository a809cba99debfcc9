"""The base of every stored value: frozen, typed, and refusing keys it does not know."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from legion.foundation.errors import InvalidValueError

__all__ = ["Value"]


class Value(BaseModel):
    """A frozen value that is equal by content and stored as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    @classmethod
    def parse(cls, data: Any, *, what: str) -> Self:
        """The value in plain `data`.

        Raises:
            InvalidValueError: lists every mistake at once; `what` names the thing being read.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise InvalidValueError(f"{what} is not valid", cause=explain(error)) from error

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, every field spelled out."""
        return self.model_dump(mode="json")


def explain(error: ValidationError) -> str:
    """All mistakes of a pydantic error, a line each: field, message, offending value."""
    lines = []
    for item in error.errors(include_url=False):
        place = ".".join(str(part) for part in item["loc"]) or "value"
        shown = repr(item.get("input"))
        lines.append(f"{place}: {item['msg']} (got {shown if len(shown) <= 60 else shown[:57] + '...'})")
    return "\n".join(lines)
