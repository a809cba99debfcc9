"""How long one example takes, adapter and bare base in turn, so that a busy machine slows both alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from legion.foundation.rng import RandomStream
from legion.neuro_architecture.spec.measurement import Measurement

__all__ = ["Timings", "latency_measurements", "time_interleaved"]

_RESAMPLES: Final = 400


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds of each forward pass, [examples, 2]: both visits of each example."""

    adapted_ms: np.ndarray
    bare_ms: np.ndarray


def time_interleaved(adapted: Any, bare: Any, batches: Sequence[dict[str, Tensor]], *, warmup: int) -> Timings:
    """Times one forward pass of each model over each batch, in the order A B B A, after `warmup` untimed batches.

    The forward pass only: texts are encoded beforehand. For a causal model it is the pass over the prompt, which is the
    time to the first token. On an accelerator each pass is waited for.

    Args:
        adapted: The model with its adapter (A).
        bare: The same base without (B).
        batches: Inputs of one example each, on the models' device.
        warmup: Batches run by both before the clock starts.
    """
    with torch.inference_mode():
        for batch in batches[:warmup]:
            for model in (adapted, bare):
                model(**batch)
        timed = [[_milliseconds(model, batch) for model in (adapted, bare, bare, adapted)] for batch in batches]
    table = np.array(timed)
    return Timings(adapted_ms=table[:, [0, 3]], bare_ms=table[:, [1, 2]])


def _milliseconds(model: Any, batch: dict[str, Tensor]) -> float:
    on_cuda = model.device.type == "cuda"
    if on_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    model(**batch)
    if on_cuda:
        torch.cuda.synchronize()
    return (time.perf_counter() - start) * 1e3


def latency_measurements(timings: Timings, stream: RandomStream) -> dict[str, Measurement]:
    """Median and 95th percentile of both models and the ratio of the medians, with bootstrap errors over examples."""
    generator = np.random.default_rng(stream.seed)
    count = len(timings.adapted_ms)
    draws = generator.integers(0, count, size=(_RESAMPLES, count))

    def resampled(times: np.ndarray, share: float) -> np.ndarray:
        return np.percentile(times[draws].reshape(_RESAMPLES, -1), share, axis=1)

    def percentile(times: np.ndarray, share: float) -> Measurement:
        error = float(np.std(resampled(times, share), ddof=1))
        return Measurement.measured(float(np.percentile(times, share)), "ms", n=times.size, error=error)

    ratios = resampled(timings.adapted_ms, 50.0) / resampled(timings.bare_ms, 50.0)
    ratio = float(np.median(timings.adapted_ms) / np.median(timings.bare_ms))
    return {
        "latency_p50_ms": percentile(timings.adapted_ms, 50.0),
        "latency_p95_ms": percentile(timings.adapted_ms, 95.0),
        "base_latency_p50_ms": percentile(timings.bare_ms, 50.0),
        "base_latency_p95_ms": percentile(timings.bare_ms, 95.0),
        "latency_ratio": Measurement.measured(ratio, "ratio", n=count, error=float(np.std(ratios, ddof=1))),
    }
