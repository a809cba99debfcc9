import dataclasses

import pytest
import torch
from tests.packed.harness import (
    BATCH_SIZE,
    WIDTH,
    Examples,
    Trial,
    advance,
    enter,
    largest_difference,
    make_pool,
    tiny_base,
    train_alone,
    train_packed,
    weights_of,
)

from legion.neuro_architecture.packed.cut import Cut, Stage
from legion.neuro_architecture.packed.group import Turn
from legion.neuro_architecture.packed.prefix import CacheBudget
from legion.neuro_architecture.packed.sites import Sites
from legion.neuro_architecture.packed.trunk import through
from legion.neuro_architecture.spec.architecture import (
    AdapterArchitecture,
    LoRAArchitecture,
    MoEArchitecture,
    VirtualTokensArchitecture,
)

CASE = ("bert", "labels")
HIGH = {
    "one": Trial(LoRAArchitecture(rank=2, layers=(1, 2)), seed=1),
    "two": Trial(LoRAArchitecture(rank=4, layers=(2,)), seed=2),
    "too": Trial(AdapterArchitecture(bottleneck_size=4, layers=(2,)), seed=3),
}
NOTHING = CacheBudget(memory_bytes=0)
PLENTY = CacheBudget(memory_bytes=1 << 24)


def one_store_bytes(examples, dtype=torch.float32):
    return sum(len(ids) for ids in examples.ids) * WIDTH * dtype.itemsize


def read_store_bytes(examples):
    """Stream and network output at the one position that is read."""
    return len(examples.ids) * 2 * WIDTH * torch.float32.itemsize


def trained(budget, trials=HIGH, steps=12, case=CASE, **choices):
    examples = Examples(*case)
    pool = make_pool(tiny_base(*case), examples, budget=budget, **choices)
    enter(pool, trials)
    advance(pool, examples, trials, steps)
    return pool


def states(pool, examples, numbers, wanted, split="train"):
    inputs = pool.read(examples.collate(numbers))
    cuts = {place if isinstance(place, Cut) else Cut(place): count for place, count in wanted.items()}
    found = pool.prefix.states(split, numbers, inputs, pool._trunk.context(inputs.mask), cuts)
    return {place: found[place if isinstance(place, Cut) else Cut(place)] for place in wanted}, inputs


def same_text(left, right, inputs):
    """Equal bits wherever a token is no padding."""
    is_text = inputs.mask.bool()
    return torch.equal(left[0][is_text], right[0][is_text])


def test_kept_and_computed_states_train_to_the_same_weights():
    kept, computed = trained(PLENTY), trained(NOTHING)
    examples = Examples(*CASE)
    assert kept.prefix.memory_bytes == 2 * one_store_bytes(examples) + read_store_bytes(examples)
    assert computed.prefix.memory_bytes == 0
    for name, weights in weights_of(kept).items():
        assert largest_difference(weights, weights_of(computed)[name]) <= 1e-6


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2", "roberta"])
def test_kept_states_are_the_bits_of_a_pass_over_the_same_chunk(family):
    case = (family, "labels")
    examples = Examples(*case)
    pool = make_pool(tiny_base(*case), examples)
    (chunk,) = examples.kept(pool.read).chunks_of([0])
    found, inputs = states(pool, examples, chunk, {1: 1, 2: 1})
    trunk = pool._trunk
    with torch.no_grad():
        context, x = trunk.context(inputs.mask), trunk.embed(inputs.batch["input_ids"])
        for block in (0, 1):
            x = through(trunk, block, x, context, Sites.none(), None)
            assert same_text(found[block + 1], x, inputs)


def test_states_are_the_same_bits_whatever_was_asked_before():
    examples = Examples(*CASE)
    first, second = (make_pool(tiny_base(*CASE), examples) for _ in range(2))
    states(first, examples, [7], {1: 1})
    states(first, examples, [3, 4, 29], {2: 1})
    found, inputs = states(first, examples, [1, 5, 7, 29], {1: 1, 2: 1})
    expected, _ = states(second, examples, [1, 5, 7, 29], {1: 1, 2: 1})
    assert all(same_text(found[block], expected[block], inputs) for block in (1, 2))


