"""What went wrong in a Worker, as JSON that roost shows: the user's traceback, without our own frames."""

from __future__ import annotations

import asyncio
import importlib
import traceback
import types
from pathlib import Path
from typing import Any

from .js_base import JsException

_INTERNAL = (
    "<frozen ",
    *(str(Path(file).parent) for file in (__file__, asyncio.__file__, importlib.__file__)),
)
_NAMED = (NameError, AttributeError, ImportError)
"""Whose ``name`` is that of what isn't there."""


class NoHandler(TypeError):
    """A call of what the Worker hasn't: a TypeError to it, in which our own frames would say nothing."""


NoHandler.__name__ = NoHandler.__qualname__ = "TypeError"
NoHandler.__module__ = "builtins"


def told(error: BaseException) -> dict[str, Any]:
    """``error`` with its name, its message and its traceback from the user's first frame on."""
    shown = traceback.TracebackException.from_exception(error)
    seen: traceback.TracebackException | None = shown
    while seen is not None:
        if isinstance(error, NoHandler | SyntaxError) or any(not _internal(frame.filename) for frame in seen.stack):
            seen.stack = traceback.StackSummary.from_list([f for f in seen.stack if not _internal(f.filename)])
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    message = f"the Worker called sys.exit({error.code!r})" if isinstance(error, SystemExit) else _words(error)
    name = type(error).__name__
    if isinstance(error, JsException):  # an AttributeError's name, say, is the attribute's
        name, message = error.name, error.message
    return {
        "name": name,
        "message": message,
        "traceback": "".join(shown.format()),
        "fatal": isinstance(error, SystemExit | MemoryError | KeyboardInterrupt),
    }


def stuck(frame: types.FrameType | None, seconds: float) -> dict[str, Any]:
    """What to say of a Worker that has let nothing else run for ``seconds``, and is at ``frame``."""
    stack = [entry for entry in traceback.extract_stack(frame) if not _internal(entry.filename)]
    lines = "".join(traceback.format_list(stack))
    message = f"the Worker ran for {seconds:g} seconds without awaiting anything, and was ended"
    return {"name": "TimeLimit", "message": message, "traceback": f"It was here:\n{lines}", "fatal": True}


def _words(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failed:
        return f"its own message can't be had: {failed!r}"


def _internal(filename: str) -> bool:
    return filename.startswith(_INTERNAL)
