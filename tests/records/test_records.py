import pytest

from legion.foundation.errors import InvalidValueError, UnknownNameError, UsageError
from legion.neuro_architecture.records import ProposalStore, RunFolder, SlotStore, find_metrics_files
from legion.neuro_architecture.spec.architecture import parse_architecture
from legion.neuro_architecture.spec.proposal import (
    ArchitectureProposal,
    BaseReference,
    CostEstimate,
    RiskAssessment,
    TrainingRecipe,
)
from legion.neuro_architecture.spec.slot import Slot, SlotManifest

_BASE = BaseReference(name="tiny", digest="sha256:" + "0" * 64, model_type="bert")


def _proposal(rank: int) -> ArchitectureProposal:
    architecture, recipe = parse_architecture({"strategy": "LoRA", "rank": rank}), TrainingRecipe()
    return ArchitectureProposal(
        id=ArchitectureProposal.id_of("classification", _BASE, architecture, recipe),
        task="classification",
        task_kind="classification",
        base=_BASE,
        architecture=architecture,
        training=recipe,
        estimate=CostEstimate(
            trainable_parameters=1,
            adapter_size_bytes=4,
            expected_flops=1.0,
            expected_base_flops=1.0,
            expected_latency_ms=1.0,
            sequence_length=8,
        ),
        risk=RiskAssessment(score=0.1, factors=()),
        seed=0,
    )


def test_a_stored_proposal_reads_back_equal_by_id_and_by_unique_beginning(settings):
    store, proposal = ProposalStore(settings), _proposal(8)
    store.save(proposal)
    assert store.load(proposal.id) == proposal
    assert store.load(proposal.id[:8]) == proposal


def test_an_unknown_or_ambiguous_id_is_named(settings):
    store = ProposalStore(settings)
    for rank in (4, 8):
        store.save(_proposal(rank))
    with pytest.raises(UsageError, match="ambiguous"):
        store.load("lora-")
    with pytest.raises(UnknownNameError, match="moe-1"):
        store.load("moe-1")
    with pytest.raises(UnknownNameError):
        store.load("../../etc/passwd")


def test_a_proposal_under_a_false_name_is_refused(settings):
    store, proposal = ProposalStore(settings), _proposal(8)
    path = store.save(proposal)
    path.rename(path.with_name("lora-000000000000.json"))
    with pytest.raises(UsageError, match="holds proposal"):
        store.load("lora-000000000000")


def test_a_run_folder_cannot_leave_the_workspace(settings):
    with pytest.raises(InvalidValueError):
        RunFolder.of(settings, "../../elsewhere")


def test_metrics_are_found_by_file_folder_and_glob(settings):
    for name in ("a", "b"):
        folder = settings.workspace / "artifacts" / "proxy_runs" / name
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text("{}")
    patterns = ["artifacts/proxy_runs/*", "artifacts/proxy_runs/a", "artifacts/proxy_runs/*/metrics.json"]
    found = find_metrics_files(patterns, settings.workspace)
    assert [path.parent.name for path in found] == ["a", "b"]
    with pytest.raises(UsageError, match="nothing-here"):
        find_metrics_files(["artifacts/nothing-here/*"], settings.workspace)


def test_an_empty_manifest_is_no_file(settings):
    store = SlotStore(settings)
    assert store.read() == SlotManifest()
    store.replace(SlotManifest(slots={"x": Slot(name="x", task_kind="classification", base=_BASE)}))
    assert store.slot("x").base == _BASE
    with pytest.raises(UnknownNameError, match="'y'"):
        store.slot("y")
    store.replace(SlotManifest())
    assert not store.path.exists()