@pytest.mark.parametrize("case_of_padding", [("bert", "labels"), ("llama", "tokens"), ("gpt2", "tokens")])
def test_what_stands_in_the_padding_of_a_state_changes_nothing(case_of_padding):
    examples = Examples(*case_of_padding)
    trial = Trial(LoRAArchitecture(rank=2, layers=(2,)))
    judged = []
    for noise in (0.0, 1e3):
        pool = make_pool(tiny_base(*case_of_padding), examples)
        pool.add("a", trial.architecture, trial.recipe, trial.stream)
        chosen, batch = examples.batch(0)
        inputs = pool.read(batch)
        found, _ = states(pool, examples, chosen, {2: 1})
        x = torch.where(inputs.mask[None, :, :, None] == 0, noise, found[2])
        (group,) = pool._grouped(["a"])
        outcome = group.step(x, pool._trunk.context(inputs.mask), inputs, [Turn(step=0, rate=1e-2)])
        judged.append((outcome[0].loss, outcome[0].gradient_norm))
    assert judged[0] == judged[1]


def test_counts_say_what_members_alone_would_have_run_and_what_ran():
    pool = trained(PLENTY, steps=5)
    # one begins at block 1, one at block 2, one behind the network of block 2; all 30 examples are one chunk, run once
    assert pool.prefix.counts.wanted == 5 * BATCH_SIZE * (1 + 2 + 3)
    assert pool.prefix.counts.computed == 30 * 3
    assert pool.prefix.counts.saved_share == pytest.approx(1 - 90 / 180)


def test_counts_without_a_cache_share_a_batch_s_pass_among_all_that_start_above():
    pool = trained(NOTHING, steps=5)
    assert pool.prefix.counts.wanted == 5 * BATCH_SIZE * 6
    assert pool.prefix.counts.computed == 5 * BATCH_SIZE * 3


def test_nothing_is_wanted_or_kept_where_adapters_begin_at_the_first_block():
    pool = trained(PLENTY, {"low": Trial(LoRAArchitecture(rank=2))}, steps=2)
    assert (pool.prefix.counts.wanted, pool.prefix.counts.computed) == (0, 0)
    assert pool.prefix.counts.saved_share is None
    assert pool.prefix.memory_bytes == 0


def test_blocks_are_run_once_for_all_epochs():
    examples = Examples(*CASE)
    model = tiny_base(*CASE)
    calls = []
    for index, layer in enumerate(model.bert.encoder.layer):
        layer.intermediate.dense.register_forward_hook(
            lambda module, inputs, output, index=index: calls.append((index, inputs[0].requires_grad))
        )
    pool = make_pool(model, examples)
    enter(pool, HIGH)
    advance(pool, examples, HIGH, 15)  # three epochs
    below = [call for call in calls if call[0] == 0]
    assert below == [(0, False)]
    # block 1: once in the prefix, and once a step for the member that begins there, whose input needs no gradient
    assert len([call for call in calls if call[0] == 1]) == 1 + 15


def test_nothing_below_the_lowest_adapter_is_differentiated():
    examples = Examples(*CASE)
    model = tiny_base(*CASE)
    found = {}
    for index, layer in enumerate(model.bert.encoder.layer):
        layer.attention.output.dense.register_forward_hook(
            lambda module, inputs, output, index=index: found.setdefault(index, set()).add(output.requires_grad)
        )
    pool = make_pool(model, examples, budget=NOTHING)
    enter(pool, {"two": HIGH["two"]})
    advance(pool, examples, {"two": HIGH["two"]}, 2)
    assert found[0] == found[1] == {False}


def test_what_does_not_fit_into_memory_goes_to_disk_and_then_nowhere(tmp_path):
    size, least = one_store_bytes(Examples(*CASE)), read_store_bytes(Examples(*CASE))
    spilled = trained(CacheBudget(memory_bytes=size, disk_bytes=size, folder=tmp_path), steps=6)
    assert (spilled.prefix.memory_bytes, spilled.prefix.disk_bytes) == (size, size)
    assert len(list(tmp_path.glob("*.states"))) == 1
    tight = trained(CacheBudget(memory_bytes=least - 1, disk_bytes=least - 1, folder=tmp_path / "none"), steps=6)
    assert (tight.prefix.memory_bytes, tight.prefix.disk_bytes) == (0, 0)
    assert not (tmp_path / "none").exists()
    for name, weights in weights_of(spilled).items():
        assert largest_difference(weights, weights_of(tight)[name]) <= 1e-6


