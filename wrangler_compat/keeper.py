"""``python -m wrangler_compat.keeper MARK``: waits for the end of its standard input, then ends what bears the mark.

roost holds the other end. However roost ends, a ``kill -9`` included, the pipe closes, and wrangler with all its
children goes too.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from wrangler_compat.marked import end_marked


@contextmanager
def kept(mark: str) -> Iterator[None]:
    """A keeper beside the block; at its end, whatever bears ``mark`` is ended."""
    # -P: the user's folder, where roost is started, is not looked in for modules.
    command = [sys.executable, "-P", "-m", __name__, mark]
    keeper = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield
    finally:
        keeper.communicate()


def main() -> None:
    """Wait, then clear up. A terminal's signals are not for the keeper."""
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    sys.stdin.buffer.read()
    end_marked(sys.argv[1])


if __name__ == "__main__":
    main()
