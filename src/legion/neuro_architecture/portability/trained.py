"""A trained adapter on its base: what the folds take apart, and what every artefact is compared with."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from torch import nn

from legion.foundation.errors import NotPortableError
from legion.neuro_architecture.adapters import load_adapter
from legion.neuro_architecture.adapters.attachment import attachment_of
from legion.neuro_architecture.anatomy import LayerAnatomy, inspect_model
from legion.neuro_architecture.anatomy.inspection import base_modules
from legion.neuro_architecture.data.base_models import BaseModel
from legion.neuro_architecture.portability.base_facts import BaseFacts
from legion.neuro_architecture.portability.engines.contract import Question, Reply
from legion.neuro_architecture.spec.architecture import AnyArchitecture, VirtualTokensArchitecture
from legion.neuro_architecture.spec.proposal import BaseReference
from legion.neuro_architecture.spec.task import TaskKind, TaskSpec

__all__ = ["TrainedForm", "load_trained"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedForm:
    """An adapted model in eval mode. Reading tensors off it leaves it as it is.

    Attributes:
        model: The base with its adapter, in fp32.
        base: What the base is.
        base_folder: Where its checkpoint and tokenizer are.
        facts: What of the base decides how it is served.
        labels: Class names, for a classifier.
    """

    model: PeftModel
    base: BaseReference
    base_folder: Path
    facts: BaseFacts
    labels: tuple[str, ...] = ()

    @property
    def architecture(self) -> AnyArchitecture:
        return attachment_of(self.model).architecture

    @property
    def config(self) -> Any:
        """The base's transformers config, as loaded for the task."""
        return self.model.get_base_model().config

    @property
    def layers(self) -> tuple[LayerAnatomy, ...]:
        return self.facts.anatomy.layers

    def base_tensors(self) -> dict[str, torch.Tensor]:
        """The base's weights under their stock names, a tied one once; the task head as it was trained."""
        seen: set[int] = set()
        tensors: dict[str, torch.Tensor] = {}
        for path, module in base_modules(self.model.get_base_model()):
            for name, weight in module.named_parameters(recurse=False):
                if id(weight) not in seen:
                    seen.add(id(weight))
                    tensors[f"{path}.{name}"] = weight.detach()
        for path, head in self._trained_heads():
            for name, weight in head.named_parameters():
                tensors[f"{path}.{name}"] = weight.detach()
        return tensors

    def network_tensors(self) -> dict[str, torch.Tensor]:
        """As `base_tensors`, with LoRAs merged; what stands at networks or blocks is left for a fold to place."""
        tensors = self.base_tensors()
        for path, layer in self._tuner_layers():
            if isinstance(layer, LoraLayer):
                tensors |= _merged(path, layer)
        return tensors

    def merged_tensors(self) -> dict[str, torch.Tensor]:
        """As `base_tensors`, with every adapted layer's weights merged; one layer at a time is copied.

        Raises:
            NotPortableError: a layer of the adapter is no change of a weight.
        """
        tensors = self.base_tensors()
        for path, layer in self._tuner_layers():
            tensors |= _merged(path, layer)
        return tensors

    def correction(self, path: str, kind: str) -> nn.Module | None:
        """The module of kind `bottleneck_adapter`, `mixture_adapter` or `split_adapter` at `path`, or None."""
        for found, layer in self._tuner_layers():
            children = dict(layer.named_children()) if isinstance(layer, nn.Module) else {}
            corrections = children.get(kind)
            if found == path and isinstance(corrections, nn.ModuleDict):
                return corrections[self.model.active_adapter]
        return None

    @torch.inference_mode()
    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """Answers with full logits, as an engine would."""
        return [self._reply(question) for question in questions]

    def _reply(self, question: Question) -> Reply:
        ids = list(question.token_ids)
        logits, cache = self._logits(ids, None)
        if self.facts.kind == "classification":
            return Reply(logits=tuple(logits.tolist()))
        tokens: list[int] = []
        current = logits
        for _ in range(question.num_tokens):
            tokens.append(int(current.argmax()))
            if len(tokens) < question.num_tokens:
                current, cache = self._logits([*ids, *tokens], cache)
        logprobs = logits.double().log_softmax(-1).tolist()
        return Reply(logits=tuple(logits.tolist()), logprobs=dict(enumerate(logprobs)), tokens=tuple(tokens))

    def _logits(self, ids: list[int], cache: Any) -> tuple[torch.Tensor, Any]:
        """Of the last position (or of the labels), and the cache to go on from.

        Virtual tokens are put in front by PEFT at each pass, so with them every pass begins anew.
        """
        x_BT = torch.tensor([ids])
        mask_BT = torch.ones_like(x_BT)
        if self.facts.kind == "classification":
            return self.model(input_ids=x_BT, attention_mask=mask_BT).logits[0], None
        if isinstance(self.architecture, VirtualTokensArchitecture):
            return self.model(input_ids=x_BT, attention_mask=mask_BT).logits[0, -1], None
        fresh_BT = x_BT if cache is None else x_BT[:, -1:]
        output = self.model(input_ids=fresh_BT, attention_mask=mask_BT, past_key_values=cache, use_cache=True)
        return output.logits[0, -1], output.past_key_values

    def _tuner_layers(self) -> Iterator[tuple[str, BaseTunerLayer]]:
        for path, module in self._wrappers():
            if isinstance(module, BaseTunerLayer):
                yield path, module

    def _trained_heads(self) -> Iterator[tuple[str, nn.Module]]:
        for path, module in self._wrappers():
            if isinstance(module, ModulesToSaveWrapper):
                yield path, module.modules_to_save[self.model.active_adapter]

    def _wrappers(self) -> Iterator[tuple[str, nn.Module]]:
        """PEFT's wrappers with the stock path of what they wrap."""
        for path, module in self.model.get_base_model().named_modules():
            if isinstance(module, BaseTunerLayer | ModulesToSaveWrapper):
                yield path.replace(".base_layer", ""), module


def _merged(path: str, layer: BaseTunerLayer) -> dict[str, torch.Tensor]:
    """The weights at `path` with the layer's adapter in them; a copy of one layer is merged."""
    merged = copy.deepcopy(layer)
    try:
        merged.merge(safe_merge=True)
    except NotImplementedError as error:
        raise NotPortableError(f"the adapter at {path} cannot be merged into a weight") from error
    return {f"{path}.{name}": weight.detach() for name, weight in merged.get_base_layer().named_parameters()}


def load_trained(adapter_folder: Path, base: BaseModel, *, kind: TaskKind, labels: Sequence[str] = ()) -> TrainedForm:
    """The adapter in `adapter_folder` on its base.

    Args:
        adapter_folder: As `save_adapter` wrote it.
        base: The base; its digest must be the one that the adapter was trained on.
        kind: What the adapter was trained for.
        labels: Class names in the order of the outputs, for a classifier.

    Raises:
        AdapterError: the folder is damaged, untrained, or was made for another base.
        ModelError: the base cannot be loaded for this kind of task.
    """
    spec = TaskSpec(name="export", kind=kind, labels=tuple(labels))
    model = load_adapter(base.load(spec), adapter_folder, base=base.reference).eval()
    facts = BaseFacts(
        name=base.reference.name,
        kind=kind,
        anatomy=inspect_model(model),
        config=model.get_base_model().config.get_text_config().to_dict(),
    )
    return TrainedForm(model=model, base=base.reference, base_folder=base.folder, facts=facts, labels=tuple(labels))
