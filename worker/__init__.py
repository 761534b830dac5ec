"""The emulator: ``env`` and its bindings, the errors they raise, and the HTTP host of the doors."""

from runtime.tasks.text_generation import Finished, TextDelta
from runtime.tool_calls import ToolCall
from worker.answer import AIStream
from worker.bindings import AI
from worker.env import Env, env
from worker.errors import AiError

__all__ = ["AI", "AIStream", "AiError", "Env", "Finished", "TextDelta", "ToolCall", "env"]
