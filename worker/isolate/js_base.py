"""JavaScript's values as Python meets them under Pyodide: proxies, plain objects, arrays, maps, errors, null.

Names and behaviour are those of ``pyodide.ffi`` and of the web platform (MDN); what a proxy lacks here raises an
error that names it.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

COVERAGE = "docs/coverage.md lists what roost has"


class JsNull:
    """The type of :data:`jsnull`."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "jsnull"


jsnull = JsNull()
"""JavaScript's null, which Pyodide 0.28 and newer tell from undefined (``None``)."""


class _Null:
    value: Any = jsnull


def null() -> Any:
    """What JavaScript's null is under the Worker's compatibility date: ``jsnull`` or, before 2025-09-29, ``None``."""
    return _Null.value


def null_is_none() -> None:
    """Make null ``None``, as Pyodide before 0.28 does."""
    _Null.value = None


class JsException(Exception):
    """A JavaScript error."""

    __module__ = "pyodide.ffi"

    def __init__(self, message: str = "", name: str = "Error") -> None:
        super().__init__(message)
        self.name = name
        self.message = message
        self.stack = f"{name}: {message}"

    def __str__(self) -> str:
        return f"{self.name}: {self.message}"


def type_error(message: str) -> JsException:
    """JavaScript's TypeError."""
    return JsException(message, "TypeError")


class JsType(type):
    """A JavaScript class: ``new`` makes an instance, keyword arguments are its last argument, an object."""

    def new(cls, *args: Any, **options: Any) -> Any:
        return cls(*args, *([JsObject(options)] if options else []))

    @property
    def name(cls) -> str:
        return builtins.str(cls.__dict__.get("js_name", cls.__name__))

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(f"{cls.name} has no {name} here: {COVERAGE}")


class JsProxy(metaclass=JsType):
    """A JavaScript object."""

    @property
    def constructor(self) -> Any:
        return type(self)

    @property
    def typeof(self) -> str:
        return "function" if callable(self) else "object"

    @property
    def js_id(self) -> int:
        return id(self)

    def to_py(self, *, depth: int = -1, default_converter: Callable[..., Any] | None = None) -> Any:
        if default_converter is None:
            return self
        return default_converter(self, lambda value: from_js(value, default_converter), lambda *_: None)

    def toString(self) -> str:
        return f"[object {type(self).name}]"

    def destroy(self) -> None: ...

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{type(self).name} has no {name} here: {COVERAGE}")


