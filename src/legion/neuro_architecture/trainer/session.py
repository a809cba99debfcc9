"""One proposal's model, data and optimiser, ready to step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from legion.foundation.errors import DataError
from legion.foundation.rng import RandomStream
from legion.neuro_architecture.adapters import auxiliary_loss, build_adapter, trainable_parameters
from legion.neuro_architecture.data.base_models import BaseModel
from legion.neuro_architecture.data.datasets import DataSet, Example
from legion.neuro_architecture.data.encoding import Encoded, TaskEncoder
from legion.neuro_architecture.spec.proposal import ArchitectureProposal
from legion.neuro_architecture.trainer.batches import BatchStream
from legion.neuro_architecture.trainer.config import TrainerConfig
from legion.neuro_architecture.trainer.environment import seed_torch
from legion.neuro_architecture.trainer.objective import IGNORED, accepts_positions, target_logits
from legion.neuro_architecture.trainer.schedule import affordable_validations, learning_rate, validation_points
from legion.neuro_architecture.trainer.validation import Validator

__all__ = ["StepOutcome", "TrainingSession"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcome:
    """What one step was: losses in nats, the gradient's norm before clipping, the rate, and the batch's size."""

    loss: float
    auxiliary_loss: float | None
    gradient_norm: float
    learning_rate: float
    num_tokens: int
    num_examples: int


@final
class TrainingSession:
    """Steps a proposal's adapter on a data set. Everything random comes from `seed`, never from a global state.

    Build and use it inside `torch_environment`. Only adapter and head require gradients; the embeddings do not, so
    autograd does no work below the lowest adapter.

    Args:
        proposal: What is trained, and how.
        base: The base model it was proposed for.
        data: The data set.
        seed: Seed of head, adapter, batches, dropout and validation subset.
        config: Sizes.
        device: Where to train.
    """

    def __init__(
        self,
        proposal: ArchitectureProposal,
        base: BaseModel,
        data: DataSet,
        *,
        seed: int,
        config: TrainerConfig,
        device: torch.device,
    ) -> None:
        stream = RandomStream(seed).child("trainer")
        self.recipe = proposal.training
        self._config = config
        self._device = device
        self._dropout = stream.child("dropout")
        self._encoder = TaskEncoder(base.tokenizer(), data.spec, max_tokens=min(base.max_tokens, config.max_tokens))
        self._train = _encode(self._encoder, data.train)
        self._batches = BatchStream(
            [len(item.input_ids) for item in self._train], self.recipe.batch_size, stream.child("batches")
        )
        self._watched = _encode(self._encoder, _subset(data, config, stream))
        model = base.load(data.spec, seed=stream.child("head").seed)
        model.config.use_cache = False
        self._has_positions = accepts_positions(model)
        self.model: Any = build_adapter(proposal.architecture).apply(model, seed=stream.child("adapter").seed)
        self.model.to(device)
        self.parameters = trainable_parameters(self.model)
        self._optimizer = torch.optim.AdamW(
            list(self.parameters.values()),
            lr=self.recipe.learning_rate,
            weight_decay=self.recipe.weight_decay,
            fused=True,
        )
        self.validator = Validator(
            self._validation_batches(config.validation_batch_size), device, has_positions=self._has_positions
        )

    @property
    def num_parameters(self) -> int:
        """Trainable weights, head included."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    def validation_points(self, steps: int) -> tuple[int, ...]:
        """Numbers of finished steps after which validation is due in a run of `steps`."""
        count = affordable_validations(
            steps, batch_size=self.recipe.batch_size, num_watched=len(self._watched), config=self._config
        )
        return validation_points(steps, count)

    def train_step(self, step: int, steps: int, *, begin: int = 0) -> StepOutcome:
        """Update number `step` of `steps`, counted from 0: a pure function of weights, moments, seed and the numbers.

        `begin` is the step at which the schedule began, above 0 in an extension.
        """
        batch = self._encoder.collate([self._train[index] for index in self._batches.batch(step)])
        seed_torch(self._dropout.child(str(step)).seed, self._device)
        self.model.train()
        logits, targets = target_logits(self.model, batch, self._device, has_positions=self._has_positions)
        loss = cross_entropy(logits.float(), targets)
        auxiliary = auxiliary_loss(self.model)
        self._optimizer.zero_grad(set_to_none=True)
        (loss if auxiliary is None else loss + auxiliary).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.recipe.max_gradient_norm)
        rate = learning_rate(
            step, steps, peak=self.recipe.learning_rate, warmup_share=self.recipe.warmup_share, begin=begin
        )
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        return StepOutcome(
            loss=float(loss.detach()),
            auxiliary_loss=None if auxiliary is None else float(auxiliary.detach()),
            gradient_norm=float(norm),
            learning_rate=rate,
            num_tokens=int(batch["attention_mask"].sum()),
            num_examples=len(batch["labels"]),
        )

    def weights(self) -> dict[str, Tensor]:
        """A copy of the trainable tensors on the CPU."""
        return {name: item.detach().to("cpu", copy=True) for name, item in self.parameters.items()}

    @torch.no_grad()
    def set_weights(self, weights: dict[str, Tensor]) -> None:
        """Puts trainable tensors back."""
        for name, parameter in self.parameters.items():
            parameter.copy_(weights[name])

    def use(self, weights: dict[str, Tensor]) -> Any:
        """The model in eval mode with these trainable tensors; training does not go on from there."""
        self.set_weights(weights)
        return self.model.eval()

    def moments(self) -> dict[str, dict[str, Tensor]]:
        """AdamW's state of each trainable tensor that has had a gradient."""
        state = self._optimizer.state
        return {name: dict(state[item]) for name, item in self.parameters.items() if item in state}

    def set_moments(self, moments: dict[str, dict[str, Tensor]]) -> None:
        """Puts AdamW's state back."""
        names = list(self.parameters)
        self._optimizer.load_state_dict(
            {
                "state": {names.index(name): values for name, values in moments.items()},
                "param_groups": self._optimizer.state_dict()["param_groups"],
            }
        )

    def single_batches(self, count: int) -> list[dict[str, Tensor]]:
        """The first `count` watched validation examples, each a batch of its own."""
        return [self._encoder.collate([item]) for item in self._watched[:count]]

    def _validation_batches(self, batch_size: int) -> list[dict[str, Tensor]]:
        ordered = sorted(self._watched, key=lambda item: len(item.input_ids))
        starts = range(0, len(ordered), batch_size)
        return [self._encoder.collate(ordered[start : start + batch_size]) for start in starts]


def _subset(data: DataSet, config: TrainerConfig, stream: RandomStream) -> Sequence[Example]:
    examples = data.validation
    if len(examples) <= config.validation_examples:
        return examples
    return stream.child("validation").random().sample(examples, config.validation_examples)


def _encode(encoder: TaskEncoder, examples: Sequence[Example]) -> list[Encoded]:
    encoded = encoder.encode_all(examples)
    for example, item in zip(examples, encoded, strict=True):
        if not isinstance(item.labels, int) and all(label == IGNORED for label in item.labels[1:]):
            raise DataError(f"example {example.id} has no target token left to train on", hint="shorten its text")
    return encoded
