"""The tasks that run here: names that the catalogue gives them, and what artifacts call them."""

from runtime.artifacts import TEXT_EMBEDDINGS, TEXT_GENERATION
from runtime.tasks.text_embeddings import TextEmbeddings
from runtime.tasks.text_generation import TextGeneration

TASKS = {"Text Generation": TEXT_GENERATION, "Text Embeddings": TEXT_EMBEDDINGS}

__all__ = ["TASKS", "TextEmbeddings", "TextGeneration"]
