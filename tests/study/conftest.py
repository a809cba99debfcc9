"""A tiny base for studies."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def tiny_base(request, monkeypatch):
    """Studies of these tests search on a tiny BERT."""
    if {"classification_data", "ground"} & set(request.fixturenames):
        monkeypatch.setenv("LEGION_BASE", str(request.getfixturevalue("tiny_folders")["bert"]))


@pytest.fixture
def ground(settings, classification_data):
    """A workspace with data, and settings that know the tiny base."""
    from legion.foundation.settings import Settings

    return Settings.load()
