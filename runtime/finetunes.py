"""The fine-tunes in the user's cache: LoRA adapters under a name and an id, each made for one model.

A fine-tune is a folder named by its id, with a record and the adapter's two files. One made of a folder is there whole
or not at all; one that is uploaded file by file, as the platform's API has it, is incomplete until the second is there.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

from runtime.adapters import FILES, PeftAdapter
from runtime.artifacts import cache_root
from runtime.errors import AdapterError, BadParameter, FinetuneIncomplete, FinetuneTaken, UnknownFinetune
from runtime.peft_config import CONFIG, read_config

MOST = 100
"""The platform's limit for an account (developers.cloudflare.com/workers-ai/features/fine-tunes/loras)."""
LONGEST_NAME, LONGEST_DESCRIPTION = 256, 4096
"""Characters; roost's own bounds."""
_RECORD = "finetune.json"
_RESERVED = "cf-public-"  # for adapters of Cloudflare's own, says its documentation


class Finetune(BaseModel):
    """A fine-tune's record, in the API's form. ``model``: the catalogue name that it was made for."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    model: str
    description: str
    public: bool
    created_at: str
    modified_at: str


class FinetuneStore:
    """The fine-tunes under one cache folder."""

    def __init__(self, root: Path | None = None) -> None:
        self._root = (root or cache_root()) / "finetunes"

    def all(self) -> list[Finetune]:
        """Every fine-tune, oldest first; what isn't one is left out."""
        found = (self._read(path.parent) for path in self._root.glob(f"*/{_RECORD}"))
        return sorted((one for one in found if one is not None), key=lambda one: (one.created_at, one.id))

    def find(self, wanted: str) -> Finetune:
        """The fine-tune with this id or name; :class:`UnknownFinetune` if there is none."""
        found = next((one for one in self.all() if wanted in (one.id, one.name)), None)
        if found is None:
            raise UnknownFinetune(f"Finetune {wanted} not found")
        return found

    def folder(self, finetune: Finetune) -> Path:
        """Where its adapter's files are; :class:`FinetuneIncomplete` while one is missing."""
        if not self.whole(finetune):
            raise FinetuneIncomplete(f"Finetune {finetune.name} is missing one of {', '.join(FILES)}")
        return self._root / finetune.id

    def whole(self, finetune: Finetune) -> bool:
        """Whether both of its adapter's files are there."""
        return all((self._root / finetune.id / name).is_file() for name in FILES)

    def create(self, model: str, name: str, *, description: str = "", public: bool = False) -> Finetune:
        """A new fine-tune without files; refused are a name that is taken and one more than :data:`MOST`."""
        with self._making(model, name, description, public) as (finetune, _):
            return finetune

    def create_from(self, model: str, name: str, folder: Path) -> Finetune:
        """A new fine-tune of the adapter in ``folder``, which is read through and copied."""
        PeftAdapter.read(folder)
        with self._making(model, name, "", False) as (finetune, partial):
            for file in FILES:
                shutil.copyfile(folder / file, partial / file)
            return finetune

    def add_file(self, wanted: str, name: str, source: Path) -> Finetune:
        """Move the file ``source`` to a fine-tune under ``name``. It must make sense together with what is there.

        A file that is there stays: prompts that were read with it may be kept.
        """
        if name not in FILES:
            raise BadParameter("/file_name", f"'/file_name' must be one of {', '.join(FILES)}")
        with self._locked():
            finetune = self.find(wanted)
            folder = self._root / finetune.id
            if (folder / name).exists():
                raise FinetuneTaken(f"Finetune {finetune.name} has its {name} already: create another fine-tune")
            os.replace(source, folder / name)
            try:
                _check(folder)
            except AdapterError:
                (folder / name).unlink()
                raise
            changed = finetune.model_copy(update={"modified_at": _now()})
            _write(folder, changed)
            return changed

    def remove(self, wanted: str) -> int:
        """Delete a fine-tune; the bytes that it took."""
        with self._locked():
            folder = self._root / self.find(wanted).id
            size = sum(path.stat().st_size for path in folder.iterdir())
            shutil.rmtree(folder)
            return size

    def incoming(self) -> Path:
        """A folder on the same disk, for files that are still coming in."""
        folder = self._root / ".incoming"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def _making(self, model: str, name: str, description: str, public: bool) -> Iterator[tuple[Finetune, Path]]:
        """A record, and a temporary folder that becomes the fine-tune when the block ends without an error."""
        _check_words(name, description)
        with self._locked():
            others = self.all()
            if any(name in (one.name, one.id) for one in others):
                raise FinetuneTaken(f"there is a fine-tune named {name} already")
            if len(others) >= MOST:
                raise FinetuneTaken(f"there are {MOST} fine-tunes, as many as the platform allows: delete one")
            now = _now()
            finetune = Finetune(
                id=str(uuid.uuid4()),
                name=name,
                model=model,
                description=description,
                public=public,
                created_at=now,
                modified_at=now,
            )
            partial = self._root / f".{finetune.id}.partial"
            partial.mkdir()
            try:
                _write(partial, finetune)
                yield finetune, partial
                partial.rename(self._root / finetune.id)
            finally:
                shutil.rmtree(partial, ignore_errors=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._root.mkdir(parents=True, exist_ok=True)
        with FileLock(self._root / ".lock"):
            yield

    def _read(self, folder: Path) -> Finetune | None:
        try:
            record = Finetune.model_validate_json((folder / _RECORD).read_bytes())
        except (OSError, ValidationError):
            return None
        return record if record.id == folder.name else None


def _check(folder: Path) -> None:
    """Refuse files that can't be used, as far as they are there."""
    if all((folder / name).is_file() for name in FILES):
        PeftAdapter.read(folder)
    elif (folder / CONFIG).is_file():
        read_config(folder)


def _check_words(name: str, description: str) -> None:
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise BadParameter("/name", f"'/name' must be 1 to {LONGEST_NAME} printable characters")
    if name.startswith(_RESERVED):
        raise BadParameter("/name", f"'/name' must not begin with {_RESERVED}, which is Cloudflare's own")
    if len(description) > LONGEST_DESCRIPTION:
        raise BadParameter("/description", f"'/description' must be at most {LONGEST_DESCRIPTION} characters")


def _write(folder: Path, finetune: Finetune) -> None:
    """Write the record so that it is never seen half written."""
    new = folder / f".{_RECORD}"
    new.write_text(finetune.model_dump_json(indent=2), encoding="utf-8")
    os.replace(new, folder / _RECORD)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
