"""Many adapters asked in one pass answer as each does alone."""

from __future__ import annotations

import pytest
import torch

from legion.neuro_architecture.adapters import build_adapter, load_adapter, save_adapter, trainable_parameters
from legion.neuro_architecture.data.base_models import resolve_base
from legion.neuro_architecture.data.datasets import read_data
from legion.neuro_architecture.data.encoding import TaskEncoder
from legion.neuro_architecture.evaluator import MultiObjectiveEvaluator
from legion.neuro_architecture.evaluator.inference import Classifier
from legion.neuro_architecture.evaluator.packed import PackedClassifier
from legion.neuro_architecture.evaluator.workbench import Workbench
from legion.neuro_architecture.packed import Dispatch
from legion.neuro_architecture.spec.architecture import (
    AdapterArchitecture,
    LoRAArchitecture,
    MoEArchitecture,
    PeftArchitecture,
    SplitArchitecture,
)
from legion.neuro_architecture.spec.training import TrialState
from legion.testing import TINY_FAMILIES, tiny_classification

ALL = ["artifacts/proxy_runs/*/metrics.json"]
ARCHITECTURES = {
    "lora": LoRAArchitecture(rank=2),
    "lora upper": LoRAArchitecture(rank=5, layers=(2,)),
    "dora": LoRAArchitecture(rank=2, use_dora=True, layers=(1, 2)),
    "par": AdapterArchitecture(bottleneck_size=4),
    "seq": AdapterArchitecture(bottleneck_size=6, placement="seq", layers=(1, 2)),
    "seq_layer": AdapterArchitecture(bottleneck_size=3, placement="seq_layer", layers=(2,)),
    "moe": MoEArchitecture(num_experts=3, top_k=2, bottleneck_size=2),
    "adamix": MoEArchitecture(num_experts=3, top_k=1, bottleneck_size=2, routing="random", layers=(2,)),
    "sparse": SplitArchitecture(strategy="SparseRouting", num_experts=2, rank=2, layers=(1, 2)),
    "ia3": PeftArchitecture(strategy="IA3"),
}
NOT_TAKEN = {("seq_layer", "bert"), ("sparse", "bert"), ("sparse", "gpt2")}


class Bench:
    """A base of a family, stored adapters on it, and texts of many lengths."""

    def __init__(self, settings, base_folder, family) -> None:
        self.settings = settings
        self.base = resolve_base(str(base_folder), settings)
        self.data = read_data(tiny_classification(settings.workspace / "data" / family))
        self.encoder = TaskEncoder(self.base.tokenizer(), self.data.spec, max_tokens=self.base.max_tokens)
        rows = [example.text for example in (*self.data.test, *self.data.validation)]
        self.texts = rows + [" ".join([row] * 3) for row in rows[:5]] + ["good", "very bad", "good", rows[0]]

    def store(self, name, architecture):
        """An adapter folder with weights that matter."""
        folder = self.settings.workspace / "adapters" / name
        model = build_adapter(architecture).apply(self.load(), seed=1)
        generator = torch.Generator().manual_seed(len(name))
        with torch.no_grad():
            for parameter in trainable_parameters(model).values():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        save_adapter(model, folder, base=self.base.reference)
        return folder

    def load(self):
        return self.base.load(self.data.spec, seed=1)

    def alone(self, folder):
        model = load_adapter(self.load(), folder, base=self.base.reference).eval()
        return Classifier(model, self.encoder, 8).answer(self.texts)

    def together(self, model, **more):
        more = {"dispatch": Dispatch(precision="bfloat16")} | more  # training's choice; answers stay in fp32
        return PackedClassifier(model=model, base=self.base.reference, encoder=self.encoder, batch_size=8, **more)


@pytest.fixture
def bench_of(settings, tiny_folders):
    """Makes a bench for a family."""
    return lambda family: Bench(settings, tiny_folders[family], family)


def assert_same(found, expected, tolerance=1e-5):
    found, expected = torch.tensor(found), torch.tensor(expected)
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_every_adapter_answers_together_as_it_answers_alone(bench_of, family):
    bench = bench_of(family)
    takes = {name: each for name, each in ARCHITECTURES.items() if (name, family) not in NOT_TAKEN}
    folders = {name: bench.store(name, architecture) for name, architecture in takes.items()}
    answers = bench.together(bench.load().eval()).answer(folders, bench.texts)
    assert list(answers) == list(folders)
    for name, folder in folders.items():
        expected = bench.alone(folder)
        assert_same(answers[name], expected)
        assert torch.tensor(expected).std(dim=0).max() > 1e-3, f"{name} answers every text alike: nothing is compared"
    assert len({tuple(rows) for rows in answers.values()}) == len(folders)


