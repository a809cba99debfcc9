"""Steps that are recorded and replayed on CUDA; without such a device only that nobody asks for them there."""

import dataclasses

import pytest
import torch
from tests.packed.harness import (
    CPU,
    Examples,
    Trial,
    advance,
    enter,
    largest_difference,
    tiny_base,
    weights_of,
)

from legion.foundation.errors import UsageError
from legion.neuro_architecture.packed import Dispatch, Pool
from legion.neuro_architecture.packed.dispatch import choose_dispatch
from legion.neuro_architecture.packed.prefix import CacheBudget
from legion.neuro_architecture.packed.recording import Recorder, Studio
from legion.neuro_architecture.spec.architecture import AdapterArchitecture, LoRAArchitecture, MoEArchitecture

STEPS = 12
on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
TRIALS = {
    "lora": Trial(LoRAArchitecture(rank=3)),
    "lora-top": Trial(LoRAArchitecture(rank=5, layers=(2,)), seed=1),
    "bottleneck": Trial(AdapterArchitecture(bottleneck_size=5), seed=2),
    "seq": Trial(AdapterArchitecture(bottleneck_size=8, placement="seq", non_linearity="relu"), seed=3),
    "mixture": Trial(MoEArchitecture(num_experts=3, top_k=2, bottleneck_size=4), seed=4),
    "own-layers": Trial(LoRAArchitecture(rank=3, use_dora=True), seed=6),
}
DROPPED = {"dropped": Trial(LoRAArchitecture(rank=3, dropout=0.3), seed=5)}


def trained(case, trials, device, *, steps=STEPS, **dispatch):
    examples = Examples(*case)
    choices = Dispatch(**({"kernel": "sdpa", "group_blocks": 1000, "group_overhead": 8.0} | dispatch))
    pool = Pool(
        tiny_base(*case),
        key={},
        dispatch=choices,
        device=torch.device(device),
        budget=CacheBudget(memory_bytes=1 << 20),
    )
    enter(pool, trials)
    outcomes = advance(pool, examples, trials, steps)
    return pool, weights_of(pool), outcomes


@on_cuda
@pytest.mark.parametrize("pair", [("bert", "labels"), ("llama", "tokens"), ("gpt2", "labels")], ids="-".join)
def test_replayed_steps_are_the_steps(pair):
    taped, replayed, outcomes = trained(pair, TRIALS, "cuda", graphs=True, length_multiple=8)
    _, stepped, others = trained(pair, TRIALS, "cuda", length_multiple=8)
    recorders = [group._recorder for group in taped._groups.values()]
    assert sum(recorder.num_recorded for recorder in recorders) > 0
    for name in TRIALS:
        assert largest_difference(replayed[name], stepped[name]) <= 1e-6, name
        assert outcomes[name].loss == pytest.approx(others[name].loss, abs=1e-6)
        assert outcomes[name].auxiliary_loss == pytest.approx(others[name].auxiliary_loss, abs=1e-6)


@on_cuda
@pytest.mark.parametrize("pair", [("bert", "labels"), ("llama", "tokens"), ("gpt2", "labels")], ids="-".join)
def test_the_device_ends_as_the_processor(pair, double_norms, monkeypatch):
    """In fp64: in fp32 two devices part by what AdamW makes of rounded gradients. A recorded step takes its rate as
    fp32, which is all that torch's fused AdamW takes, so both get a rate that fp32 holds.
    """
    rate = Trial.rate
    monkeypatch.setattr(Trial, "rate", lambda trial, step: float(torch.tensor(rate(trial, step))))
    _, here, _ = trained(pair, TRIALS, "cpu", group_overhead=0.0, kernel="eager", precision="float64")
    _, there, _ = trained(pair, TRIALS, "cuda", graphs=True, length_multiple=8, kernel="eager", precision="float64")
    for name in TRIALS:
        assert largest_difference(here[name], there[name]) <= 1e-8, name


@on_cuda
def test_what_draws_is_not_recorded_and_a_neighbour_that_goes_changes_nothing():
    case = ("bert", "labels")
    pool, _, _ = trained(case, TRIALS | DROPPED, "cuda", graphs=True)
    assert all(group._recorder is None for group in pool._groups.values())
    pool, _, _ = trained(case, TRIALS, "cuda", graphs=True, length_multiple=8)
    pool.drop(["lora", "seq"])
    rest = {name: trial for name, trial in TRIALS.items() if name not in ("lora", "seq")}
    advance(pool, Examples(*case), rest, 2 * STEPS, first=STEPS)
    _, whole, _ = trained(case, TRIALS, "cuda", steps=2 * STEPS, length_multiple=8)
    for name, weights in weights_of(pool).items():
        assert largest_difference(weights, whole[name]) <= 1e-6, name


@on_cuda
def test_a_step_that_cannot_be_recorded_runs_as_it_is(caplog):
    recorder = Recorder(Studio(torch.device("cuda")))
    for number in range(4):
        given = {"x": torch.full((3, 2), float(number), device="cuda")}
        found = recorder.run(lambda held: held["x"][[0, 2]] + 1.0, given)
        assert found.tolist() == [[number + 1.0] * 2] * 2
    assert recorder.num_recorded == 0
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "steps cannot be recorded and run as they are"
    ]


def test_graphs_on_the_processor_are_refused(settings):
    with pytest.raises(UsageError, match="graphs are recorded on CUDA"):
        choose_dispatch(dataclasses.replace(settings, graphs="on", workers=0), CPU)


def test_graphs_left_off_leave_the_measured_choice(settings):
    assert choose_dispatch(dataclasses.replace(settings, graphs="off"), CPU).graphs is False
