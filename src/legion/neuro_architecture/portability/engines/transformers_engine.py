"""transformers in this process: a stock checkpoint as any user of it loads it, with the full logits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Final, final

from legion.foundation.errors import EngineError
from legion.neuro_architecture.data.quiet import quiet_transformers
from legion.neuro_architecture.data.weights import check_folder
from legion.neuro_architecture.portability.engines.contract import Question, Reply, Served
from legion.neuro_architecture.portability.values import Target

__all__ = ["TransformersEngine", "answer", "load_checkpoint"]

_OTHER_HEADS: Final = ("lm_head.", "cls.", "vocab_", "qa_outputs.")
_REFUSALS: Final = (ImportError, OSError, ValueError, KeyError, RuntimeError, AttributeError)


@final
class TransformersEngine:
    """Implements `Engine` with the installed transformers: fp32, eager attention, no code of the model's own."""

    @property
    def target(self) -> Target:
        return "transformers"

    def version(self) -> str:
        import transformers

        return f"transformers {transformers.__version__}"

    def ask(self, jobs: Sequence[tuple[Served, Sequence[Question]]]) -> list[list[Reply]]:
        """As `Engine.ask`, with logits.

        Raises:
            ModelError: a folder asks to run code of its own, or links out of itself.
            EngineError: a checkpoint is not exactly the model of its config, or an adapter is to be served.
        """
        return [self._serve(served, questions) for served, questions in jobs]

    def _serve(self, served: Served, questions: Sequence[Question]) -> list[Reply]:
        if served.adapter is not None:
            raise EngineError(
                f"transformers alone serves no adapter folder: {served.adapter}", hint="ask PEFT, or merge it first"
            )
        model, is_classifier = load_checkpoint(served.model)
        return [answer(model, question, is_classifier=is_classifier) for question in questions]


def load_checkpoint(folder: Path, *, num_labels: int | None = None, fresh: Collection[str] = ()) -> tuple[Any, bool]:
    """The model of a checkpoint folder, and whether it is a classifier.

    Args:
        folder: As `save_pretrained` writes it; `architectures` in its config names the kind of model.
        num_labels: Loads it as a classifier of so many labels instead, whatever it was saved as.
        fresh: Names of modules whose tensors may be missing, since an adapter brings them.

    Raises:
        ModelError: the folder asks to run code of its own, or links out of itself.
        EngineError: tensors are missing, unexpected or of another shape, or transformers refuses the folder.
    """
    import safetensors
    import torch
    import transformers

    check_folder(folder)
    try:
        config = transformers.AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        is_classifier = num_labels is not None or _is_classifier(config)
        auto_class = (
            transformers.AutoModelForSequenceClassification if is_classifier else transformers.AutoModelForCausalLM
        )
        if num_labels is not None:
            config.num_labels = num_labels
        with quiet_transformers(), torch.random.fork_rng(devices=[]):
            model, report = auto_class.from_pretrained(
                str(folder),
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                attn_implementation="eager",
                dtype=torch.float32,
                output_loading_info=True,
            )
    except (*_REFUSALS, safetensors.SafetensorError) as error:
        raise EngineError(f"transformers refuses {folder}", cause=str(error).strip() or type(error).__name__) from error
    _refuse_differences(folder, report, fresh, has_new_head=num_labels is not None)
    return model.eval(), is_classifier


def answer(model: Any, question: Question, *, is_classifier: bool) -> Reply:
    """What a model in memory says to one question: the logits of the last position, and a greedy continuation.

    Raises:
        EngineError: the model's own computation fails (an expert's width that its kernels do not take).
    """
    import torch

    def logits_of(tokens: Sequence[int]) -> torch.Tensor:
        ids = torch.tensor([list(tokens)])
        try:
            with torch.no_grad():
                logits: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        except (RuntimeError, ValueError, IndexError) as error:
            raise EngineError(f"{type(model).__name__} cannot be computed", cause=str(error)) from error
        return (logits[0] if is_classifier else logits[0, -1]).float()

    first = logits_of(question.token_ids)
    values = tuple(first.tolist())
    if is_classifier:
        return Reply(logits=values)
    logprobs = dict(enumerate(torch.log_softmax(first.double(), dim=-1).tolist()))
    return Reply(logits=values, logprobs=logprobs, tokens=_continue(logits_of, question, first))


def _continue(logits_of: Callable[[Sequence[int]], Any], question: Question, first: Any) -> tuple[int, ...]:
    """Without a cache of keys and values: slower, and nothing but the forward pass that was compared."""
    tokens = list(question.token_ids)
    logits = first
    for step in range(question.num_tokens):
        tokens.append(int(logits.argmax()))
        if step + 1 < question.num_tokens:
            logits = logits_of(tokens)
    return tuple(tokens[len(question.token_ids) :])


def _is_classifier(config: Any) -> bool:
    names = config.architectures or []
    return any(name.endswith("ForSequenceClassification") for name in names)


def _refuse_differences(folder: Path, report: dict[str, Any], fresh: Collection[str], *, has_new_head: bool) -> None:
    missing = [key for key in sorted(report["missing_keys"]) if not any(part in fresh for part in key.split("."))]
    mistakes = [f"missing tensor {key}" for key in missing]
    # A model that is read as a classifier leaves the head that it was saved with, and nothing else.
    left = _OTHER_HEADS if has_new_head else ()
    mistakes += [f"unexpected tensor {key}" for key in sorted(report["unexpected_keys"]) if not key.startswith(left)]
    mistakes += [f"tensor {entry[0]} has another shape" for entry in sorted(report["mismatched_keys"])]
    mistakes += [str(words) for words in report.get("error_msgs") or []]
    if mistakes:
        raise EngineError(f"{folder} does not hold the model of its config", cause="\n".join(mistakes[:10]))
