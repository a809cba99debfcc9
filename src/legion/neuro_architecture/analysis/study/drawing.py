"""From specification to picture, on this machine and without a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from legion.foundation.errors import WorldError

__all__ = ["draw_png", "draw_svg_of"]

_VERSION: Final = "5.20"


def draw_png(spec: Mapping[str, Any], scale: float = 2.0) -> bytes:
    """The picture as PNG.

    Args:
        spec: A Vega-Lite specification.
        scale: Pixels for each of the specification's.

    Raises:
        WorldError: the extra `charts` is not installed.
    """
    png: bytes = _converter().vegalite_to_png(dict(spec), vl_version=_VERSION, scale=scale, allowed_base_urls=[])
    return png


def draw_svg_of(spec: Mapping[str, Any]) -> str:
    """The picture as SVG.

    Raises:
        WorldError: the extra `charts` is not installed.
    """
    svg: str = _converter().vegalite_to_svg(dict(spec), vl_version=_VERSION, allowed_base_urls=[])
    return svg


def _converter() -> Any:
    try:
        import vl_convert
    except ImportError as error:
        raise WorldError(
            "pictures cannot be drawn here",
            cause="the package vl-convert-python is not installed",
            hint="pip install 'legion-neuro-rewriter[charts]'",
        ) from error
    return vl_convert