@pytest.fixture
def on_disk(tmp_path):
    return CacheBudget(memory_bytes=0, disk_bytes=1 << 24, folder=tmp_path / "states")


def test_files_are_used_by_the_next_pool_and_give_the_same_bits(on_disk):
    first, second = trained(on_disk, steps=6), trained(on_disk, steps=6)
    in_memory = trained(PLENTY, steps=6)
    assert first.prefix.counts.computed == 90
    assert second.prefix.counts.computed == 0
    assert second.prefix.counts.wanted == first.prefix.counts.wanted
    for name, weights in weights_of(first).items():
        for other in (second, in_memory):
            assert all(torch.equal(weights_of(other)[name][key], item) for key, item in weights.items())


@pytest.mark.parametrize("damage", ["flipped byte", "short file", "no sums", "empty sums"])
def test_a_damaged_file_is_computed_anew(on_disk, damage):
    expected = weights_of(trained(on_disk, steps=3))
    for path in on_disk.folder.glob("*.states"):
        content = bytearray(path.read_bytes())
        if damage == "flipped byte":
            content[100] ^= 0x40
            path.write_bytes(content)
        elif damage == "short file":
            path.write_bytes(content[: len(content) // 3])
        elif damage == "no sums":
            path.with_suffix(".sums").unlink()
        else:
            path.with_suffix(".sums").write_bytes(b"")
    again = trained(on_disk, steps=3)
    assert again.prefix.counts.computed > 0
    assert all(torch.equal(weights_of(again)[name][key], item) for name in HIGH for key, item in expected[name].items())
    assert trained(on_disk, steps=3).prefix.counts.computed == 0  # mended


def test_other_tokens_other_blocks_other_bases_and_other_dtypes_have_files_of_their_own(on_disk):
    examples = Examples(*CASE)

    def files(*, digest="sha256:tiny", key=None, precision="float32", block=1):
        pool = make_pool(tiny_base(*CASE), budget=on_disk, precision=precision)
        pool.prefix._key = {"base": "tiny"} if key is None else key
        pool.prefix.keep("train", examples.kept(pool.read, digest))
        states(pool, examples, [0, 1], {block: 1})
        return pool.prefix.counts.computed, {path.name for path in on_disk.folder.glob("*.states")}

    _, first = files()
    seen = set(first)
    for change in ({"digest": "sha256:other"}, {"key": {"base": "other"}}, {"precision": "bfloat16"}, {"block": 2}):
        computed, found = files(**change)
        assert computed > 0, change
        assert len(found - seen) == 1, change
        seen |= found
    assert files() == (0, seen)


def test_a_split_with_other_tokens_forgets_what_was_kept():
    examples = Examples(*CASE)
    pool = make_pool(tiny_base(*CASE), examples)
    before, inputs = states(pool, examples, [0, 1], {1: 1})
    others = Examples(*CASE, seed=6)
    pool.prefix.keep("train", others.kept(pool.read, "sha256:other"))
    after, other_inputs = states(pool, others, [0, 1], {1: 1})
    fresh, _ = states(make_pool(tiny_base(*CASE), others), others, [0, 1], {1: 1})
    assert same_text(after[1], fresh[1], other_inputs)
    assert pool.prefix.memory_bytes == one_store_bytes(others)
    assert before[1].shape[1] == inputs.num_examples


def test_a_split_that_is_not_kept_is_computed_each_time():
    examples = Examples(*CASE)
    pool = make_pool(tiny_base(*CASE))
    assert not pool.prefix.keeps("train")
    for times in (1, 2):
        states(pool, examples, [0, 1, 2], {2: 3})
        assert pool.prefix.counts.computed == times * 3 * 2


def test_members_that_need_the_first_block_run_beside_those_that_do_not():
    """Prompts and low adapters take no kept state; those above take theirs."""
    case = ("llama", "tokens")
    trials = {
        "prompt": Trial(VirtualTokensArchitecture(strategy="PromptTuning", num_virtual_tokens=3), seed=1),
        "low": Trial(LoRAArchitecture(rank=2), seed=2),
        "high": Trial(LoRAArchitecture(rank=2, layers=(2,)), seed=3),
        "moe": Trial(MoEArchitecture(num_experts=4, bottleneck_size=4, layers=(2,)), seed=4),
    }
    pool = trained(PLENTY, trials, steps=8, case=case)
    forms = pool.report().forms
    assert forms == {"prompt": "whole", "low": "stacked", "high": "stacked", "moe": "stacked"}
    assert pool.prefix.counts.wanted == 8 * BATCH_SIZE * (2 + 3)
    for name, trial in trials.items():
        assert largest_difference(weights_of(pool)[name], train_alone(*case, trial, 8)[0]) <= 1e-5


def test_counts_are_values_of_their_own():
    counts = trained(PLENTY, steps=1).prefix.counts
    assert dataclasses.asdict(counts) == {"computed": 90, "wanted": 36}
    assert counts.saved_share == -1.5  # one step alone pays for the whole chunk


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
def test_states_inside_a_block_are_those_of_a_whole_pass(family):
    """Behind attention, behind the network, and at the read position of the last block, kept or computed."""
    case = (family, "labels")
    examples = Examples(*case)
    cuts = (Cut(1, Stage.ATTENDED), Cut(1, Stage.FED), Cut(2, Stage.ATTENDED, True), Cut(2, Stage.FED, True))
    for pool in (make_pool(tiny_base(*case), examples), make_pool(tiny_base(*case))):
        found, inputs = states(pool, examples, [4, 5, 6], dict.fromkeys(cuts, 1))
        trunk, bare = pool._trunk, Sites.none()
        with torch.no_grad():
            context, x = trunk.context(inputs.mask), trunk.embed(inputs.batch["input_ids"])
            for block in range(3):
                h = trunk.attended(block, x, context, bare, None)
                y = trunk.fed(block, h, bare)
                if block:
                    both = torch.cat((h, y), dim=-1)
                    attended, fed = (found[cut] for cut in cuts if cut.block == block)
                    if block == 2:
                        rows = torch.arange(3), inputs.read_BR[:, 0]
                        torch.testing.assert_close(attended[0, :, 0], h[0][rows], atol=1e-5, rtol=0)
                        torch.testing.assert_close(fed[0, :, 0], both[0][rows], atol=1e-5, rtol=0)
                    else:
                        is_text = inputs.mask.bool()
                        torch.testing.assert_close(attended[0][is_text], h[0][is_text], atol=1e-5, rtol=0)
                        torch.testing.assert_close(fed[0][is_text], both[0][is_text], atol=1e-5, rtol=0)
                x = trunk.joined(block, h, y, bare)


@pytest.mark.parametrize(
    ("architecture", "cut"),
    [
        (LoRAArchitecture(rank=2, layers=(1, 2)), Cut(1)),
        (LoRAArchitecture(rank=2, layers=(1, 2), target_modules=("intermediate.dense",)), Cut(1, Stage.ATTENDED)),
        (LoRAArchitecture(rank=2, layers=(2,), target_modules=("intermediate.dense",)), Cut(2, Stage.ATTENDED, True)),
        (AdapterArchitecture(bottleneck_size=4, layers=(1, 2)), Cut(1, Stage.FED)),
        (AdapterArchitecture(bottleneck_size=4, placement="seq", layers=(2,)), Cut(2, Stage.FED, True)),
        (MoEArchitecture(num_experts=4, bottleneck_size=4, layers=(2,)), Cut(2, Stage.FED)),  # balanced: reads all
        (
            MoEArchitecture(num_experts=2, top_k=1, bottleneck_size=4, layers=(2,), routing="random"),
            Cut(2, Stage.FED, True),
        ),
    ],
)
def test_a_member_begins_before_the_first_thing_that_it_changes(architecture, cut):
    trial = Trial(architecture)
    examples = Examples(*CASE)
    pool = make_pool(tiny_base(*CASE), examples)
    assert pool.add("a", architecture, trial.recipe, trial.stream).cut == cut
    packed, _ = train_packed(*CASE, {"a": trial}, 4)
    assert largest_difference(packed["a"], train_alone(*CASE, trial, 4)[0]) <= 1e-5
