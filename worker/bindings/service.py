"""A service binding: another Worker of this ``roost dev``, by ``fetch`` and by calls of its methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from worker.bindings.binding import Binding, BindingError, Incoming, Outgoing
from worker.isolate.values import decode, encode
from worker.isolate_process import WorkerFault

if TYPE_CHECKING:
    from worker.front import Front
    from worker.isolates import PythonWorker


class Service(Binding):
    """The Worker ``name`` among ``workers``, which need not be there yet when this is made."""

    def __init__(self, name: str, workers: Mapping[str, tuple[PythonWorker, Front]]) -> None:
        self._name = name
        self._workers = workers

    def described(self) -> dict[str, Any]:
        """See :meth:`Binding.described`."""
        return {"kind": "fetcher", "calls": True}

    async def fetch(self, request: Outgoing) -> Incoming:
        """That Worker's response."""
        try:
            return await self._workers[self._name][1].fetch(request)
        except WorkerFault as fault:
            raise _passed_on(fault) from fault

    async def call(self, method: str, args: list[Any]) -> Any:
        """The result of that Worker's method."""
        worker, _ = self._workers[self._name]
        try:
            answer = await worker.call({"op": "call", "method": method, "args": encode(args)})
        except WorkerFault as fault:
            raise _passed_on(fault) from fault
        return decode(answer["value"])


def _passed_on(fault: WorkerFault) -> BindingError:
    return BindingError(str(fault.told.get("message", "")), str(fault.told.get("name", "Error")))
