"""A file that comes in as a multipart form, within a bound. Knows no route."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from worker.errors import BadBody, BodyTooLarge

_BESIDE = 1 << 20  # bytes that a form may have beside its file


@dataclass(frozen=True, slots=True)
class Upload:
    """A form's text fields, and its file."""

    fields: dict[str, str]
    file: Path


@asynccontextmanager
async def uploaded(request: Request, *, most: int, folder: Path) -> AsyncIterator[Upload]:
    """The form in ``request``, whose field ``file`` of up to ``most`` bytes is in ``folder`` until the block ends.

    Raises :class:`BodyTooLarge`, and :class:`BadBody` for what is no such form.
    """
    form = await _form(request, most + _BESIDE)
    try:
        given = form.get("file")
        if not isinstance(given, UploadFile):
            raise BadBody("expected a multipart form with a file in its field 'file'")
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
        path = folder / str(uuid.uuid4())
        try:
            await asyncio.to_thread(_copy, given.file, path)
            yield Upload(fields, path)
        finally:
            path.unlink(missing_ok=True)  # whoever wanted it has moved it away
    finally:
        await form.close()


def _copy(source: BinaryIO, target: Path) -> None:
    with target.open("wb") as file:
        shutil.copyfileobj(source, file)


async def _form(request: Request, most: int) -> FormData:
    try:
        return await MultiPartParser(request.headers, _bounded(request, most), max_files=1, max_fields=8).parse()
    except BodyTooLarge:
        raise
    except (MultiPartException, KeyError, ValueError) as error:  # a content type that is none, or without a boundary
        raise BadBody(f"expected a multipart form: {error}") from error


async def _bounded(request: Request, most: int) -> AsyncGenerator[bytes]:
    taken = 0
    async for piece in request.stream():
        taken += len(piece)
        if taken > most:
            raise BodyTooLarge
        yield piece
