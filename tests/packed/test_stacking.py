import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.packed.harness import Examples, Trial, advance, enter, make_pool, tiny_base
from torch import nn

from legion.neuro_architecture.packed.stacking import Arena, Stack, own_piece
from legion.neuro_architecture.spec.architecture import AdapterArchitecture, LoRAArchitecture

widths = st.lists(st.integers(1, 6), min_size=1, max_size=5)


def drawn(rows, columns, seed):
    return nn.Parameter(torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)))


@settings(max_examples=40, deadline=None)
@given(widths, st.integers(1, 4), st.booleans())
def test_stacking_keeps_every_weight_and_pads_with_zeros(rows, columns, is_transposed):
    weights = [drawn(count, columns, seed) for seed, count in enumerate(rows)]
    parameters = [nn.Parameter(item.data.T.clone()) if is_transposed else item for item in weights]
    before = [item.detach().clone() for item in parameters]
    stack = Stack(parameters, Arena().gradients(), is_transposed=is_transposed)
    assert stack.leaf.shape == (len(rows), max(rows), columns)
    for place, (count, old, now) in enumerate(zip(rows, before, parameters, strict=True)):
        assert torch.equal(now.data, old)
        assert stack.pieces[place].parameter is now
        assert torch.equal(stack.pieces[place].oriented(stack.pieces[place].weight), old)
        assert not stack.leaf.data[place, count:].any()


@settings(max_examples=40, deadline=None)
@given(widths, st.booleans())
def test_a_stacked_parameter_and_its_part_of_the_stack_are_one_memory(rows, is_transposed):
    parameters = [drawn(count, 3, seed) for seed, count in enumerate(rows)]
    if is_transposed:
        parameters = [nn.Parameter(item.data.T.clone()) for item in parameters]
    stack = Stack(parameters, Arena().gradients(), is_transposed=is_transposed)
    stack.leaf.grad.zero_()
    (stack.leaf * torch.arange(1.0, len(rows) + 1)[:, None, None]).sum().backward()
    for place, (parameter, piece) in enumerate(zip(parameters, stack.pieces, strict=True)):
        assert (piece.gradient == place + 1).all()
        assert piece.weight.is_contiguous()
        parameter.data.fill_(9.0)
        assert (piece.weight == 9.0).all()
        assert (stack.leaf.data[place, : rows[place]] == 9.0).all()


def test_weights_of_other_trailing_sizes_are_refused():
    with pytest.raises(RuntimeError):
        Stack([drawn(2, 3, 0), drawn(2, 4, 1)], Arena().gradients())


def test_a_weight_that_is_not_stacked_keeps_its_gradient_s_place():
    parameter = drawn(2, 3, 0)
    piece = own_piece(parameter, Arena().gradients())
    piece.gradient.zero_()
    (parameter * 2).sum().backward()
    assert parameter.grad is piece.gradient
    assert (piece.gradient == 2).all()


@pytest.fixture
def mixed():
    """Ranks of every size in one group and widths of every size in another, trained for a few steps."""
    trials = {
        f"r{rank}": Trial(LoRAArchitecture(rank=rank, target_modules=names), seed=rank)
        for rank, names in (
            (2, ("all-linear",)),
            (7, ("query", "value")),
            (16, ("all-linear",)),
            (3, ("output.dense", "key")),
        )
    }
    trials |= {
        f"w{width}": Trial(AdapterArchitecture(bottleneck_size=width, is_gated=gated, placement=placement), seed=width)
        for width, gated, placement in (
            (1, False, "par"),
            (9, False, "par"),
            (5, True, "par"),
            (12, True, "par"),
            (4, False, "seq"),
            (6, False, "seq"),
        )
    }
    examples = Examples("bert", "labels")
    pool = make_pool(tiny_base("bert", "labels"), examples, group_blocks=100)
    enter(pool, trials)
    advance(pool, examples, trials, 6)
    return pool, examples, trials


def test_all_of_a_kind_stand_in_one_group(mixed):
    pool, _, trials = mixed
    groups = {frozenset(group) for group in pool.report().groups}
    assert groups == {frozenset(name for name in trials if name[0] == kind) for kind in "rw"}


def stacks_of(pool):
    """Each memory that members' weights lie in, as one flat tensor, with the weights that lie there."""
    found = {}
    for member in pool.members:
        for parameter in member.parameters.values():
            storage = parameter.untyped_storage()
            whole = torch.empty(0, dtype=parameter.dtype).set_(storage)
            found.setdefault(storage.data_ptr(), (whole, []))[1].append(parameter)
    return list(found.values())


