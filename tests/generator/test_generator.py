from __future__ import annotations

import itertools
import shutil
from collections import Counter

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from legion.foundation.errors import InvalidValueError, ModelError, NotPortableError, UnknownNameError
from legion.neuro_architecture.adapters import build_adapter, trainable_parameters
from legion.neuro_architecture.anatomy import inspect_model
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.generator import ArchitectureGenerator
from legion.neuro_architecture.portability.base_facts import read_base_facts
from legion.neuro_architecture.portability.plan import plan
from legion.neuro_architecture.records import ProposalStore
from legion.neuro_architecture.space import SearchSpace, find_mistakes
from legion.neuro_architecture.spec.architecture import DEFAULT_STRATEGIES, strategy_names
from legion.neuro_architecture.spec.proposal import ArchitectureProposal
from legion.neuro_architecture.spec.task import TaskSpec
from legion.testing import tiny_model

SUBSETS = [subset for count in (1, 2, 3) for subset in itertools.combinations(DEFAULT_STRATEGIES, count)]


def stored_bytes(settings) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in ProposalStore(settings).folder.glob("*.json")}


@pytest.mark.parametrize("strategies", SUBSETS, ids="+".join)
def test_strategies_take_even_turns(generator, strategies):
    proposals = generator().generate("classification", 7, strategies)
    counts = Counter(proposal.strategy for proposal in proposals)
    assert set(counts) == set(strategies)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_first_round_is_the_known_good_default_of_each_strategy(generator, tiny_folders, ready):
    proposals = generator(seed=9).generate("classification", 3)
    base = resolve_base(str(tiny_folders["bert"]), ready)
    space = SearchSpace(inspect_model(base.load_meta("classification")), DEFAULT_STRATEGIES)
    assert [proposal.architecture for proposal in proposals] == [space.default(name) for name in space.strategies]


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
@pytest.mark.parametrize("task", ["classification", "summarization"])
def test_proposals_are_valid_distinct_and_can_be_built(generator, tiny_folders, ready, family, task):
    if (family, task) == ("bert", "summarization"):
        with pytest.raises(ModelError):
            generator(family=family).generate(task, 1)
        return
    proposals = generator(family=family).generate(task, 9)
    base = resolve_base(str(tiny_folders[family]), ready)
    spec = TaskSpec(name=task, kind=task, labels=("a", "b") if task == "classification" else ())
    anatomy = inspect_model(base.load_meta(task))
    assert len({proposal.semantic_hash for proposal in proposals}) == len({p.id for p in proposals}) == 9
    for proposal in proposals:
        assert find_mistakes(proposal.architecture, anatomy) == []
        adapted = build_adapter(proposal.architecture).apply(base.load(spec))
        real = sum(parameter.numel() for parameter in trainable_parameters(adapted).values())
        assert proposal.trainable_parameters == real
        assert proposal.expected_flops > 0
        assert proposal.expected_latency_ms > 0
        assert 0.0 <= proposal.risk_score <= 1.0


def test_same_seed_stores_the_same_bytes(generator, ready):
    generator(seed=3).generate("classification", 8)
    first = stored_bytes(ready)
    shutil.rmtree(ProposalStore(ready).folder)
    generator(seed=3).generate("classification", 8)
    assert stored_bytes(ready) == first
    assert len(first) == 8


def test_other_seed_proposes_other_architectures(generator):
    first, other = (
        {proposal.semantic_hash for proposal in generator(seed=seed).generate("classification", 12)} for seed in (1, 2)
    )
    assert first != other


def test_order_of_strategies_does_not_matter(generator):
    one = generator().generate("classification", 6, ["MoE", "LoRA"])
    other = generator().generate("classification", 6, ["LoRA", "MoE"])
    assert one == other


def test_larger_n_begins_with_the_smaller_ones(generator):
    few = generator().generate("classification", 4)
    many = generator().generate("classification", 10)
    assert many[:4] == few


def test_other_strategies_do_not_shift_the_draws_of_one(generator):
    alone = generator().generate("classification", 4, ["Adapter"])
    together = generator().generate("classification", 12)
    assert [proposal for proposal in together if proposal.strategy == "Adapter"] == alone


def test_stored_proposals_are_found_by_id(generator, ready):
    proposals = generator().generate("classification", 5)
    store = ProposalStore(ready)
    assert sorted(proposal.id for proposal in proposals) == store.ids()
    assert [store.load(proposal.id) for proposal in proposals] == proposals


def test_id_is_the_content_name_and_holds_no_seed(generator):
    one, other = (generator(seed=seed).generate("classification", 1)[0] for seed in (1, 2))
    assert one.id == other.id == ArchitectureProposal.id_of(one.task, one.base, one.architecture, one.training)
    assert (one.seed, other.seed) == (1, 2)


def test_whole_space_can_be_proposed_and_no_more(ready, tmp_path):
    folder = tiny_model(tmp_path / "narrow", "bert", hidden_size=12, num_layers=1)
    base = resolve_base(str(folder), ready)
    size = SearchSpace(inspect_model(base.load_meta("classification")), ["Adapter"]).size()
    generator = ArchitectureGenerator(settings=ready)
    proposals = generator.generate("classification", size, ["Adapter"], base=str(folder))
    assert len({proposal.semantic_hash for proposal in proposals}) == size
    with pytest.raises(InvalidValueError, match=f"more than the {size} distinct architectures of Adapter") as caught:
        generator.generate("classification", size + 1, ["Adapter"], base=str(folder))
    assert caught.value.hint


