"""Puts an adapter onto a model and takes it off again, leaving what was there bit for bit."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from torch import nn

from legion.foundation.errors import AdapterError
from legion.foundation.rng import RandomStream
from legion.neuro_architecture.adapters.experts import ExpertMixture
from legion.neuro_architecture.adapters.random_experts import RandomMixture
from legion.neuro_architecture.adapters.virtual_tokens import VirtualTokensModel, has_virtual_tokens
from legion.neuro_architecture.anatomy import ModelAnatomy
from legion.neuro_architecture.spec.architecture import AnyArchitecture

__all__ = [
    "Attachment",
    "attach",
    "attachment_of",
    "attachment_to",
    "drawing_from",
    "peft_fields",
    "refuse_adapted",
    "remove_adapter",
    "trainable_parameters",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """What an adapted model remembers of how it became one.

    Attributes:
        architecture: The adapter.
        model_type: Family of the base.
        trainable_before: Names of the base's parameters that required a gradient before.
    """

    architecture: AnyArchitecture
    model_type: str
    trainable_before: frozenset[str]


def refuse_adapted(model: Any) -> None:
    """Raises AdapterError where the model carries an adapter already."""
    is_behind_another = isinstance(model, PeftModel) or has_virtual_tokens(model)
    if is_behind_another or any(isinstance(module, BaseTunerLayer) for module in model.modules()):
        raise AdapterError(
            f"{type(model).__name__} carries an adapter already", hint="remove it first: remove_adapter(model)"
        )


def peft_fields(anatomy: ModelAnatomy) -> dict[str, Any]:
    """The fields that every PEFT config of ours shares.

    A plain `PeftModel` does for a classifier: PEFT's own class for it adds heads that the model may not have.
    """
    return {
        "task_type": "CAUSAL_LM" if anatomy.is_causal else None,
        "modules_to_save": list(anatomy.head_modules) or None,
    }


def attach(
    model: Any, config: PeftConfig, architecture: AnyArchitecture, *, model_type: str, paths: Sequence[str], seed: int
) -> PeftModel:
    """The model with its base frozen and the adapter in place; weights are drawn from `seed` on the CPU.

    Args:
        model: A transformers model without an adapter; changed in place.
        config: What PEFT builds the adapter from.
        architecture: The adapter.
        model_type: Family of the model.
        paths: The modules that `config` targets, to be found again afterwards.
        seed: Of the adapter's weights; the global generators stay as they are.

    Raises:
        AdapterError: PEFT refused, or adapted other modules than asked; the model is as it was.
    """
    before = attachment_to(model, architecture, model_type=model_type)
    was_training = model.training
    with drawing_from(seed):
        try:
            adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
        except (NotImplementedError, TypeError, ValueError) as error:
            _unwrap(model, before)
            raise AdapterError(
                f"PEFT cannot apply {architecture.strategy} to {model_type}", cause=str(error)
            ) from error
    adapted.legion_attachment = before
    adapted.train(was_training)
    found = set(adapted.base_model.targeted_module_names)
    if found != set(paths):
        difference = ", ".join(sorted(found ^ set(paths)))
        remove_adapter(adapted)
        raise AdapterError("the adapter did not reach exactly the modules it was meant for", cause=difference)
    return adapted


def attachment_to(model: Any, architecture: AnyArchitecture, *, model_type: str) -> Attachment:
    """What is to be remembered of a model before `architecture` is put onto it."""
    return Attachment(
        architecture=architecture,
        model_type=model_type,
        trainable_before=frozenset(name for name, weight in model.named_parameters() if weight.requires_grad),
    )


@contextlib.contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Torch's generator on the CPU seeded for an adapter's weights, and put back; PEFT builds adapters within."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # PEFT asks transformers for a property by its old name.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        torch.default_generator.manual_seed(RandomStream(seed).child("adapter").seed)
        yield


def attachment_of(model: Any) -> Attachment:
    """What `attach` noted on the model.

    Raises:
        AdapterError: the model carries no adapter of ours.
    """
    attachment = getattr(model, "legion_attachment", None) if isinstance(model, PeftModel) else None
    if not isinstance(attachment, Attachment):
        raise AdapterError(
            f"{type(model).__name__} carries no adapter of Legion",
            hint="apply one: LoRAAdapter(rank=8).apply(model)",
        )
    return attachment


def remove_adapter(model: Any) -> Any:
    """The base model as it was before `apply`: same modules, same weights, same head, same gradients required.

    Raises:
        AdapterError: the model carries no adapter of ours.
    """
    attachment = attachment_of(model)
    base = model.get_base_model()
    heads = _heads(base)
    if isinstance(model, VirtualTokensModel):
        model.release()
    else:
        model.base_model.unload()
    _put_back(base, heads, attachment)
    return base


def _heads(base: Any) -> dict[str, nn.Module]:
    """The task head's own modules, by path, below the copies that are trained."""
    wrappers = {name: module for name, module in base.named_modules() if isinstance(module, ModulesToSaveWrapper)}
    return {name: module.original_module for name, module in wrappers.items()}


def _unwrap(model: Any, attachment: Attachment) -> None:
    """Undoes what PEFT did to the model before it refused."""
    wrapped = {
        name: module.get_base_layer() for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)
    }
    _put_back(model, wrapped | _heads(model), attachment)


def _put_back(base: Any, modules: dict[str, nn.Module], attachment: Attachment) -> None:
    for path, module in modules.items():
        parent, _, name = path.rpartition(".")
        setattr(base.get_submodule(parent), name, module)
    for name, weight in base.named_parameters():
        weight.requires_grad_(name in attachment.trainable_before)


def trainable_parameters(model: Any) -> dict[str, torch.nn.Parameter]:
    """The weights that training changes, by name: those of the adapter and of the task head.

    Raises:
        AdapterError: nothing is trainable, or a mixture's experts are frozen (training would change nothing of them).
    """
    parameters = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    for name, module in model.named_modules():
        if isinstance(module, ExpertMixture | RandomMixture) and not (
            module.up.requires_grad and module.down.requires_grad
        ):
            raise AdapterError(f"the experts of {name} are frozen", cause="the number of trainable experts is zero")
    if not parameters:
        raise AdapterError(f"{type(model).__name__} has no trainable parameter", hint="apply an adapter first")
    return parameters
