"""The rows of the table: which systems do what, which ratios are formed, and what they must reach.

A row of another kind brings its own pair of functions: `Arm.prepare` names any `module:function` that takes a workload
and a place, does what is not to be timed, and returns the work itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from benchmarks.population.workloads import Workload, all_layers, headline, mixed, upper_third

from legion.foundation.machine import cpu_features

__all__ = ["ROWS", "Arm", "Comparison", "Measure", "Row", "find_row", "has_fast_bf16"]

Measure = Literal["wall_s", "cpu_s", "peak_rss_mb", "peak_anon_mb"]

OURS: Final = "benchmarks.population.ours:prepare"
_B0: Final = "benchmarks.population.baselines:prepare_b0"
_B1: Final = {
    "fp32": "benchmarks.population.baselines:prepare_b1_fp32",
    "bf16": "benchmarks.population.baselines:prepare_b1_bf16",
}
_STRIDE: Final = 32
# Few steps of each of many trials: ratios hardly depend on it, and five repeats of B0 are what takes the hour.
_STEPS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One system in a row.

    Attributes:
        name: Short name, the same in every row.
        prepare: `module:function` that gives the work.
        workload: What it works on.
        stride: Only every so manieth trial is run.
        most_repeats: How often at most, or None for as often as asked.
        note: What a reader must know, or nothing.
    """

    name: str
    prepare: str
    workload: Workload
    stride: int = 1
    most_repeats: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A ratio of two arms, formed in each repeat.

    Attributes:
        label: How it is called.
        over: The numerator's arm.
        under: The denominator's arm.
        measures: What is compared; `must` and `aim` hold for the first.
        must: The bound, or None where the ratio only informs.
        aim: What is wished for.
        is_at_least: Whether more is better.
    """

    label: str
    over: str
    under: str
    measures: tuple[Measure, ...] = ("wall_s", "cpu_s")
    must: float | None = None
    aim: float | None = None
    is_at_least: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the table."""

    key: str
    title: str
    arms: tuple[Arm, ...]
    comparisons: tuple[Comparison, ...]

    def arm(self, name: str) -> Arm:
        """The arm of this name."""
        return next(arm for arm in self.arms if arm.name == name)


def has_fast_bf16() -> bool:
    """Whether the processor multiplies bf16 in hardware; else its products take several times as long as fp32's."""
    return bool({"amx_bf16", "avx512_bf16"} & set(cpu_features()))


def _against(
    key: str, title: str, workload: Workload, *, must: tuple[float, float], aim: tuple[float, float], stride: int
) -> Row:
    """Ours against both baselines. B1 in the type that this processor is quick in; in the first row also in the other
    one, once, on some trials: where it is slow it takes minutes and says the same in every row.
    """
    quick, slow = ("bf16", "fp32") if has_fast_bf16() else ("fp32", "bf16")
    arms = (
        Arm(name="B0", prepare=_B0, workload=workload, note="fp32, defaults"),
        Arm(name="ours", prepare=OURS, workload=workload),
        Arm(name="B1", prepare=_B1[quick], workload=workload, note=quick),
    )
    if key == "mixed":
        other = Arm(name="B1-other", prepare=_B1[slow], workload=workload, note=slow, stride=stride, most_repeats=1)
        arms = (*arms, other)
    comparisons = tuple(
        Comparison(label=f"{name} / ours", over=name, under="ours", must=must[place], aim=aim[place])
        for place, name in enumerate(("B0", "B1"))
    )
    return Row(key=key, title=title, arms=arms, comparisons=comparisons)


def _growth(steps: int) -> Row:
    arms = tuple(Arm(name=f"K={count}", prepare=OURS, workload=mixed(count, steps)) for count in (32, 256))
    grown = Comparison(label="K=256 / K=32", over="K=256", under="K=32", must=8.0, aim=6.0, is_at_least=False)
    return Row(key="growth", title="growth from K = 32 to 256, equal steps each", arms=arms, comparisons=(grown,))


def _memory(steps: int) -> Row:
    """K = 1 is an adapter on all layers; beside it, one on the top layer alone, which needs least."""
    many, lowest = mixed(64, steps), mixed(1, steps)
    highest = mixed(16, steps).only(15)
    arms = (
        Arm(name="K=1", prepare=OURS, workload=lowest, note="all layers"),
        Arm(name="K=64", prepare=OURS, workload=many),
        Arm(name="K=1 top", prepare=OURS, workload=highest, note="top layer only"),
    )
    measures: tuple[Measure, ...] = ("peak_rss_mb", "peak_anon_mb")
    comparisons = (
        Comparison(
            label="K=64 / K=1", over="K=64", under="K=1", measures=measures, must=1.6, aim=1.3, is_at_least=False
        ),
        Comparison(label="K=64 / K=1 top", over="K=64", under="K=1 top", measures=measures, is_at_least=False),
    )
    return Row(key="memory", title="peak memory at K = 64 over K = 1", arms=arms, comparisons=comparisons)


ROWS: Final[tuple[Row, ...]] = (
    _against(
        "mixed",
        "32 mixed architectures (LoRA, bottleneck, MoE; all start layers)",
        mixed(32, _STEPS),
        must=(12.0, 2.5),
        aim=(18.0, 4.0),
        stride=_STRIDE,
    ),
    _against("lora", "32 LoRA on all layers", all_layers(32, _STEPS), must=(8.0, 1.7), aim=(12.0, 2.8), stride=_STRIDE),
    _against(
        "upper",
        "32 adapters in the upper third, 3 epochs, prefix pass included",
        upper_third(32, _STEPS // 2),
        must=(20.0, 4.0),
        aim=(40.0, 10.0),
        stride=_STRIDE,
    ),
    _against(
        "smollm2",
        "SmolLM2 headline task, 8 mixed adapters",
        headline(8, _STEPS - 1),
        must=(2.5, 1.5),
        aim=(5.0, 2.5),
        stride=8,
    ),
    _growth(_STEPS),
    _memory(_STEPS),
)


def find_row(key: str) -> Row:
    """The row of this key.

    Raises:
        KeyError: there is none.
    """
    return {row.key: row for row in ROWS}[key]
