"""What an isolate can import: the user's folders first, the SDK last, and nothing of roost's."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_ROOMS = ("catalog", "runtime", "worker", "wrangler_compat")
_SDK = ("workers", "asgi")


def set_path(folders: Sequence[str], root: str, sdk: str) -> None:
    """``folders`` go before the site-packages; ``root``, where roost is, is left out; the SDK is taken from ``sdk``."""
    rest = [entry for entry in sys.path if entry and not (entry == root and Path(entry).name != "site-packages")]
    sys.path[:] = [*folders, *(entry for entry in rest if entry not in folders)]
    sys.meta_path.insert(0, _NotRoost(root))
    sys.meta_path.append(_Sdk(sdk))


class _NotRoost:
    """Finds a user's ``worker`` or ``runtime``, and passes over roost's own in the same site-packages."""

    def __init__(self, root: str) -> None:
        self._root = root

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See :class:`importlib.abc.MetaPathFinder`."""
        if name not in _ROOMS:
            return None
        found = PathFinder.find_spec(name, [entry for entry in sys.path if entry != self._root])
        if found is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return found


class _Sdk:
    """Finds the SDK that came with roost, where the project has none of its own."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See :class:`importlib.abc.MetaPathFinder`."""
        if name not in _SDK:
            return None
        return PathFinder.find_spec(name, [self._folder])


def module_name(main: str) -> str:
    """The name under which the Worker's module is imported; its folder is on the path."""
    return Path(main).stem
