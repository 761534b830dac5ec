"""R2's limits, errors, conditions and ranges, as miniflare's bucket and workerd have them. Knows no storage.

developers.cloudflare.com/r2/platform/limits and /r2/api/workers/workers-api-reference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from worker.bindings.binding import BindingError

KEY = 1024  # bytes of a key
METADATA = 8192  # bytes of custom metadata
OBJECT = 5 * 2**30 - 5 * 2**20  # bytes of an object put at once, or of a part
PART = 5 * 2**20  # bytes of a part that isn't the last, at least
KEYS = 1000  # in a list or a deletion
WITH_METADATA = 100  # keys in a list that includes metadata
_ERRORS = {
    10001: "We encountered an internal error. Please try again.",
    10011: "Your proposed upload is smaller than the minimum allowed object size.",
    10012: "Your metadata headers exceed the maximum allowed metadata size.",
    10020: "The specified object name is not valid.",
    10022: f"MaxKeys params must be positive integer <= {KEYS}.",
    10024: "The specified multipart upload does not exist.",
    10025: "One or more of the specified parts could not be found.",
    10039: "The requested range is not satisfiable",
    10048: "There was a problem with the multipart upload.",
    100100: "Your proposed upload exceeds the maximum allowed object size.",
}
_SPELT = {"md5": "MD5", "sha1": "SHA-1", "sha256": "SHA-256", "sha384": "SHA-384", "sha512": "SHA-512"}
_RANGE = re.compile(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", re.IGNORECASE)


class R2Error(Exception):
    """What R2 refuses. :meth:`during` says it as the call named there does."""

    def __init__(self, code: int, message: str | None = None) -> None:
        super().__init__(message or _ERRORS[code])
        self.code = code

    def during(self, action: str) -> BindingError:
        """The error of a call of ``action``."""
        return BindingError(f"{action}: {self} ({self.code})")


class PreconditionFailed(Exception):
    """An ``onlyIf`` that doesn't hold."""


def check_key(key: str) -> None:
    """Raise for a key that is too long."""
    if len(key.encode(errors="replace")) > KEY:
        raise R2Error(10020)


def check_size(size: int) -> None:
    """Raise for an object, or a part, that is too large."""
    if size > OBJECT:
        raise R2Error(100100)


def check_metadata(custom: Mapping[str, str]) -> None:
    """Raise for custom metadata that is too large."""
    if sum(len(text.encode(errors="replace")) for pair in custom.items() for text in pair) > METADATA:
        raise R2Error(10012)


def check_digest(algorithm: str, given: str, found: str) -> None:
    """Raise unless the checksum ``given`` is the one ``found``; both in hex."""
    if given != found:
        name = _SPELT[algorithm]
        raise R2Error(
            10037,
            f"The {name} checksum you specified did not match what we received.\n"
            f"You provided a {name} checksum with value: {given}\nActual {name} was: {found}",
        )


def limit_of(options: Mapping[str, Any]) -> int:
    """How many keys a list may have."""
    limit = options.get("limit")
    if limit is None:
        limit = KEYS
    if isinstance(limit, str) or not 1 <= limit <= KEYS:
        raise R2Error(10022)
    return min(int(limit), WITH_METADATA) if options.get("include") else int(limit)


def check_condition(only_if: Mapping[str, Any] | None, found: tuple[str, int] | None) -> None:
    """Raise :class:`PreconditionFailed` unless ``only_if`` holds of the etag and the time ``found``, if any.

    ``only_if``: lists of ``{"type": strong|weak|wildcard, "value"}``, milliseconds since 1970, ``seconds`` to compare
    times by. A condition on the etag that holds outdoes the one on time, as in HTTP (RFC 9110, 13.2.2).
    """
    if only_if is None:
        return
    matches, differs = only_if.get("etagMatches"), only_if.get("etagDoesNotMatch")
    before, after = only_if.get("uploadedBefore"), only_if.get("uploadedAfter")
    if found is None:
        if matches is not None or after is not None:
            raise PreconditionFailed
        return
    etag, uploaded = found
    unit = 1000 if only_if.get("seconds") else 1
    matched = matches is None or _includes(matches, etag, weak=False)
    differed = differs is None or not _includes(differs, etag, weak=True)
    late = after is None or after // unit < uploaded // unit or (differs is not None and differed)
    early = before is None or uploaded // unit < before // unit or (matches is not None and matched)
    if not (matched and differed and late and early):
        raise PreconditionFailed


def _includes(etags: Sequence[Mapping[str, str]], etag: str, *, weak: bool) -> bool:
    return any(
        each["type"] == "wildcard" or (each["value"] == etag and (weak or each["type"] == "strong")) for each in etags
    )


def range_of(wanted: Mapping[str, Any] | str | None, size: int) -> tuple[int, int]:
    """The offset and length of what is ``wanted`` of ``size`` bytes: an object's range, or a header's."""
    if isinstance(wanted, str):
        return _header_range(wanted, size)
    offset, length, suffix = (None, None, None) if wanted is None else map(wanted.get, ("offset", "length", "suffix"))
    if offset is None and length is None and suffix is None:
        return 0, size
    if suffix is not None:
        offset = size - min(suffix, size)
        length = size - offset if suffix else 0
    offset = offset or 0
    length = size - offset if length is None else length
    if offset > size or length <= 0:
        raise R2Error(10039)
    return int(offset), int(min(length, size - offset))


def _header_range(header: str, size: int) -> tuple[int, int]:
    """What a Range header asks for; everything, as in HTTP, if it isn't one range that there is."""
    found = _RANGE.fullmatch(header)
    if found is None or not any(found.groups()):
        return 0, size
    first, last = found[1], found[2]
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    return (start, end - start + 1) if start <= end else (0, size)
