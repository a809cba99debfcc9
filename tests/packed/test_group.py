"""What a step computes, and what it leaves out."""

import pytest
import torch
from tests.packed.harness import (
    BATCH_SIZE,
    CPU,
    NUM_BLOCKS,
    Examples,
    Trial,
    advance,
    enter,
    largest_difference,
    make_pool,
    tiny_base,
    train_alone,
    weights_of,
    zoo_trials,
)

from legion.foundation.errors import AdapterError
from legion.neuro_architecture.adapters import save_adapter
from legion.neuro_architecture.packed.group import Turn
from legion.neuro_architecture.spec.architecture import (
    AdapterArchitecture,
    LoRAArchitecture,
    MoEArchitecture,
    SplitArchitecture,
)
from legion.neuro_architecture.spec.proposal import BaseReference

BALANCED = MoEArchitecture(num_experts=4, top_k=2, bottleneck_size=4, load_balancing_coefficient=0.5)


def opened(case, trials, model=None, **choices):
    examples = Examples(*case)
    pool = make_pool(model or tiny_base(*case), examples, **choices)
    enter(pool, trials)
    return pool, examples


def shapes_into(module):
    """Shapes of everything that a module is given, as a list that fills."""
    found = []
    module.register_forward_hook(lambda _, inputs, __: found.append(tuple(inputs[0].shape)))
    return found


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_language_model_logits_are_computed_only_where_labels_count(family):
    model = tiny_base(family, "tokens")
    given = shapes_into(model.lm_head)
    trials = {"a": Trial(LoRAArchitecture(rank=2)), "b": Trial(LoRAArchitecture(rank=3), seed=1)}
    pool, examples = opened((family, "tokens"), trials, model)
    chosen, batch = examples.batch(0)
    num_targets = sum(examples.labels[example] for example in chosen)
    assert num_targets < batch["attention_mask"].sum() / 3
    pool.step("train", chosen, pool.read(batch), {name: Turn(step=0, rate=1e-3) for name in trials})
    assert [shape[0] for shape in given] == [num_targets] * len(trials)


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
def test_last_block_computes_only_what_a_classifier_reads(family):
    model = tiny_base(family, "labels")
    paths = {"bert": "bert.encoder.layer", "llama": "model.layers", "gpt2": "transformer.h"}
    inner = {
        "bert": lambda block: block.intermediate.dense,
        "llama": lambda block: block.mlp.up_proj,
        "gpt2": lambda block: block.mlp.c_fc,
    }
    given = [shapes_into(inner[family](block)) for block in model.get_submodule(paths[family])]
    pool, examples = opened((family, "labels"), {"a": Trial(LoRAArchitecture(rank=2))}, model)
    chosen, batch = examples.batch(0)
    length = batch["input_ids"].shape[1]
    pool.step("train", chosen, pool.read(batch), {"a": Turn(step=0, rate=1e-3)})
    assert [shapes[0][1:3] for shapes in given] == [(BATCH_SIZE, length)] * (NUM_BLOCKS - 1) + [(BATCH_SIZE, 1)]


def test_last_block_computes_as_many_positions_as_the_row_with_most_targets():
    model = tiny_base("llama", "tokens")
    given = shapes_into(model.model.layers[-1].mlp.up_proj)
    pool, examples = opened(("llama", "tokens"), {"a": Trial(AdapterArchitecture(bottleneck_size=4))}, model)
    chosen, batch = examples.batch(0)
    pool.step("train", chosen, pool.read(batch), {"a": Turn(step=0, rate=1e-3)})
    assert given[0][1:3] == (BATCH_SIZE, max(examples.labels[example] for example in chosen))


@pytest.mark.parametrize("case_of_balance", [("bert", "labels"), ("llama", "tokens")])
def test_balance_is_taken_over_all_tokens_of_the_last_block_too(case_of_balance):
    trials = {
        "balanced": Trial(BALANCED),
        "free": Trial(BALANCED.model_copy(update={"load_balancing": False}), seed=1),
        "last": Trial(BALANCED.model_copy(update={"layers": (2,)}), seed=2),
        "first": Trial(BALANCED.model_copy(update={"layers": (0,)}), seed=3),
    }
    pool, examples = opened(case_of_balance, trials)
    reads_all = {member.name: member.reads_all for member in pool.members}
    assert reads_all == {"balanced": True, "free": False, "last": True, "first": False}
    outcomes = advance(pool, examples, trials, 6)
    assert outcomes["free"].auxiliary_loss is None
    for name, trial in trials.items():
        alone, last = train_alone(*case_of_balance, trial, 6)
        assert outcomes[name].auxiliary_loss == pytest.approx(last["auxiliary_loss"], abs=1e-6)
        assert largest_difference(weights_of(pool)[name], alone) <= 1e-5


def test_sparse_routing_of_all_blocks_is_balanced_over_all_tokens():
    trials = {
        "sparse": Trial(SplitArchitecture(strategy="SparseRouting", rank=2, load_balancing_coefficient=0.5)),
        "kept": Trial(SplitArchitecture(strategy="SplitLayer", rank=2), seed=1),
    }
    pool, examples = opened(("llama", "labels"), trials)
    outcomes = advance(pool, examples, trials, 4)
    _, last = train_alone("llama", "labels", trials["sparse"], 4)
    assert outcomes["sparse"].auxiliary_loss == pytest.approx(last["auxiliary_loss"], abs=1e-6)
    assert outcomes["kept"].auxiliary_loss is None


