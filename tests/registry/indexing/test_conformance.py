from __future__ import annotations

import pytest

from legion.testing.index_kit import INDEX_CHECKS
from legion.testing.index_model import ModelIndex

_SKIPPED_BY_THE_MODEL = {
    "a_batch_with_a_bad_entry_is_refused_whole",
    "readers_see_whole_batches_while_another_thread_applies",
    "what_no_database_can_store_is_not_found",
    "snapshots_stream_from_anywhere",
    "words_are_values_never_commands",
}


@pytest.mark.parametrize("check", INDEX_CHECKS, ids=lambda check: check.__name__)
def test_every_index_does(check, index):
    check(index)


@pytest.mark.parametrize(
    "check",
    [check for check in INDEX_CHECKS if check.__name__ not in _SKIPPED_BY_THE_MODEL],
    ids=lambda check: check.__name__,
)
def test_the_model_that_both_are_compared_with_does(check):
    check(ModelIndex())
