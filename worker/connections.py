"""hypercorn's connections, less a fault: one that its client closed while it was idle was kept until its time was over.

Seen with hypercorn 0.18: the task that waits for an idle connection's end (75 s here) isn't told that the client has
closed it, and keeps the descriptor. A thousand short clients in a minute would use them up.
"""

from __future__ import annotations

from hypercorn.asyncio import run
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.events import Event, Updated


class Connection(TCPServer):
    """A connection that waits for nothing once its client has closed it."""

    async def _read_data(self) -> None:
        try:
            await super()._read_data()
        finally:
            await self.idle_task.stop()

    async def protocol_send(self, event: Event) -> None:
        """Send, close, or begin to wait for another request, which one that has closed won't send."""
        if isinstance(event, Updated) and event.idle and self.reader.at_eof():
            return await self.idle_task.stop()
        await super().protocol_send(event)


def install() -> None:
    """Make hypercorn's servers of this process use them. Idempotent."""
    vars(run)["TCPServer"] = Connection
