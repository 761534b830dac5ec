"""What engines share: a thread that works until the engine is closed. Knows no model."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod


class EngineThread(ABC):
    """Callers leave work under ``_wake``, and ``_work`` takes it up. Whoever derives from it starts ``_thread``."""

    def __init__(self, name: str) -> None:
        self._wake = threading.Condition()
        self._open = True
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    @property
    def open(self) -> bool:
        """Whether it takes requests: not once closed or broken."""
        return self._open

    def close(self) -> None:
        """Fail what is running, end the thread, release the model. Idempotent."""
        with self._wake:
            self._open = False
            self._wake.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    @abstractmethod
    def _work(self) -> None:
        """Work until closed, then fail what is left and release the model."""
