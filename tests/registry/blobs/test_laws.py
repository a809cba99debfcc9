"""Any walk through a store leaves what a dictionary says, in every place."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.registry.blobs.places import PLACES, Place
from tests.registry.blobs.test_remote import Faulty, over

from legion.foundation.canonical import digest_bytes
from legion.foundation.errors import IntegrityError, WorldError

CONTENTS = [b"", b"a", b"b" * 10, b"longer\n" * 50_000]
FAULTS = ["middle", "truncated", "flipped", "refused", "unseen", "info", "read"]
DAY_S = 24 * 3600.0
numbers = st.integers(0, len(CONTENTS) - 1)


class Walk(RuleBasedStateMachine):
    """The model: digest to content, and whether it is old."""

    make = staticmethod(PLACES["memory"])

    @initialize()
    def start(self):
        self.folder = Path(tempfile.mkdtemp())
        self.place: Place = self.make(self.folder)
        self.model: dict[str, bytes] = {}
        self.old: set[str] = set()

    def teardown(self):
        shutil.rmtree(self.folder)

    @rule(number=numbers)
    def put(self, number):
        content = CONTENTS[number]
        digest = self.place.put(content)
        self.model[digest] = content
        self.old.discard(digest)

    @rule(number=numbers)
    def read(self, number):
        content = CONTENTS[number]
        digest = digest_bytes(content)
        if digest in self.model:
            with self.place.store.open(digest) as file:
                assert file.read() == self.model[digest]
            self.place.store.verify("x", digest)
        else:
            with pytest.raises(IntegrityError, match="missing"):
                self.place.store.open(digest)

    @rule(number=numbers)
    def delete(self, number):
        digest = digest_bytes(CONTENTS[number])
        assert self.place.store.delete(digest) == len(self.model.pop(digest, b""))
        self.old.discard(digest)

    @rule(number=numbers)
    def grow_old(self, number):
        content = CONTENTS[number]
        digest = digest_bytes(content)
        if digest in self.model:
            self.place.age(self.place.key(digest), 2 * DAY_S)
            claim = f"{self.place.base}/claims/{digest[7:]}".lstrip("/" if not self.place.base else "")
            if self.place.fs.exists(claim):
                self.place.age(claim, 2 * DAY_S)
            self.old.add(digest)

    @rule(number=numbers)
    def damage_and_heal(self, number):
        content = CONTENTS[number]
        digest = digest_bytes(content)
        if digest in self.model:
            self.place.overwrite(digest, content + b"!")
            with pytest.raises(IntegrityError, match="altered"):
                self.place.store.verify("x", digest)
            self.put(number)

    @rule(referenced=st.sets(numbers), is_dry_run=st.booleans())
    def sweep(self, referenced, is_dry_run):
        kept = {digest_bytes(CONTENTS[number]) for number in referenced}
        expected = {(digest, len(self.model[digest])) for digest in self.old - kept}
        assert set(self.place.store.sweep(kept, is_dry_run=is_dry_run)) == expected
        if not is_dry_run:
            for digest, _ in expected:
                del self.model[digest]
                self.old.discard(digest)

    @invariant()
    def holds_what_the_model_holds(self):
        assert dict(self.place.store.digests()) == {digest: len(content) for digest, content in self.model.items()}


class FaultyWalk(Walk):
    """The same in a place that fails now and then: what was acknowledged stays, what failed is never half there."""

    make = staticmethod(lambda folder: over(Faulty(), "/base", folder))

    @rule(number=numbers, fault=st.sampled_from(FAULTS))
    def put_and_fail(self, number, fault):
        content = CONTENTS[number]
        digest = digest_bytes(content)
        is_there = digest in self.model
        self.place.fs.faults = [fault]
        try:
            self.put(number)
        except WorldError:
            assert not is_there or fault in {"info", "read"}
        self.place.fs.faults = []
        found = dict(self.place.store.digests())
        if digest in found and not is_there:  # what arrived whole although the answer was lost
            self.place.store.verify("x", digest)
            self.model[digest] = content
        elif digest in self.model and digest not in self.old:
            self.place.store.verify("x", digest)


def machine(walk):
    case = walk.TestCase
    case.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
    return case


TestMemory = machine(Walk)
TestFaulty = machine(FaultyWalk)
TestOwnFolder = machine(type("OwnFolderWalk", (Walk,), {"make": staticmethod(PLACES["own folder"])}))
TestFsspecFolder = machine(type("FsspecFolderWalk", (Walk,), {"make": staticmethod(PLACES["fsspec folder"])}))
TestFsspecDir = machine(type("FsspecDirWalk", (Walk,), {"make": staticmethod(PLACES["fsspec dir"])}))
