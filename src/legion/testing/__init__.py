"""Floor 7: tiny models, tiny data and fakes that tests share. Nothing here is needed to run the product."""

from legion.testing.anatomies import paper_anatomy
from legion.testing.checkpoints import TINY_VOCAB_SIZE, tiny_checkpoint, write_byte_tokenizer
from legion.testing.tiny import TINY_FAMILIES, tiny_classification, tiny_model, tiny_summarization

__all__ = [
    "TINY_FAMILIES",
    "TINY_VOCAB_SIZE",
    "paper_anatomy",
    "tiny_checkpoint",
    "tiny_classification",
    "tiny_model",
    "tiny_summarization",
    "write_byte_tokenizer",
]
