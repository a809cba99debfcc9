"""The words around an article: the tokenizer's chat template where it has one, else a plain prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from legion.foundation.errors import ModelError
from legion.neuro_architecture.spec.task import TaskSpec

__all__ = ["Frame", "make_frame"]

_HEADLINES: Final = frozenset({"headline", "title"})
_MARK: Final = "\ue000ARTICLE\ue000"  # of the private use area: no template and no article holds it


@dataclass(frozen=True, slots=True)
class Frame:
    """Token ids before and after the article, and what the answer's text begins with (a space in a plain prompt)."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    lead: str

    @property
    def num_tokens(self) -> int:
        return len(self.before) + len(self.after)


def make_frame(tokenizer: Any, spec: TaskSpec) -> Frame:
    """The frame for a summarization: it asks for a headline where the target column is one, else for a summary.

    Raises:
        ModelError: the tokenizer's chat template drops or changes the user's words, or it has no end token.
    """
    if tokenizer.eos_token_id is None:
        raise ModelError("the tokenizer has no end token, so no answer could ever end")
    is_headline = spec.target_column in _HEADLINES
    request = "Write a headline for this article:" if is_headline else "Summarize this text in one sentence:"
    if tokenizer.chat_template:
        message = {"role": "user", "content": f"{request}\n\n{_MARK}"}
        text = tokenizer.apply_chat_template([message], add_generation_prompt=True, tokenize=False)
        parts = str(text).split(_MARK)
        if len(parts) != 2:
            raise ModelError("the tokenizer's chat template does not hand the user's words on unchanged")
        return Frame(_plain_ids(tokenizer, parts[0]), _plain_ids(tokenizer, parts[1]), "")
    begin = (tokenizer.bos_token_id,) if _begins_with_bos(tokenizer) else ()
    cue = "Headline:" if is_headline else "Summary:"
    return Frame(begin + _plain_ids(tokenizer, f"{request}\n\n"), _plain_ids(tokenizer, f"\n\n{cue}"), " ")


def _plain_ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def _begins_with_bos(tokenizer: Any) -> bool:
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
