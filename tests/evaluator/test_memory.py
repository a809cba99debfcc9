"""What the bare base answered is remembered under everything that it depends on."""

from __future__ import annotations

import dataclasses

import pytest

from legion.foundation.errors import UsageError
from legion.foundation.files import write_json
from legion.neuro_architecture.evaluator.memory import BaselineKey, BaselineMemory

KEY = BaselineKey(base_digest="sha256:a", data_digest="sha256:b", max_tokens=64, max_new_tokens=8, device="cpu")


def test_answers_come_back_as_they_were(settings):
    memory = BaselineMemory(settings, KEY)
    assert memory.recall("a") is None
    memory.learn(["a", "b"], [(0.1, 0.9), "a written text"])
    memory.save()
    again = BaselineMemory(settings, KEY)
    assert again.recall("a") == (0.1, 0.9)
    assert again.recall("b") == "a written text"


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(BaselineKey)])
def test_another_key_remembers_nothing(settings, field):
    memory = BaselineMemory(settings, KEY)
    memory.learn(["a"], ["x"])
    memory.save()
    other = 7 if isinstance(getattr(KEY, field), int) else "other"
    assert BaselineMemory(settings, dataclasses.replace(KEY, **{field: other})).recall("a") is None


def test_a_file_that_is_not_what_its_name_says_is_refused(settings):
    path = BaselineMemory(settings, KEY).path
    write_json(path, {"key": "something else", "answers": {}})
    with pytest.raises(UsageError, match="does not hold"):
        BaselineMemory(settings, KEY)
