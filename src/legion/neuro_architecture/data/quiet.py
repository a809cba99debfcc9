"""Keeps transformers' bars and load reports off the screen while we load; what they would say is checked instead."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["quiet_transformers"]

_LOAD_REPORT: Final = "LOAD REPORT"
_LOGGER: Final = "transformers.modeling_utils"


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hides progress bars, and from the log only the report on new and unused tensors; puts both back afterwards."""
    from transformers.utils import logging as transformers_logging

    had_bars = transformers_logging.is_progress_bar_enabled()
    logger = logging.getLogger(_LOGGER)
    transformers_logging.disable_progress_bar()
    logger.addFilter(_is_no_report)
    try:
        yield
    finally:
        logger.removeFilter(_is_no_report)
        if had_bars:
            transformers_logging.enable_progress_bar()


def _is_no_report(record: logging.LogRecord) -> bool:
    return _LOAD_REPORT not in record.getMessage()
