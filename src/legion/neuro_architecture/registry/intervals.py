"""How far a measured number may be from the truth, and whether two of them can be the same one.

An interval is the value plus or minus z standard errors. Where the standard error is 0 or not stored and the number is
a share, or a count of cases out of `n`, it is Wilson's score interval, which does not shrink to a point at 0 and 1
(Wilson 1927). The interval of a difference is put together from the two single ones (MOVER: Zou and Donner, Statistics
in Medicine 27, 2008); of two shares that is Newcombe's hybrid score interval (Newcombe 1998, method 10), and of two
means with standard errors the usual z sqrt(a^2 + b^2). It takes the samples as independent: where both numbers come
from the same examples it is wider than a paired one, since a snapshot stores no single answers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from statistics import NormalDist
from typing import Any, Final

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.spec.measurement import Measurement

__all__ = [
    "DEFAULT_LEVEL",
    "Interval",
    "difference_interval",
    "interval_of",
    "measurements_of",
    "no_interval_because",
    "other_evidence",
]

Interval = tuple[float, float]

DEFAULT_LEVEL: Final = 0.95
# Units of cases out of `n`.
_COUNTED: Final = frozenset({"violations", "examples"})
_TABLES: Final = ("units", "counts", "errors", "absent")


def measurements_of(metrics: Mapping[str, Any]) -> dict[str, Measurement]:
    """What a snapshot's metrics hold as measured numbers, or as absent ones with their reason, by name.

    A number without a unit is taken as measured too, with the unit `""`: nobody said what one of it is. A null without
    a reason is absent, and the reason is that none was recorded.
    """
    return dict(_measurements(metrics))


def other_evidence(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What a snapshot's metrics hold beside `measurements_of`: nested JSON, words, yes and no."""
    measured = measurements_of(metrics)
    found = {name: value for name, value in metrics.items() if name not in measured and name not in _TABLES}
    for table in _TABLES:
        rest = {name: value for name, value in _table(metrics, table).items() if name not in measured}
        if rest:
            found[table] = rest
    return found


def _measurements(metrics: Mapping[str, Any]) -> Iterator[tuple[str, Measurement]]:
    units, counts, errors, absent = (_table(metrics, name) for name in _TABLES)
    for name in sorted(metrics):
        value = metrics[name]
        unit = units.get(name)
        unit = unit if isinstance(unit, str) else ""
        if value is None and (name in units or name in absent):
            yield name, Measurement.absent(unit, str(absent.get(name) or "no reason was recorded"))
        elif _is_number(value):
            count, error = counts.get(name), errors.get(name)
            yield (
                name,
                Measurement.measured(
                    value,
                    unit,
                    n=count if isinstance(count, int) and not isinstance(count, bool) else None,
                    error=float(error) if error is not None and _is_number(error) else None,
                ),
            )


def _table(metrics: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = metrics.get(name)
    return found if isinstance(found, Mapping) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def interval_of(measured: Measurement, level: float = DEFAULT_LEVEL) -> Interval | None:
    """Where the truth lies with this confidence; None where `no_interval_because` says why.

    Raises:
        InvalidValueError: the level is not between 0 and 1.
    """
    z = _z(level)
    if measured.value is None:
        return None
    if measured.error:
        return measured.value - z * measured.error, measured.value + z * measured.error
    count = measured.n or 0
    if count > 0 and measured.unit == "share" and 0.0 <= measured.value <= 1.0:
        return _wilson(measured.value, count, z)
    if count > 0 and measured.unit in _COUNTED and 0.0 <= measured.value <= count:
        lower, upper = _wilson(measured.value / count, count, z)
        return lower * count, upper * count
    return None


def no_interval_because(measured: Measurement) -> str | None:
    """Why a number has no interval, or None where it has one."""
    if measured.value is None:
        return f"it was not measured: {measured.reason}"
    if interval_of(measured) is not None:
        return None
    return "no standard error is stored" if measured.error is None else "its standard error is 0, which bounds nothing"


def difference_interval(one: Measurement, other: Measurement, level: float = DEFAULT_LEVEL) -> Interval | None:
    """Where `other - one` lies with this confidence, for independent samples; None where either has no interval."""
    first, second = interval_of(one, level), interval_of(other, level)
    if first is None or second is None or one.value is None or other.value is None:
        return None
    difference = other.value - one.value
    below = math.hypot(other.value - second[0], first[1] - one.value)
    above = math.hypot(second[1] - other.value, one.value - first[0])
    return difference - below, difference + above


def _wilson(share: float, count: int, z: float) -> Interval:
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))


def _z(level: float) -> float:
    if not 0.0 < level < 1.0:
        raise InvalidValueError(f"a confidence level of {level} is not between 0 and 1", hint="for example 0.95")
    return NormalDist().inv_cdf(0.5 + level / 2.0)
