"""The tasks that run here, by the name the catalogue gives them."""

from runtime.tasks.text_generation import TextGeneration

TASKS = {"Text Generation": TextGeneration}

__all__ = ["TASKS", "TextGeneration"]