def test_a_base_whose_blocks_are_unknown_gives_the_same_answers(bench_of, monkeypatch):
    bench = bench_of("bert")
    folders = {name: bench.store(name, ARCHITECTURES[name]) for name in ("lora", "par", "moe")}
    monkeypatch.setattr("legion.neuro_architecture.packed.pool.find_trunk", lambda *_: None)
    answers = bench.together(bench.load().eval()).answer(folders, bench.texts)
    for name, folder in folders.items():
        assert_same(answers[name], bench.alone(folder))


@pytest.mark.parametrize("dispatch", [Dispatch(kernel="sdpa", group_blocks=4096), Dispatch(workers=2, group_blocks=1)])
def test_how_the_machine_computes_changes_no_answer(bench_of, dispatch):
    bench = bench_of("llama")
    folders = {name: bench.store(name, ARCHITECTURES[name]) for name in ("lora", "lora upper", "par", "seq", "moe")}
    answers = bench.together(bench.load().eval(), dispatch=dispatch).answer(folders, bench.texts)
    for name, folder in folders.items():
        assert_same(answers[name], bench.alone(folder))


def test_one_adapter_alone_is_a_population_too(bench_of):
    bench = bench_of("bert")
    folder = bench.store("par", ARCHITECTURES["par"])
    assert_same(bench.together(bench.load().eval()).answer({"par": folder}, bench.texts)["par"], bench.alone(folder))


def test_a_damaged_adapter_spoils_nobody_else_s_answers(bench_of):
    bench = bench_of("gpt2")
    folders = {name: bench.store(name, ARCHITECTURES[name]) for name in ("lora", "moe", "seq")}
    (folders["moe"] / "adapter_model.safetensors").write_bytes(b"\x00" * 64)
    (bench.settings.workspace / "empty").mkdir()
    more = {"empty": bench.settings.workspace / "empty", "gone": bench.settings.workspace / "gone"}
    answers = bench.together(bench.load().eval()).answer(folders | more, bench.texts)
    assert set(answers) == {"lora", "seq"}
    for name, found in answers.items():
        assert_same(found, bench.alone(folders[name]))


def test_waves_answer_as_one_and_tell_how_far_they_are(bench_of):
    bench = bench_of("bert")
    folders = {name: bench.store(name, ARCHITECTURES[name]) for name in ("lora", "dora", "par", "seq", "moe")}
    model = bench.load().eval()
    whole = bench.together(model).answer(folders, bench.texts)
    for bound, expected in (({"most_members": 2}, [2, 4, 5]), ({"most_weights": 1}, [1, 2, 3, 4, 5])):
        told = []
        waves = bench.together(model, **bound).answer(folders, bench.texts, told.append)
        assert told == expected
        for name, answers in whole.items():
            assert_same(waves[name], answers)


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_the_bare_model_is_left_as_it_was(bench_of, family):
    bench = bench_of(family)
    model = bench.load().eval()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    config = model.config.to_dict()
    bench.together(model).answer({"lora": bench.store("lora", ARCHITECTURES["lora"])}, bench.texts)
    assert model.config.to_dict() == config
    assert model.state_dict().keys() == before.keys()
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name]), name


def test_candidates_are_asked_together_once_and_not_one_by_one(study, small, monkeypatch):
    study.all_runs()
    expected = MultiObjectiveEvaluator(settings=study.settings, config=small).evaluate(ALL)

    def refuse(*_):
        raise AssertionError("a candidate was asked alone")

    monkeypatch.setattr(Classifier, "answer", refuse)
    found = MultiObjectiveEvaluator(settings=study.settings, config=small).evaluate(ALL)
    assert {item.proposal_id: item.measurements["accuracy"] for item in found} == {
        item.proposal_id: item.measurements["accuracy"] for item in expected
    }


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_what_is_measured_together_is_what_is_measured_one_by_one(study_of, small, monkeypatch, family):
    study = study_of(family)
    study.all_runs()
    together = MultiObjectiveEvaluator(settings=study.settings, config=small).evaluate(ALL)
    monkeypatch.setattr(Workbench, "answer_together", lambda *_: None)
    alone = MultiObjectiveEvaluator(settings=study.settings, config=small).evaluate(ALL)
    for results in (together, alone):
        results.sort(key=lambda result: result.proposal_id)
    for name in (
        "accuracy",
        "robustness",
        "safety_violations",
        "examples_gained",
        "flops_per_example",
        "peak_memory_mb",
    ):
        assert [result.measurements[name] for result in together] == [result.measurements[name] for result in alone]


def test_a_stopped_trial_is_measured_and_named(study, small):
    study.run()
    study.run("moe-000000000003", state=TrialState.STOPPED, reason="stopped at step 5 of 20")
    evaluator = MultiObjectiveEvaluator(settings=study.settings, config=small)
    results = {result.proposal_id: result for result in evaluator.evaluate(ALL)}
    assert evaluator.summary.total_evaluated == 2
    assert results["moe-000000000003"].composite_score is not None
    (note,) = [note for note in evaluator.summary.notes if "Stopped at a rung" in note]
    assert "moe-000000000003" in note
    assert "lora-000000000001" not in note
