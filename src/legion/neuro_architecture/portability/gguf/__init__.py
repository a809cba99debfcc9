"""Turns a stock checkpoint folder into one F32 GGUF file that llama.cpp and Ollama serve."""

from legion.neuro_architecture.portability.gguf.layouts import GGUF_ARCHITECTURES
from legion.neuro_architecture.portability.gguf.writing import GgufSummary, write_gguf

__all__ = ["GGUF_ARCHITECTURES", "GgufSummary", "write_gguf"]