class JsObject(JsProxy):
    """A plain object: its properties are attributes."""

    js_name = "Object"

    def __init__(self, entries: Mapping[str, Any] | None = None) -> None:
        object.__setattr__(self, "_entries", {str(key): value for key, value in (entries or {}).items()})

    def to_py(self, *, depth: int = -1, default_converter: Callable[..., Any] | None = None) -> dict[str, Any]:
        return {key: from_js(value, default_converter, depth - 1) for key, value in self._entries.items()}

    def object_keys(self) -> JsArray:
        return JsArray(list(self._entries))

    def object_values(self) -> JsArray:
        return JsArray(list(self._entries.values()))

    def object_entries(self) -> JsArray:
        return JsArray([JsArray(list(pair)) for pair in self._entries.items()])

    def as_object_map(self, *, hereditary: bool = False) -> dict[str, Any]:
        entries: dict[str, Any] = self._entries
        return entries

    def as_py_json(self) -> JsObject:
        return self

    def __getattr__(self, name: str) -> Any:
        try:
            return self._entries[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self._entries[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self._entries[name]
        except KeyError:
            raise AttributeError(name) from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._entries]

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return "[object Object]"


class JsArray(JsProxy):
    """An array, which Python reads and changes like a list."""

    js_name = "Array"

    def __init__(self, *items: Any) -> None:
        first = items[0] if len(items) == 1 else items
        self._items: list[Any] = list(first) if isinstance(first, Iterable) and not isinstance(first, str) else [first]

    def to_py(self, *, depth: int = -1, default_converter: Callable[..., Any] | None = None) -> list[Any]:
        return [from_js(value, default_converter, depth - 1) for value in self._items]

    @staticmethod
    def isArray(value: Any) -> bool:
        return isinstance(value, JsArray)

    @staticmethod
    def from_(values: Iterable[Any]) -> JsArray:
        return JsArray(list(values))

    of = from_

    @property
    def length(self) -> int:
        return len(self._items)

    def push(self, *values: Any) -> int:
        self._items.extend(values)
        return len(self._items)

    append = push

    def pop(self, place: int = -1) -> Any:
        return self._items.pop(place)

    def join(self, separator: str = ",") -> str:
        return separator.join(str(item) for item in self._items)

    def includes(self, value: Any) -> bool:
        return value in self._items

    def map(self, function: Callable[..., Any]) -> JsArray:
        return JsArray([function(item) for item in self._items])

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __getitem__(self, place: Any) -> Any:
        found = self._items[place]
        return JsArray(found) if isinstance(place, slice) else found

    def __setitem__(self, place: int, value: Any) -> None:
        self._items[place] = value

    def __repr__(self) -> str:
        return self.join()


class JsMap(JsProxy):
    """A Map."""

    js_name = "Map"

    def __init__(self, entries: Any = ()) -> None:
        self._entries: dict[Any, Any] = dict(entries)

    def to_py(self, *, depth: int = -1, default_converter: Callable[..., Any] | None = None) -> dict[Any, Any]:
        return {key: from_js(value, default_converter, depth - 1) for key, value in self._entries.items()}

    @property
    def size(self) -> int:
        return len(self._entries)

    def get(self, key: Any, default: Any = None) -> Any:
        return self._entries.get(key, default)

    def set(self, key: Any, value: Any) -> JsMap:
        self._entries[key] = value
        return self

    def has(self, key: Any) -> bool:
        return key in self._entries

    def delete(self, key: Any) -> bool:
        return self._entries.pop(key, self) is not self

    def keys(self) -> JsArray:
        return JsArray(list(self._entries))

    def values(self) -> JsArray:
        return JsArray(list(self._entries.values()))

    def items(self) -> Any:
        return self._entries.items()

    def entries(self) -> JsArray:
        return JsArray([JsArray(list(pair)) for pair in self._entries.items()])

    def __getitem__(self, key: Any) -> Any:
        return self._entries[key]

    def __contains__(self, key: Any) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[Any]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class JsSet(JsProxy):
    """A Set."""

    js_name = "Set"

    def __init__(self, values: Iterable[Any] = ()) -> None:
        self._values = dict.fromkeys(values)

    def to_py(self, *, depth: int = -1, default_converter: Callable[..., Any] | None = None) -> set[Any]:
        return {from_js(value, default_converter, depth - 1) for value in self._values}

    @property
    def size(self) -> int:
        return len(self._values)

    def add(self, value: Any) -> JsSet:
        self._values[value] = None
        return self

    def has(self, value: Any) -> bool:
        return value in self._values

    def __contains__(self, value: Any) -> bool:
        return value in self._values

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class JsError(JsProxy):
    """An Error as a value: ``js.Error.new(…)``. As what is raised it is a :class:`JsException`."""

    js_name = "Error"

    def __init__(self, message: str = "", options: Any = None) -> None:
        self.message = message
        self.name = type(self).name
        self.stack = f"{self.name}: {message}"

    def toString(self) -> str:
        return f"{self.name}: {self.message}"

    __str__ = toString

    def as_exception(self) -> JsException:
        return JsException(self.message, self.name)


def from_js(value: Any, default_converter: Callable[..., Any] | None = None, depth: int = -1) -> Any:
    """``value`` as Python has it: what ``to_py`` makes of a proxy."""
    if depth == 0 or not isinstance(value, JsProxy):
        return value
    return value.to_py(depth=depth, default_converter=default_converter)


def option(options: Any, name: str, default: Any = None) -> Any:
    """A property of an options object, which Python code may also have left a dict; undefined gives ``default``."""
    found = options.get(name) if isinstance(options, Mapping) else getattr(options, name, None)
    return default if found is None or found is jsnull else found
