"""A study's recipe: one TOML file that says what is searched, where, for what, and how far."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, model_validator

from legion.foundation.errors import ConfigError, InvalidValueError, UsageError
from legion.neuro_architecture.spec._value import Value
from legion.neuro_architecture.spec.architecture import DEFAULT_STRATEGIES

__all__ = [
    "FinalRecipe",
    "GeneratorRecipe",
    "SchedulerRecipe",
    "SpaceRecipe",
    "StudyRecipe",
    "TrainingRecipeOfStudy",
    "read_recipe",
]

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Trait = str | int | float
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class SpaceRecipe(Value):
    """What may be proposed.

    Attributes:
        strategies: Families.
        narrow: Values that stay on an axis, for each strategy or `*` for all.
    """

    strategies: tuple[str, ...] = DEFAULT_STRATEGIES
    narrow: dict[str, dict[str, tuple[Trait, ...]]] = Field(default_factory=dict)


class GeneratorRecipe(Value):
    """Who proposes.

    Attributes:
        name: One of `legion search generators`.
        batch: Proposals in a generation; they train together.
    """

    name: str = "tpe"
    batch: Count = 12


class SchedulerRecipe(Value):
    """Who goes on.

    Attributes:
        kind: `asha` compares with all trials that were at a rung before, `halving` with those of the generation.
        steps: Of the whole schedule of a trial.
        rungs: Steps at which trials are compared, rising.
        factor: One in so many goes on.
        exploratory: Share of all trials that goes to the end whatever it shows.
        delta: Probability that any stop at one rung is wrong.
    """

    kind: Literal["asha", "halving"] = "asha"
    steps: Count = 150
    rungs: tuple[Count, ...] = (15, 60)
    factor: Annotated[float, Field(gt=1.0)] = 3.0
    exploratory: Share = 0.1
    delta: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1

    @model_validator(mode="after")
    def _rising(self) -> SchedulerRecipe:
        if any(later <= earlier for earlier, later in zip((0, *self.rungs), (*self.rungs, self.steps), strict=True)):
            raise ValueError(f"rungs rise below the {self.steps} steps: {list(self.rungs)} do not")
        return self


class TrainingRecipeOfStudy(Value):
    """How trials are watched.

    Attributes:
        validation_examples: Watched examples; paired comparisons rest on them.
        places: Most trials held at once; all of a generation by default.
    """

    validation_examples: Count = 256
    places: Count | None = None


class FinalRecipe(Value):
    """What becomes of the front.

    Attributes:
        top: How many of it are trained anew, by preference.
        seeds: With how many seeds each.
        steps: Steps of each; the schedule's by default.
        test_examples: Test examples; all by default.
        share: Part of a budget in time or operations that is kept for this.
    """

    top: Annotated[int, Field(ge=0)] = 3
    seeds: Count = 3
    steps: Count | None = None
    test_examples: Count | None = None
    share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.4


class StudyRecipe(Value):
    """One study.

    Attributes:
        name: Its folder's name under `studies/`.
        task: Embedded task, or with `data` any label.
        data: Data folder, relative to the workspace; the embedded task's by default.
        base: Base model; the task's by default.
        seed: Of everything random.
        objectives: Axes that candidates are compared on.
        constraints: Bounds that must hold: `latency_ms<=12`, `target=vllm`.
        weights: Preference by which the front is ordered, by objective; alike by default.
        space: What may be proposed.
        generator: Who proposes.
        scheduler: Who goes on.
        training: How trials are watched.
        final: What becomes of the front.
        warm_start: Whether earlier studies in this workspace say where to look first.
    """

    name: str
    task: str = "classification"
    data: str | None = None
    base: str | None = None
    seed: int = 0
    objectives: tuple[str, ...] = ("accuracy", "latency_ms", "size_bytes")
    constraints: tuple[str, ...] = ()
    weights: dict[str, Annotated[float, Field(ge=0.0)]] = Field(default_factory=dict)
    space: SpaceRecipe = SpaceRecipe()
    generator: GeneratorRecipe = GeneratorRecipe()
    scheduler: SchedulerRecipe = SchedulerRecipe()
    training: TrainingRecipeOfStudy = TrainingRecipeOfStudy()
    final: FinalRecipe = FinalRecipe()
    warm_start: bool = False

    @model_validator(mode="after")
    def _named(self) -> StudyRecipe:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"name {self.name!r} is not one of a-z 0-9 . _ - (64 at most, beginning with a letter or digit)"
            )
        unknown = sorted(set(self.weights) - set(self.objectives))
        if unknown:
            raise ValueError(f"weights are of the study's objectives: {', '.join(unknown)} is none")
        return self


def read_recipe(path: Path) -> StudyRecipe:
    """The recipe in a TOML file; its name is the file's where it states none.

    `[space]` holds `strategies`, and for each strategy a table of the values that stay: `[space.LoRA] rank = [4, 8]`,
    or for all `[space."*"] learning_rate = [0.001]`.

    Raises:
        UsageError: there is no such file.
        ConfigError: it is no TOML.
        InvalidValueError: lists every mistake at once.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"no recipe {path}", hint="write one: legion search recipe > study.toml") from error
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read {path}", cause=str(error)) from error
    return StudyRecipe.parse({"name": path.stem.lower()} | _with_narrowed_space(data), what=str(path))


def _with_narrowed_space(data: dict[str, Any]) -> dict[str, Any]:
    """The tables below `[space]` as its `narrow`."""
    space = data.get("space")
    if not isinstance(space, dict):
        return data
    if "narrow" in space:
        raise InvalidValueError("[space] has no key narrow", hint="name the strategy: [space.LoRA] rank = [4, 8]")
    tables = {key: value for key, value in space.items() if isinstance(value, dict)}
    plain = {key: value for key, value in space.items() if key not in tables}
    narrow = {
        strategy: {name: values if isinstance(values, list) else [values] for name, values in table.items()}
        for strategy, table in tables.items()
    }
    return data | {"space": plain | {"narrow": narrow}}
