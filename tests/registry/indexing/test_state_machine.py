from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from legion.neuro_architecture.registry.indexing import content_name, open_postgres_index, open_sqlite_index
from legion.neuro_architecture.registry.query import (
    And,
    Field,
    FieldIs,
    Latest,
    MetricIs,
    Not,
    Operator,
    Or,
    Query,
    RevisionIs,
)
from legion.neuro_architecture.spec.entries import (
    AliasEntry,
    ApprovalEntry,
    DeletionEntry,
    RolloutEntry,
    TagsEntry,
    VerdictEntry,
)
from legion.testing.index_entries import made_digest, made_snapshot, moment, numbered, registered
from legion.testing.index_model import ModelIndex

_ORIGINS = itertools.count()
_TAGS = ("a", "b", "c")
_NAMES = ("accuracy", "cost", "terms.cost")
_BLOBS = tuple(made_digest(f"blob {name}") for name in "xyz")

tags = st.lists(st.sampled_from(_TAGS), unique=True)
values = st.sampled_from([0, 0.25, 0.5, 1, -3])
measured = st.builds(lambda value, error: {"value": value, "unit": "share", "error": error}, values, values)
metrics = st.dictionaries(st.sampled_from(_NAMES[:2]), values | measured) | st.builds(
    lambda v: {"terms": {"cost": v}}, values
)
provenance = st.fixed_dictionaries(
    {},
    optional={
        "task": st.sampled_from(["movies", "news"]),
        "task_kind": st.just("classification"),
        "commit": st.sampled_from(["abcd" * 10, "abce" * 10]),
        "base": st.sampled_from(["minilm-l6", {"name": "gpt2", "digest": made_digest("gpt2"), "model_type": "gpt2"}]),
        "branch": st.just("main"),
    },
)
comparisons = st.builds(MetricIs, st.sampled_from([*_NAMES, "accuracy.error"]), st.sampled_from(Operator), values)
fields = st.one_of(
    st.builds(FieldIs, st.just(Field.TAG), st.sampled_from(_TAGS)),
    st.builds(FieldIs, st.just(Field.ALIAS), st.sampled_from(["champion", "candidate"])),
    st.builds(FieldIs, st.just(Field.TASK), st.sampled_from(["movies", "classification"])),
    st.builds(FieldIs, st.just(Field.BASE), st.sampled_from(["minilm-l6", made_digest("gpt2")])),
    st.builds(FieldIs, st.just(Field.COMMIT), st.sampled_from(["abc", "abcd", "abcda"])),
    st.builds(FieldIs, st.just(Field.STRATEGY), st.sampled_from(["LoRA", "MoE"])),
    st.builds(FieldIs, st.sampled_from([Field.SINCE, Field.BEFORE]), st.integers(0, 40).map(moment)),
    st.builds(FieldIs, st.just(Field.APPROVED), st.sampled_from(["yes", "no"])),
    st.builds(FieldIs, st.just(Field.VERDICT), st.sampled_from(["pass", "fail", "insufficient"])),
)
leaves = comparisons | fields | st.just(Latest()) | st.builds(RevisionIs, st.sampled_from(Operator), st.integers(1, 3))
terms = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=5,
)


