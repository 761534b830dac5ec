"""The query of models/search as it comes from outside, checked and turned into the catalogue's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from catalog import InvalidInput, Query


class SearchParams(BaseModel):
    """The names and ranges of the query. SDKs may send ``source=2.0``; unknown names are ignored."""

    model_config = ConfigDict(extra="ignore")

    search: str | None = None
    task: str | None = None
    author: str | None = None
    source: int | None = None
    hide_experimental: bool = False
    include_deprecated: bool = False
    page: int = Field(1, ge=1)
    per_page: int = Field(50, ge=1, le=1000)


def read_query(params: Mapping[str, Any]) -> Query:
    """``params`` as a query; raises :class:`InvalidInput` with the name and the reason."""
    given = {name: value for name, value in params.items() if value not in ("", None)}
    try:
        return Query(**SearchParams.model_validate(given).model_dump())
    except ValidationError as error:
        first = error.errors()[0]
        path = "/" + "/".join(str(part) for part in first["loc"])
        raise InvalidInput(path, f"'{path}' {first['msg']}") from error