def test_padding_stays_exactly_zero_while_its_neighbours_move(mixed):
    pool, _, _ = mixed
    num_padded = 0
    for whole, parameters in stacks_of(pool):
        kept = [parameter.detach().clone() for parameter in parameters]
        for parameter in parameters:
            parameter.data.zero_()
        assert not whole.any(), "something beside the members' weights is no longer zero"
        num_padded += whole.numel() - sum(item.numel() for item in kept)
        for parameter, item in zip(parameters, kept, strict=True):
            parameter.data.copy_(item)
    assert num_padded > 1000


def test_member_s_weights_are_views_of_stacks_that_neighbours_share(mixed):
    pool, _, _ = mixed
    shared = [parameters for _, parameters in stacks_of(pool) if len(parameters) > 1]
    assert len(shared) > 10
    member = next(member for member in pool.members if member.name == "r7")
    before = member.weights()
    member.set_weights({name: item + 1.0 for name, item in before.items()})
    assert all(torch.equal(item, before[name] + 1.0) for name, item in member.weights().items())
    modules = dict(member.model.named_parameters())
    assert all(torch.equal(modules[name].data, before[name] + 1.0) for name in before)


def test_moments_survive_a_change_of_company(mixed):
    pool, examples, trials = mixed
    member = next(member for member in pool.members if member.name == "r2")
    moments = {
        name: {key: item.clone() for key, item in state.items()} for name, state in member.optimizer.moments().items()
    }
    assert moments.keys() == member.parameters.keys()
    assert all(state["exp_avg"].shape == member.parameters[name].shape for name, state in moments.items())
    pool.drop(["r16", "w9"])
    rest = {name: trial for name, trial in trials.items() if name not in {"r16", "w9"}}
    examples_of, batch = examples.batch(0)
    pool.measure("train", examples_of, pool.read(batch), list(rest))  # regroups without a step
    now = member.optimizer.moments()
    assert all(torch.equal(now[name][key], item) for name, state in moments.items() for key, item in state.items())
    advance(pool, examples, rest, 7, first=6)
    after = member.optimizer.moments()
    assert all(int(state["step"]) == 7 for state in after.values())
    assert any(not torch.equal(after[name]["exp_avg"], moments[name]["exp_avg"]) for name in moments)


def test_dropping_members_compacts_the_stacks(mixed):
    pool, examples, trials = mixed
    size = sum(whole.numel() for whole, _ in stacks_of(pool))
    gone = ["r16", "w12", "w9"]
    pool.drop(gone)
    rest = {name: trial for name, trial in trials.items() if name not in gone}
    advance(pool, examples, rest, 7, first=6)
    assert {name for group in pool.report().groups for name in group} == set(rest)
    assert len(pool.report().groups) == 2
    assert sum(whole.numel() for whole, _ in stacks_of(pool)) < 0.6 * size


def test_moments_go_out_and_come_back_as_they_were(mixed):
    pool, examples, trials = mixed
    member = next(member for member in pool.members if member.name == "w5")
    moments = {
        name: {key: item.clone() for key, item in state.items()} for name, state in member.optimizer.moments().items()
    }
    weights = member.weights()
    advance(pool, examples, trials, 8, first=6)
    ahead = member.weights()
    member.set_weights(weights)
    member.optimizer.set_moments(moments)
    advance(pool, examples, {"w5": trials["w5"]}, 8, first=6)
    again = member.weights()
    assert all((again[name] - ahead[name]).abs().max() <= 1e-6 for name in ahead)
    member.optimizer.set_moments({})
    assert member.optimizer.moments() == {}


def test_groups_share_the_memory_of_their_gradients_and_it_grows_under_them():
    arena = Arena()
    small, large = arena.gradients(), arena.gradients()
    first = small.of(torch.zeros(3, 5))
    second = small.of(torch.zeros(2, dtype=torch.float64))
    first.fill_(1.0)
    second.fill_(2.0)
    assert (first == 1.0).all()
    whole = large.of(torch.zeros(1000))
    assert whole.data_ptr() == first.data_ptr()
    assert (whole[:15] == 1.0).all()
    whole.fill_(3.0)
    assert (first == 3.0).all()
    assert first.shape == (3, 5)
    assert second.dtype == torch.float64
