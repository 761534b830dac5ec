"""What a form does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from worker.answer import Answer


class Form(Protocol):
    """How an answer is rendered."""

    async def whole(self, answer: Answer) -> Any:
        """The JSON value of the whole answer."""

    def frames(self, answer: Answer) -> AsyncIterator[bytes]:
        """The answer as server-sent events."""
