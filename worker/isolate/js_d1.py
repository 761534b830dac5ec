"""``env.DB``: D1's API as workerd's ``cloudflare-internal:d1-api`` has it; the database itself is roost's."""

from __future__ import annotations

import math
from typing import Any

from .host import Host
from .js_base import JsArray, JsException, JsObject, JsProxy, jsnull, null, option, type_error
from .js_buffers import ArrayBuffer, JsBuffer, TypedArray
from .js_promises import Promise, promised

_CONSTRAINTS = ("first-primary", "first-unconstrained")
_SAFE = 2**53 - 1


class _Asking(JsProxy):
    """What the database and its sessions share."""

    def __init__(self, host: Host, service: str) -> None:
        self._host, self._service = host, service

    def prepare(self, query: Any) -> D1PreparedStatement:
        return D1PreparedStatement(self, query)

    @promised
    async def batch(self, statements: Any) -> JsArray:
        found = await self._query([_statement(each) for each in statements])
        return JsArray([_objects(result) for result in found])

    async def _query(self, statements: list[dict[str, Any]], error: str = "D1_ERROR: ") -> Any:
        """The results of ``statements`` in one transaction; ``error`` stands before what went wrong."""
        try:
            answer = await self._host.call(self._service, "query", [statements])
        except JsException as failed:
            raise JsException(f"{error}{failed.message}") from failed
        self._answered(answer.bookmark)
        return answer.results

    def _answered(self, bookmark: str) -> None: ...


class D1DatabaseSession(_Asking):
    """What ``withSession`` gives. Every session reads what was written last: there is one database."""

    def __init__(self, host: Host, service: str, bookmark: str) -> None:
        super().__init__(host, service)
        self._bookmark = bookmark

    def getBookmark(self) -> Any:
        return null() if self._bookmark in _CONSTRAINTS else self._bookmark

    def _answered(self, bookmark: str) -> None:
        if self._bookmark in _CONSTRAINTS or self._bookmark < bookmark:
            self._bookmark = bookmark


class D1Database(_Asking):
    """The binding itself."""

    def withSession(self, constraint: Any = None) -> D1DatabaseSession:
        given = "" if constraint is None or constraint is jsnull else str(constraint).strip()
        return D1DatabaseSession(self._host, self._service, given or "first-unconstrained")

    @promised
    async def exec(self, query: str) -> JsObject:
        lines = str(query).strip().split("\n")
        found = await self._query([{"sql": line} for line in lines], f"D1_EXEC_ERROR: Error in line 1: {lines[0]}: ")
        return JsObject({"count": len(found), "duration": sum(each.meta.duration for each in found)})

    @promised
    async def dump(self) -> Any:
        raise JsException("D1_DUMP_ERROR: Status + 404")  # of the first alpha's databases alone


class D1PreparedStatement(JsProxy):
    """SQL, and what is bound to its parameters."""

    def __init__(self, session: _Asking, statement: Any, params: tuple[Any, ...] = ()) -> None:
        self._session, self._statement, self._params = session, statement, params

    def bind(self, *values: Any) -> D1PreparedStatement:
        return D1PreparedStatement(self._session, self._statement, tuple(_bound(value) for value in values))

    @promised
    async def all(self) -> JsObject:
        return _objects(await self._result())

    run = all

    def first(self, column: Any = None) -> Promise:
        return Promise(self._first(column))

    @promised
    async def raw(self, options: Any = None) -> JsArray:
        result = await self._result()
        named = option(options, "columnNames", False)
        return JsArray([*([result.columns] if named else []), *(JsArray(_cells(row)) for row in result.rows)])

    async def _first(self, column: Any) -> Any:
        result = await self._result()
        if not len(result.rows):
            return null()
        row = _row(result.columns, result.rows[0])
        if column is None or column is jsnull:
            return row
        if column not in row.as_object_map():
            raise JsException(f"D1_COLUMN_NOTFOUND: Column not found ({column})")
        return row.as_object_map()[column]

    async def _result(self) -> Any:
        return (await self._session._query([_statement(self)]))[0]


def _statement(value: Any) -> dict[str, Any]:
    if not isinstance(value, D1PreparedStatement):
        raise type_error("batch() takes what prepare() and bind() give")
    if not isinstance(value._statement, str):
        raise type_error(f"prepare() takes SQL as a string, not a {type(value._statement).__name__}")
    return {"sql": value._statement, "params": list(value._params)}


def _objects(result: Any) -> JsObject:
    rows = JsArray([_row(result.columns, row) for row in result.rows])
    return JsObject({"success": True, "meta": result.meta, "results": rows})


def _row(columns: JsArray, row: JsArray) -> JsObject:
    return JsObject(dict(zip(columns, _cells(row), strict=True)))


def _cells(row: JsArray) -> list[Any]:
    """A row's values; bytes are an array of numbers, as D1 gives them."""
    return [JsArray(list(cell.to_bytes())) if isinstance(cell, ArrayBuffer) else cell for cell in row]


def _bound(value: Any) -> Any:
    """A parameter as it goes to roost, or D1's refusal."""
    if value is null() or value is jsnull:  # before 2025-09-29 Python's None, which isn't undefined here
        return None
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float) and (isinstance(value, float) or abs(value) <= _SAFE):
        return value if math.isfinite(value) else None  # as JSON has it
    if isinstance(value, str):
        return value
    if isinstance(value, ArrayBuffer):
        return value.to_bytes()
    if isinstance(value, TypedArray) or (isinstance(value, JsArray) and all(_is_byte(each) for each in value)):
        return bytes(int(each) & 255 for each in value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise JsException(f"D1_TYPE_ERROR: Type '{_typeof(value)}' not supported for value '{_shown(value)}'")


def _is_byte(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 256


def _typeof(value: Any) -> str:
    if value is None:
        return "undefined"
    if isinstance(value, int):
        return "bigint"
    return "function" if callable(value) and not isinstance(value, JsBuffer) else "object"


def _shown(value: Any) -> str:
    return "undefined" if value is None else str(value)
