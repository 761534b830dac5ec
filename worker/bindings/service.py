"""A service binding: another Worker of this ``roost dev``, by ``fetch`` and by calls of its methods."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from worker.bindings.binding import Binding, BindingError, Incoming, Outgoing
from worker.isolate_process import WorkerFault
from worker.sockets import IsolateSocket

if TYPE_CHECKING:
    from worker.front import Front
    from worker.isolates import PythonWorker


@dataclass(frozen=True, slots=True)
class Target:
    """Where a service binding leads. ``entrypoint``: a class of that Worker, ``None`` for its default one.

    ``props``: what that class finds in ``ctx.props``.
    """

    worker: str
    entrypoint: str | None = None
    props: Mapping[str, Any] = field(default_factory=dict)

    @property
    def head(self) -> dict[str, Any]:
        """What a message to the Worker says of it."""
        return {"entrypoint": self.entrypoint, "props": dict(self.props)}


class Service(Binding):
    """The Worker of ``target`` among ``workers``, which need not be there yet when this is made."""

    def __init__(self, target: Target, workers: Mapping[str, tuple[PythonWorker, Front]]) -> None:
        self._target = target
        self._workers = workers

    def described(self) -> dict[str, Any]:
        """See :meth:`Binding.described`."""
        return {"kind": "fetcher", "calls": True}

    async def fetch(self, request: Outgoing) -> Incoming:
        """That Worker's response."""
        try:
            return await self._workers[self._target.worker][1].fetch(request, self._target)
        except WorkerFault as fault:
            raise _passed_on(fault) from fault

    async def rpc(
        self, head: Mapping[str, Any], body: AsyncGenerator[bytes]
    ) -> tuple[dict[str, Any], AsyncGenerator[bytes] | bytes]:
        """The answer of that Worker's method; a fault while its streams are read breaks them off."""
        worker, _ = self._workers[self._target.worker]
        sent = {"op": "call", "method": head["method"], "args": head["args"], **self._target.head}
        try:
            answer, back = await worker.exchange(sent, body if head["streams"] else None)
        except WorkerFault as fault:
            raise _passed_on(fault) from fault
        assert not isinstance(back, IsolateSocket)  # which only a request's answer is
        return answer, back


def _passed_on(fault: WorkerFault) -> BindingError:
    return BindingError(str(fault.told.get("message", "")), str(fault.told.get("name", "Error")))
