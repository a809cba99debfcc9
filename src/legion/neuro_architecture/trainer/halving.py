"""Plain successive halving over a session: the worse trials stopped at each rung, the others to the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from legion.neuro_architecture.trainer.rungs import Rungs
from legion.neuro_architecture.trainer.session import PopulationSession

__all__ = ["halve"]


def halve(session: PopulationSession, rungs: Rungs | None) -> list[dict[str, Any]]:
    """Takes all trials of the session from rung to rung; what happened at each.

    Trials that completed before count at the rungs they passed; one that went past a rung without looking goes on.

    Args:
        session: Its trials have been let in.
        rungs: Where the worse stop; None trains all to the end.
    """
    active = session.names
    label = f"train {active[0]}" if len(active) == 1 else f"train {len(active)} proposals"
    session.announce(label, planned_steps(len(active), session.steps, rungs))
    found: list[dict[str, Any]] = []
    for rung in rungs.steps if rungs else ():
        if rungs is not None and rung < session.steps:
            active, record = _to_rung(session, active, rung, rungs)
            found.append(record)
    session.finish(active)
    session.conclude()
    return found


def _to_rung(
    session: PopulationSession, active: Sequence[str], rung: int, rungs: Rungs
) -> tuple[list[str], dict[str, Any]]:
    session.advance(active, rung)
    alive = [name for name in active if session.is_alive(name)]
    looked = {name: session.loss_at(name, rung) for name in (*session.passed, *alive)}
    losses = {name: loss for name, loss in looked.items() if loss is not None}
    kept = set(rungs.survivors(losses))
    stopped = [name for name in alive if name in losses and name not in kept]
    for name in stopped:
        session.stop(name, f"not among the best {len(kept)} of {len(losses)}")
    record = {"steps": rung, "trials": len(losses), "continued": sorted(kept)}
    return [name for name in alive if name not in stopped], record


def planned_steps(count: int, steps: int, rungs: Rungs | None) -> int:
    """Steps of all trials together, where none fails."""
    total, at = 0, 0
    for rung in rungs.steps if rungs else ():
        if rungs is not None and rung < steps:
            total, at = total + count * (rung - at), rung
            count = rungs.num_survivors(count)
    return total + count * (steps - at)
