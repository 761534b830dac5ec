"""How one operation is described: what it takes, what it gives, how it refuses. Knows no route."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from worker.errors import CODES
from wrangler_compat.openapi.shapes import TEXT, Schema, an_object, ref

RUN_STATUSES = tuple(sorted({row.status for row in CODES.values()} - {401, 403, 404}))
"""How running a model may be refused: by the table of errors, without what is refused before it is asked."""
_EVENT: Schema = {**an_object({"data": TEXT}), "description": "one server-sent event: JSON, or [DONE] at the end"}
_REQUEST_ID: Schema = {"cf-ai-req-id": {"required": True, "schema": {"type": "string", "format": "uuid"}}}


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. ``gives``: the JSON of its answer; ``streams``: it may be server-sent events instead.

    ``statuses``: those of its refusals, in the form ``failure``. ``identified``: every reply bears a request id.
    """

    id: str
    tag: str
    summary: str
    gives: Schema | None = None
    takes: Schema | None = None
    form: Schema | None = None
    query: Schema = field(default_factory=dict)
    needed: tuple[str, ...] = ()
    statuses: Iterable[int] = ()
    failure: str = "Failure"
    streams: bool = False
    identified: bool = True
    examples: tuple[dict[str, Any], ...] = ()

    def described(self, *, statuses: Iterable[int] = ()) -> dict[str, Any]:
        """The operation in OpenAPI's words, refused with ``statuses`` of the edge, too."""
        told: dict[str, Any] = {"operationId": self.id, "tags": [self.tag], "summary": self.summary}
        if self.query:
            told["parameters"] = [self._parameter(name, schema) for name, schema in self.query.items()]
        if body := self._body():
            told["requestBody"] = {"required": True, "content": body}
        return {**told, "responses": self._responses(statuses)}

    def _parameter(self, name: str, schema: Schema) -> dict[str, Any]:
        return {"name": name, "in": "query", "required": name in self.needed, "schema": schema}

    def _body(self) -> dict[str, Any]:
        if self.form is not None:
            return {"multipart/form-data": {"schema": self.form}}
        if self.takes is None:
            return {}
        content: dict[str, Any] = {"schema": self.takes}
        if self.examples:
            content["examples"] = {f"example {place}": {"value": one} for place, one in enumerate(self.examples, 1)}
        return {"application/json": content}

    def _responses(self, edge: Iterable[int]) -> dict[str, Any]:
        headers = {"headers": _REQUEST_ID} if self.identified else {}
        found: dict[str, Any] = {}
        if self.gives is not None:
            content: dict[str, Any] = {"application/json": {"schema": self.gives}}
            if self.streams:
                content["text/event-stream"] = {"schema": _EVENT}
            found["200"] = {"description": "The answer", **headers, "content": content}
        refusal = {"content": {"application/json": {"schema": ref(self.failure)}}}
        for status in sorted({*self.statuses}):
            found[str(status)] = {"description": "Refused, with the platform's code", **headers, **refusal}
        from_edge = {"application/json": {"schema": ref("Failure")}}
        for status in sorted({*edge} - {*self.statuses}):
            found[str(status)] = {"description": "Refused before it was read", "content": from_edge}
        return found