class Comparison(RuleBasedStateMachine):
    """An index beside the model: whatever is applied to both, both answer the same."""

    snapshots = Bundle("snapshots")

    def __init__(self, index) -> None:
        super().__init__()
        self.model, self.index = ModelIndex(), index
        self.pending: list = []

    @initialize(target=snapshots)
    def begin(self):
        return self._register(made_snapshot(0))

    def _register(self, snapshot, key=None):
        self.pending.append(registered(snapshot, key=key))
        return snapshot

    @rule(
        target=snapshots,
        strategy=st.sampled_from(["LoRA", "MoE"]),
        metrics=metrics,
        told=provenance,
        tags=tags,
        blobs=st.lists(st.sampled_from(_BLOBS), unique=True),
        seconds=st.integers(0, 40),
        key=st.sampled_from([None, "k"]),
    )
    def register(self, strategy, metrics, told, tags, blobs, seconds, key):
        files = {f"{place}.json": blob for place, blob in enumerate(blobs)}
        return self._register(
            made_snapshot(seconds, strategy=strategy, metrics=metrics, provenance=told, tags=tags, blobs=files), key
        )

    @rule(target=snapshots, parent=snapshots, metrics=metrics, tags=tags, seconds=st.integers(0, 40))
    def revise(self, parent, metrics, tags, seconds):
        return self._register(made_snapshot(seconds, parent=parent, metrics=metrics, tags=tags))

    @rule(snapshot=snapshots, added=tags, removed=tags)
    def retag(self, snapshot, added, removed):
        self.pending.append(TagsEntry(at=moment(1), snapshot=snapshot.digest, added=added, removed=removed))

    @rule(name=st.sampled_from(["champion", "candidate"]), to=snapshots, before=snapshots, is_away=st.booleans())
    def move_alias(self, name, to, before, is_away):
        target = None if is_away else to.digest
        self.pending.append(AliasEntry(at=moment(1), alias=name, snapshot=target, previous=before.digest))

    @rule(snapshot=snapshots, answer=st.booleans())
    def approve(self, snapshot, answer):
        self.pending.append(ApprovalEntry(at=moment(1), snapshot=snapshot.digest, is_approved=answer))

    @rule(snapshot=snapshots, gate=st.sampled_from("gh"), verdict=st.sampled_from(["pass", "fail", "insufficient"]))
    def judge(self, snapshot, gate, verdict):
        self.pending.append(VerdictEntry(at=moment(1), snapshot=snapshot.digest, gate=gate, verdict=verdict))

    @rule(snapshot=snapshots)
    def roll_out(self, snapshot):
        self.pending.append(RolloutEntry(at=moment(1), snapshot=snapshot.digest, slot="s", event="start", key="r"))

    @rule(blob=st.sampled_from(_BLOBS))
    def delete(self, blob):
        self.pending.append(DeletionEntry(at=moment(1), blob=blob, size_bytes=1, reason="asked"))

    @rule(overlap=st.integers(0, 3))
    def apply(self, overlap):
        start = self.model.position()[0]
        known = [entry for entry, _ in self.model._entries]
        again = min(overlap, start)
        rows = numbered(known[start - again :] + self.pending, start - again)
        self.model.apply(start - again, rows)
        self.index.apply(start - again, rows)
        self.pending.clear()

    @rule(
        term=terms,
        order=st.sampled_from([None, *_NAMES]),
        is_descending=st.booleans(),
        limit=st.sampled_from([None, 0, 1, 3]),
    )
    def ask(self, term, order, is_descending, limit):
        how = {"order": order, "is_descending": is_descending, "limit": limit}
        assert list(self.index.select(Query(term), **how)) == list(self.model.select(Query(term), **how))

    @rule(tags=tags)
    def ask_for_tags(self, tags):
        assert list(self.index.tagged(tags)) == list(self.model.tagged(tags))

    @rule(snapshot=snapshots)
    def ask_about(self, snapshot):
        for asked in (
            lambda index: index.by_digest(snapshot.digest),
            lambda index: index.by_content(content_name(snapshot)),
            lambda index: (index.latest(snapshot.semantic_hash), index.revisions(snapshot.semantic_hash)),
            lambda index: (index.tags(snapshot.digest), index.events(snapshot.digest), index.children(snapshot.digest)),
            lambda index: [
                list(index.select(Query(FieldIs(field, snapshot.digest[7:20]))))
                for field in (Field.DIGEST, Field.PARENT, Field.ANCESTOR)
            ],
        ):
            assert asked(self.index) == asked(self.model)

    @invariant()
    def stands_where_the_model_stands(self):
        for asked in (
            lambda index: index.position(),
            lambda index: list(index.snapshots()),
            lambda index: (index.aliases(), index.metric_names(), index.by_key("k"), index.by_key("r")),
            lambda index: (list(index.referenced_blobs()), index.deleted_blobs()),
        ):
            assert asked(self.index) == asked(self.model)

    def teardown(self):
        self.index.refill(lambda: ())
        self.index.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_an_index_answers_like_plain_dictionaries_whatever_is_applied(kind, request):
    steps = hypothesis.settings(
        max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    with tempfile.TemporaryDirectory() as folder:
        if kind == "sqlite":
            paths = (Path(folder) / f"{number}.sqlite" for number in itertools.count())
            run_state_machine_as_test(lambda: Comparison(open_sqlite_index(next(paths))), settings=steps)
        else:
            url = request.getfixturevalue("postgres_url")
            origin = f"legion.registry/machine-{next(_ORIGINS)}"
            run_state_machine_as_test(lambda: Comparison(open_postgres_index(url, origin=origin)), settings=steps)
