"""A click group whose every mistake is one line on the error stream, usage errors included."""

from __future__ import annotations

import functools
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import click

from catalog import InvalidInput, UnknownModel
from runtime.errors import RuntimeFault
from worker import AiError
from worker.errors import NotEmulated
from wrangler_compat.project import ProjectError


class _Mistakes(click.ClickException):
    """A project's mistakes, a line each."""


class OneLineGroup(click.Group):
    """Prints ``Error: …`` and nothing else, where click would add the usage and a hint."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command and exit with its status."""
        if threading.current_thread() is threading.main_thread():
            _end_by_exception()
        try:
            status = super().main(*args, **{**kwargs, "standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as help_:
            click.echo(help_.format_message(), err=True)
            sys.exit(help_.exit_code)
        except click.ClickException as mistake:
            lines = mistake.message.splitlines() if isinstance(mistake, _Mistakes) else [mistake.format_message()]
            for line in lines:
                click.echo(f"Error: {' '.join(line.split())}", err=True)
            sys.exit(mistake.exit_code)
        except (click.Abort, KeyboardInterrupt):
            sys.exit(130)
        sys.exit(status if isinstance(status, int) else 0)


def _end_by_exception() -> None:
    """SIGTERM, and a terminal's end, as an exception, so that whatever is half made is cleared away."""
    for signum in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(signum) is not signal.SIG_IGN:  # as nohup leaves it
            signal.signal(signum, _end)


def _end(signum: int, _frame: object) -> None:
    sys.exit(128 + signum)


def one_line_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """A mistake of the user's, or of the machine's, is one line without a traceback."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except UnknownModel as error:
            hint = f"; did you mean {' or '.join(error.suggestions)}?" if error.suggestions else ""
            raise click.ClickException(f"{AiError.of(error)}{hint}") from error
        except (InvalidInput, NotEmulated) as error:
            raise click.ClickException(str(AiError.of(error))) from error
        except ProjectError as error:
            raise _Mistakes(str(error)) from error
        except (AiError, RuntimeFault, OSError) as error:
            raise click.ClickException(str(error)) from error

    return wrapped
