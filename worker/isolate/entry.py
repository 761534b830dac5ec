"""The Worker's own code: its module, the handlers in it, and how they are called."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from .context import Context
from .faults import NoHandler
from .js_base import JsObject
from .js_messages import Request, Response
from .js_promises import settled
from .js_queues import MessageBatch

_GLOBALS_ENDED = "2025-08-14"
"""The compatibility date from which ``on_fetch`` and its kin need a flag (workerd's compatibility-date.capnp)."""
_HANDLERS = ("fetch", "scheduled", "queue")


class BadWorker(Exception):
    """A module that is no Worker; one sentence says what it lacks."""


class Entry:
    """The module ``name`` under the Worker's compatibility ``flags`` and ``date``."""

    def __init__(self, name: str, flags: list[str], date: str, env: Any) -> None:
        if "python_workers" not in flags:
            raise BadWorker('a Python Worker needs "python_workers" among its compatibility_flags')
        self._env = env
        self._module = importlib.import_module(name)
        default = getattr(self._module, "Default", None)
        found = [f"on_{each}" for each in _HANDLERS if callable(getattr(self._module, f"on_{each}", None))]
        if default is not None and found:
            raise TypeError("Cannot define multiple default entrypoints")
        if found and _no_global_handlers(flags, date):
            raise BadWorker(
                f"{name}.py has {found[0]}, which this compatibility date doesn't call: define class "
                'Default(WorkerEntrypoint), or add the flag "disable_python_no_global_handlers"'
            )
        if default is None and not found and not any(map(_is_entrypoint, vars(self._module).values())):
            raise BadWorker(f"{name}.py has no class Default(WorkerEntrypoint)")
        self._default = default
        self._functions = bool(found)

    async def fetch(self, request: Request, ctx: Context, entrypoint: str | None = None) -> Response:
        """The response of the Worker, or of its class ``entrypoint``."""
        handler = self._handler("fetch", ctx, entrypoint)
        given = request if self._functions and entrypoint is None else _wrapped(request)
        made = await settled(_relaxed(handler, given, self._handed_env(), ctx))
        response = getattr(made, "js_object", made)
        if isinstance(response, Response):
            return response
        what = "nothing" if made is None else f"a {type(made).__name__}"
        raise TypeError(f"the Worker's fetch returned {what} in place of a Response")

    async def scheduled(self, cron: str, at: float, ctx: Context) -> None:
        """Run the scheduled handler for the pattern ``cron`` at ``at``, milliseconds since 1970."""
        controller = ScheduledController({"scheduledTime": at, "cron": cron, "type": "scheduled"})
        await settled(_relaxed(self._handler("scheduled", ctx), controller, self._handed_env(), ctx))

    async def queue(self, batch: MessageBatch, ctx: Context) -> None:
        """Run the queue handler, which leaves its decisions in ``batch``."""
        await settled(_relaxed(self._handler("queue", ctx), batch, self._handed_env(), ctx))

    async def call(self, method: str, ctx: Context, entrypoint: str | None, args: list[Any]) -> Any:
        """The result of another Worker's call of ``method``, as JavaScript has it."""
        from workers import python_from_rpc, python_to_rpc

        if (self._functions and entrypoint is None) or method.startswith("_") or method in (*_HANDLERS, "constructor"):
            raise NoHandler(f"The RPC receiver does not implement the method {method!r}.")
        handler = self._handler(method, ctx, entrypoint)
        return python_to_rpc(await settled(handler(*[python_from_rpc(arg) for arg in args])))

    def _handed_env(self) -> Any:
        """``env`` as an argument: a class's is the SDK's, a function's is bare unless ``@handler`` wraps it."""
        from workers.rpc import _EnvWrapper

        return self._env if self._functions else _EnvWrapper(self._env)

    def _handler(self, name: str, ctx: Context, entrypoint: str | None = None) -> Callable[..., Any]:
        made = self._default
        if entrypoint is not None:
            made = getattr(self._module, entrypoint, None)
            if not _is_entrypoint(made):
                raise NoHandler(f"{self._module.__name__}.py has no class {entrypoint}(WorkerEntrypoint)")
        if made is not None:
            handler = getattr(made(ctx, self._env), name, None)
        else:
            handler = getattr(self._module, f"on_{name}", None)
        if not callable(handler):
            if name in _HANDLERS:
                raise NoHandler(f"Handler does not export a {name}() function.")
            raise NoHandler(f"The RPC receiver does not implement the method {name!r}.")
        return handler  # type: ignore[no-any-return]


class ScheduledController(JsObject):
    """What a scheduled handler is given."""

    js_name = "ScheduledController"

    def noRetry(self) -> None: ...


def _is_entrypoint(value: Any) -> bool:
    from workers import WorkerEntrypoint

    return isinstance(value, type) and issubclass(value, WorkerEntrypoint) and value is not WorkerEntrypoint


def _wrapped(request: Request) -> Any:
    from workers import Request as Wrapped

    return Wrapped(request)


def _relaxed(handler: Callable[..., Any], *args: Any) -> Any:
    """Call ``handler`` with as many of ``args`` as it takes."""
    kinds = [parameter.kind for parameter in inspect.signature(handler).parameters.values()]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    takes = len(args) if inspect.Parameter.VAR_POSITIONAL in kinds else sum(kind in positional for kind in kinds)
    return handler(*args[:takes])


def _no_global_handlers(flags: list[str], date: str) -> bool:
    if "disable_python_no_global_handlers" in flags:
        return False
    return "python_no_global_handlers" in flags or date >= _GLOBALS_ENDED
