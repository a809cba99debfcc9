from __future__ import annotations

import builtins

import pytest
from tests.generator.point_spaces import small_space

from legion.foundation.errors import UnknownNameError, WorldError
from legion.foundation.rng import RandomStream
from legion.neuro_architecture.generator import GENERATORS, build_generator


def test_every_generator_says_what_it_does_in_one_line():
    assert all(text and "\n" not in text for text in GENERATORS.values())


def test_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown generator 'tpa'") as caught:
        build_generator("tpa", small_space(), RandomStream(0))
    assert "'tpe'" in (caught.value.hint or "")


def test_missing_optuna_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "optuna":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(WorldError, match="Optuna is not installed") as caught:
        build_generator("optuna-tpe", small_space(), RandomStream(0))
    assert caught.value.hint == "pip install 'legion-neuro-rewriter[bench]'"
