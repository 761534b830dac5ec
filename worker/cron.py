"""Cron patterns as Cloudflare reads them, in UTC: five fields, days of the week from 1 (Sunday) to 7.

developers.cloudflare.com/workers/configuration/cron-triggers. ``L``, ``W`` and ``#`` are not known here.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 1, 7))


class BadCron(ValueError):
    """A pattern that means nothing, or that roost doesn't know."""


@dataclass(frozen=True, slots=True)
class Cron:
    """A pattern. ``fields``: the values that each of its five fields admits."""

    pattern: str
    fields: tuple[frozenset[int], ...]

    @classmethod
    def parse(cls, pattern: str) -> Cron:
        """Read a pattern; raises :class:`BadCron`."""
        texts = pattern.split()
        if len(texts) != len(_FIELDS):
            raise BadCron(f"{pattern!r} has {len(texts)} fields, a cron pattern has {len(_FIELDS)}")
        return cls(pattern, tuple(_field(text.upper(), *known) for text, known in zip(texts, _FIELDS, strict=True)))

    def meets(self, moment: datetime.datetime) -> bool:
        """Whether it runs in the minute of ``moment`` (UTC)."""
        weekday = moment.isoweekday() % 7 + 1
        values = (moment.minute, moment.hour, moment.day, moment.month, weekday)
        return all(value in field for value, field in zip(values, self.fields, strict=True))


def _field(text: str, name: str, first: int, last: int) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        low, dash, high = span.partition("-")
        try:
            start = first if low == "*" else _number(low, name)
            end = _number(high, name) if dash else last if low == "*" or step else start
            every = int(step) if step else 1
            found |= set(range(start, end + 1, every))
        except ValueError as error:
            raise BadCron(f"{part!r} is no {name} that roost knows in a cron pattern") from error
        if not first <= start <= end <= last:
            raise BadCron(f"{part!r} is no {name}: they go from {first} to {last}")
    return frozenset(found)


def _number(text: str, name: str) -> int:
    names = {"month": _MONTHS, "weekday": _DAYS}.get(name, ())
    return names.index(text) + 1 if text in names else int(text)
