"""Vectorize, its second API: an index in an SQLite file, searched exactly. What is written can be queried at once.

developers.cloudflare.com/vectorize/reference/client-api, /platform/limits and /reference/metadata-filtering.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from worker.bindings.binding import Binding, BindingError, methods
from worker.bindings.vectorize_file import MISSING, Floats, Index, Vector, VectorIndexFile
from worker.bindings.vectorize_filters import BadFilter, checked, indexed, meets

ID, NAMESPACE, METADATA = 64, 64, 10 << 10  # bytes at most
TOP, TOP_WHOLE, TOP_USUAL = 100, 20, 5  # matches; with values or all metadata; where nothing is said
BATCH = 1000  # vectors in a call
_WHOLE = ("none", "indexed", "all")


class Vectorize(Binding):
    """The index in ``file``, which need not have been created yet: then every call says so."""

    def __init__(self, file: VectorIndexFile) -> None:
        self._file = file

    def described(self) -> dict[str, Any]:
        """See :meth:`Binding.described`."""
        return methods("VectorizeIndexImpl", "describe insert upsert query queryById getByIds deleteByIds")

    async def call(self, method: str, args: list[Any]) -> Any:
        """See :meth:`Binding.call`."""
        index = self._file.index()
        if index is None:
            raise BindingError(f"VECTORIZE_ERROR: {MISSING.format(name=self._file.name)}")
        match method:
            case "describe":
                return self._described(index)
            case "insert" | "upsert":
                return self._write(index, method, *args)
            case "query":
                return self._query(index, *args)
            case "queryById":
                return self._query_by_id(index, *args)
            case "getByIds":
                return [each.whole() for each in self._file.get(_ids(args[0] if args else None, "GET"))]
            case "deleteByIds":
                return self._noted(self._file.delete(_ids(args[0] if args else None, "DELETE")))
        return await super().call(method, args)

    async def aclose(self) -> None:
        """Close the file."""
        self._file.close()

    def _described(self, index: Index) -> dict[str, Any]:
        return {
            "vectorCount": self._file.count(),
            "dimensions": index.dimensions,
            "processedUpToDatetime": index.changed,
            "processedUpToMutation": index.mutation,
        }

    def _write(self, index: Index, method: str, vectors: Any = None) -> dict[str, str]:
        found = vectors_of(vectors, index, f"VECTOR_{method.upper()}_ERROR")
        return self._noted(self._file.write(found, over=method == "upsert"))

    def _noted(self, mutation: str) -> dict[str, str]:
        return {"mutationId": mutation}

    def _query_by_id(self, index: Index, given: Any = None, options: Any = None) -> dict[str, Any]:
        found = self._file.get(_ids([given], "QUERY"))
        if not found:
            raise BindingError(f"VECTOR_QUERY_ERROR: there is no vector with the id {given!r}")
        return self._query(index, found[0].values, options)

    def _query(self, index: Index, vector: Any = None, options: Any = None) -> dict[str, Any]:
        values = floats(vector, index.dimensions)
        if values is None:
            raise BindingError("VECTOR_QUERY_ERROR: a vector is a list of finite numbers")
        if len(values) != index.dimensions:
            raise BindingError(
                "VECTOR_QUERY_ERROR (code = 40006): invalid query vector, expected "
                f"{index.dimensions} dimensions, and got {len(values)} dimensions"
            )
        options = options or {}
        with_values, metadata = bool(options.get("returnValues")), _metadata(options)
        count = _top(options, whole=with_values or metadata == "all")
        try:
            wanted = checked(options.get("filter"))
        except BadFilter as error:
            raise BindingError(f"VECTOR_QUERY_ERROR: {error}") from error
        namespace = options.get("namespace")
        matches: list[dict[str, Any]] = []
        for score, each in self._file.ranked(values, index.metric):
            if len(matches) == count:
                break
            if (namespace is None or each.namespace == namespace) and meets(each.metadata or {}, wanted):
                matches.append(_match(each, score, with_values, metadata))
        return {"count": len(matches), "matches": matches}


def vectors_of(given: Any, index: Index, error: str) -> list[Vector]:
    """``given``, a list of vectors as a Worker writes them; raises :class:`BindingError` that begins with ``error``."""
    if not isinstance(given, list) or not given:
        raise BindingError(f"{error}: vectors are a list of at least one")
    if len(given) > BATCH:
        raise BindingError(f"{error}: {len(given)} vectors are more than the {BATCH} of one call")
    return [_vector(each, index, error) for each in given]


def _vector(given: Any, index: Index, error: str) -> Vector:
    if not isinstance(given, dict):
        raise BindingError(f"{error}: a vector is an object with an id and values")
    name, namespace, metadata = given.get("id"), given.get("namespace"), given.get("metadata")
    name = str(name) if isinstance(name, int) and not isinstance(name, bool) else name
    if not isinstance(name, str) or not 0 < len(name.encode()) <= ID:
        raise BindingError(f"{error}: a vector's id is a text of 1 to {ID} bytes, and not {name!r}")
    values = floats(given.get("values"), index.dimensions)
    if values is None:
        raise BindingError(f'{error}: the values of id="{name}" are a list of finite numbers')
    if len(values) != index.dimensions:
        raise BindingError(
            f'{error} (code = 40012): invalid vector for id="{name}", expected '
            f"{index.dimensions} dimensions, and got {len(values)} dimensions"
        )
    if namespace is not None and not (isinstance(namespace, str) and 0 < len(namespace.encode()) <= NAMESPACE):
        raise BindingError(f'{error}: the namespace of id="{name}" is a text of 1 to {NAMESPACE} bytes')
    if metadata is not None and not isinstance(metadata, dict):
        raise BindingError(f'{error}: the metadata of id="{name}" is an object')
    if metadata is not None and len(json.dumps(metadata, ensure_ascii=False).encode()) > METADATA:
        raise BindingError(f'{error}: the metadata of id="{name}" is larger than {METADATA} bytes')
    return Vector(name, values, namespace, metadata)


def floats(given: Any, dimensions: int) -> Floats | None:
    """``given``, numbers or the bytes of a Float32Array or Float64Array, as float32; ``None`` for anything else."""
    if isinstance(given, list):
        if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in given):
            return None
    elif not isinstance(given, bytes | np.ndarray):
        return None
    try:
        if isinstance(given, bytes):
            given = np.frombuffer(given, np.float64 if len(given) == 8 * dimensions else np.float32)
        with np.errstate(over="ignore"):
            found = np.asarray(given, np.float32)
    except (ValueError, OverflowError):  # half a number, or one that no float is
        return None
    return found if np.isfinite(found).all() else None


def _ids(given: Any, verb: str) -> list[str]:
    if not isinstance(given, list) or not given or not all(isinstance(each, str | int) for each in given):
        raise BindingError(f"VECTOR_{verb}_ERROR: ids are a list of at least one text")
    if len(given) > BATCH:
        raise BindingError(f"VECTOR_{verb}_ERROR: {len(given)} ids are more than the {BATCH} of one call")
    return [str(each) for each in given]


def _metadata(options: dict[str, Any]) -> str:
    given = options.get("returnMetadata") or "none"
    given = "all" if given is True else given
    if given not in _WHOLE:
        raise BindingError(f"VECTOR_QUERY_ERROR: returnMetadata is none, indexed or all, and not {given!r}")
    return str(given)


def _top(options: dict[str, Any], *, whole: bool) -> int:
    given = options.get("topK")
    count = TOP_USUAL if given is None else given
    most = TOP_WHOLE if whole else TOP
    if isinstance(count, bool) or not isinstance(count, int | float) or not 1 <= count <= most or count != int(count):
        more = ' with returnValues or returnMetadata "all"' if whole else ""
        raise BindingError(f"VECTOR_QUERY_ERROR (code = 40025): topK is 1 to {most}{more}, and not {count!r}")
    return int(count)


def _match(vector: Vector, score: float, with_values: bool, metadata: str) -> dict[str, Any]:
    found: dict[str, Any] = {"id": vector.id, "score": score}
    if with_values:
        found["values"] = vector.values.tolist()
    if vector.namespace is not None:
        found["namespace"] = vector.namespace
    if metadata != "none" and vector.metadata is not None:
        found["metadata"] = vector.metadata if metadata == "all" else indexed(vector.metadata)
    return found