def test_unnamed_strategies_are_the_three_defaults(generator):
    proposals = generator().generate("classification", 6)
    assert {proposal.strategy for proposal in proposals} == set(DEFAULT_STRATEGIES)


def test_every_strategy_is_proposed_on_a_model_that_can_take_it(generator, ready):
    names = strategy_names()
    proposals = generator(family="llama").generate("summarization", len(names), names)
    assert [proposal.strategy for proposal in proposals] == list(names)
    assert [ProposalStore(ready).load(proposal.id) for proposal in proposals] == proposals


def test_strategies_that_do_not_fit_the_base_are_named_with_their_reasons(generator, ready):
    with pytest.raises(InvalidValueError, match="SplitLayer, PromptTuning cannot be proposed") as caught:
        generator().generate("classification", 3, ["LoRA", "PromptTuning", "SplitLayer"])
    assert "SplitLayer: SplitLayer cuts gated feed-forward networks" in (caught.value.cause or "")
    assert "PromptTuning: PromptTuning stands before a text" in (caught.value.cause or "")
    assert caught.value.hint
    assert ProposalStore(ready).ids() == []


@pytest.fixture(scope="module")
def servable_llama(tmp_path_factory):
    """A tiny Llama whose attention heads are as wide as vLLM wants them."""
    return str(tiny_model(tmp_path_factory.mktemp("servable") / "llama", "llama", hidden_size=128, num_layers=2))


@pytest.mark.parametrize("target", ["peft", "transformers", "vllm", "llama.cpp", "ollama"])
def test_what_is_proposed_for_a_target_can_be_served_there(generator, servable_llama, ready, target):
    """No strategy is missing of which the unconstrained search finds something servable."""
    names = [name for name in strategy_names() if name not in DEFAULT_STRATEGIES]
    wanted = {"strategies": [*DEFAULT_STRATEGIES, *names], "base": servable_llama}
    facts = read_base_facts(resolve_base(servable_llama, ready), "summarization")
    proposals = generator().generate("summarization", 40, target=target, **wanted)
    assert all(plan(proposal.architecture, facts, target).is_possible for proposal in proposals)
    unconstrained = generator().generate("summarization", 40, **wanted)
    possible = [proposal for proposal in unconstrained if plan(proposal.architecture, facts, target).is_possible]
    assert {proposal.strategy for proposal in possible} <= {proposal.strategy for proposal in proposals}
    if possible == unconstrained:
        assert proposals == unconstrained


def test_virtual_tokens_leave_their_turns_to_others_where_no_server_takes_them(generator):
    proposals = generator(family="llama").generate("summarization", 6, ["LoRA", "PrefixTuning"], target="llama.cpp")
    assert {proposal.strategy for proposal in proposals} == {"LoRA"}


def test_target_that_can_serve_nothing_is_refused_with_the_first_reason(generator, ready):
    with pytest.raises(NotPortableError, match="vllm can serve none of LoRA, Adapter, MoE") as caught:
        generator().generate("classification", 3, target="vllm")
    assert caught.value.exit_code == 1
    assert caught.value.cause == "LoRA: vllm answers with text, and this model classifies"
    assert caught.value.hint
    assert ProposalStore(ready).ids() == []


def test_unknown_target_is_refused_with_a_hint(generator):
    with pytest.raises(UnknownNameError, match="unknown target 'vlm'") as caught:
        generator().generate("classification", 3, target="vlm")
    assert "vllm" in (caught.value.hint or "")


def test_target_does_not_change_what_a_proposal_is(generator):
    """A proposal's id and content are those it would have without the constraint."""
    plain = {proposal.id: proposal for proposal in generator(family="llama").generate("summarization", 9)}
    bound = generator(family="llama").generate("summarization", 9, target="peft")
    common = [proposal for proposal in bound if proposal.id in plain]
    assert common
    assert all(plain[proposal.id] == proposal for proposal in common)


@hypothesis_settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(), n=st.integers(1, 30))
def test_no_two_proposals_are_semantically_equal(generator, seed, n):
    proposals = generator(seed=seed).generate("classification", n)
    assert len({proposal.semantic_hash for proposal in proposals}) == n


@pytest.mark.parametrize("n", [0, -1, True, 2.0, "3"])
def test_n_that_counts_nothing_is_refused_with_a_hint(generator, n):
    with pytest.raises(InvalidValueError, match="n cannot be") as caught:
        generator().generate("classification", n)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("strategies", "error", "message"),
    [
        (["LoRa"], UnknownNameError, "unknown strategy 'LoRa'"),
        (["LoRA", "LoRA"], InvalidValueError, "named twice: LoRA"),
        ([], InvalidValueError, "strategies cannot be"),
        ("LoRA,MoE", InvalidValueError, "strategies cannot be 'LoRA,MoE'"),
    ],
)
def test_wrong_strategies_are_refused_with_a_hint(generator, ready, strategies, error, message):
    with pytest.raises(error, match=message) as caught:
        generator().generate("classification", 3, strategies)
    assert caught.value.hint
    assert ProposalStore(ready).ids() == []


def test_default_settings_are_those_of_the_current_folder(ready, tiny_folders):
    proposals = ArchitectureGenerator(seed=42).generate("classification", 2, base=str(tiny_folders["bert"]))
    assert ProposalStore(ready).ids() == sorted(proposal.id for proposal in proposals)