@pytest.mark.parametrize(
    ("pair", "names"),
    [
        (("bert", "labels"), ("lora", "seq", "moe", "moe-random", "dora")),
        (("llama", "tokens"), ("lora-patterns", "sparse", "prompt", "prefix", "seq_layer")),
        (("roberta", "labels"), ("par",)),
    ],
    ids=["bert", "llama", "roberta"],
)
@torch.no_grad()
def test_measuring_gives_what_the_member_s_own_model_says(pair, names):
    trials = zoo_trials(*pair, names)
    pool, examples = opened(pair, trials)
    with torch.enable_grad():
        advance(pool, examples, trials, 3)
    chosen, batch = examples.batch(5)
    judged = pool.measure("train", chosen, pool.read(batch), list(trials))
    for member in pool.members:
        model = member.model.eval()
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        if pair[1] == "labels":
            targets = batch["labels"]
            torch.testing.assert_close(judged[member.name].logits_NC, logits, atol=1e-5, rtol=0)
        else:
            is_target = batch["labels"][:, 1:] != -100
            logits, targets = logits[:, :-1][is_target], batch["labels"][:, 1:][is_target]
            assert judged[member.name].logits_NC is None
        expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none").double()
        torch.testing.assert_close(judged[member.name].losses_N, expected, atol=1e-5, rtol=0)
        assert torch.equal(judged[member.name].is_hit_N, logits.argmax(-1) == targets)


def test_measuring_leaves_no_trace():
    trials = zoo_trials("bert", "labels", ("lora", "moe", "moe-random", "dora")) | {
        "dropped": Trial(LoRAArchitecture(rank=2, dropout=0.5), seed=9)
    }
    found = []
    for measures in (False, True):
        pool, examples = opened(("bert", "labels"), trials)
        for step in range(4):
            advance(pool, examples, trials, step + 1, first=step)
            if measures:
                chosen, batch = examples.batch(9)
                pool.measure("train", chosen, pool.read(batch), list(trials))
        found.append(weights_of(pool))
    assert all(torch.equal(found[1][name][key], item) for name in trials for key, item in found[0][name].items())


def test_a_batch_without_labels_can_be_judged():
    pool, examples = opened(("bert", "labels"), {"a": Trial(LoRAArchitecture(rank=2))})
    chosen, batch = examples.batch(0)
    labelled = pool.measure("train", chosen, pool.read(batch), ["a"])["a"].logits_NC
    del batch["labels"]
    assert torch.equal(pool.measure("train", chosen, pool.read(batch), ["a"])["a"].logits_NC, labelled)


def test_base_weights_are_shared_by_all_members_and_never_change():
    model = tiny_base("llama", "labels")
    before = {name: item.clone() for name, item in model.state_dict().items()}
    trials = zoo_trials("llama", "labels", ("lora", "par", "moe", "split", "dora", "OFT"))
    pool, examples = opened(("llama", "labels"), trials, model)
    advance(pool, examples, trials, 3)
    assert all(torch.equal(item, before[name]) for name, item in model.state_dict().items())
    memory = {item.data_ptr() for name, item in model.named_parameters() if not name.startswith("score")}
    for member in pool.members:
        frozen = {item.data_ptr() for item in member.model.parameters() if not item.requires_grad and item.dim() > 0}
        assert memory <= frozen


def test_whole_groups_run_beside_packed_ones_on_several_threads_to_the_same_bits():
    trials = zoo_trials("llama", "tokens", ("lora", "prompt", "prefix", "moe", "split"))
    found = []
    for workers in (1, 3):
        pool, examples = opened(("llama", "tokens"), trials, workers=workers)
        advance(pool, examples, trials, 5)
        pool.close()
        found.append(weights_of(pool))
    assert all(torch.equal(found[1][name][key], item) for name in trials for key, item in found[0][name].items())


def test_groups_hold_as_many_blocks_as_the_machine_says():
    trials = {f"m{number}": Trial(LoRAArchitecture(rank=2, layers=(1, 2)), seed=number) for number in range(5)}
    for group_blocks, sizes in ((1, [1] * 5), (5, [2, 2, 1]), (100, [5])):
        pool, examples = opened(("bert", "labels"), trials, group_blocks=group_blocks)
        advance(pool, examples, trials, 1)
        assert [len(group) for group in pool.report().groups] == sizes


def test_stored_adapter_is_judged_as_the_trained_one(tmp_path):
    reference = BaseReference(name="tiny", digest="sha256:" + "0" * 64, model_type="bert")
    trials = zoo_trials("bert", "labels", ("lora-patterns", "moe"))
    pool, examples = opened(("bert", "labels"), trials)
    advance(pool, examples, trials, 4)
    chosen, batch = examples.batch(0)
    expected = pool.measure("train", chosen, pool.read(batch), list(trials))
    other, _ = opened(("bert", "labels"), {})
    for member in pool.members:
        save_adapter(member.model, tmp_path / member.name, base=reference)
        other.load(member.name, tmp_path / member.name, reference)
    found = other.measure("train", chosen, other.read(batch), list(trials))
    for name in trials:
        torch.testing.assert_close(found[name].logits_NC, expected[name].logits_NC, atol=1e-6, rtol=0)
    with pytest.raises(AdapterError):
        other.load("again", tmp_path / "lora-patterns", reference.model_copy(update={"digest": "sha256:" + "1" * 64}))
    assert other.device == CPU


def test_an_architecture_that_does_not_fit_is_refused_and_leaves_the_pool_as_it_was():
    pool, examples = opened(("bert", "labels"), {"a": Trial(LoRAArchitecture(rank=2))})
    with pytest.raises(AdapterError):
        pool.add("b", LoRAArchitecture(rank=2, layers=(9,)), Trial(None).recipe, Trial(None).stream)
    assert [member.name for member in pool.members] == ["a"]
    advance(pool, examples, {"a": Trial(LoRAArchitecture(rank=2))}, 1)
