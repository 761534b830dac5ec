"""The one table from faults to the platform's error codes, and the exception that carries one.

Codes, statuses and texts: Cloudflare's Workers AI error page (developers.cloudflare.com/workers-ai/platform/errors)
and bodies quoted from live calls. Those from 5900 on are roost's own, for what the platform can't run into.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from catalog import InvalidInput, UnknownModel
from runtime.errors import (
    AdapterError,
    ArtifactError,
    BadParameter,
    ContextTooLong,
    DeviceFull,
    DeviceUnavailable,
    EngineFailed,
    FinetuneIncomplete,
    FinetuneTaken,
    JsonCut,
    JsonUnmet,
    LoraUnsupported,
    NoGrammars,
    NoWeights,
    Overloaded,
    Refused,
    UnknownFinetune,
)


class BadBody(ValueError):
    """A request body that isn't the JSON it should be."""


class BodyTooLarge(ValueError):
    """A request body past the size that a door takes."""


class ClientLeft(ConnectionError):
    """The client closed its connection while it was being served; there is nobody to answer."""


class NoRoost(ConnectionError):
    """Where a roost was said to be, none answers, or something else does."""


class StreamBroken(ConnectionError):
    """A stream that ended before its end."""


class NoRecording(LookupError):
    """A request that ``--replay`` has no recording of; the sentence shows the nearest."""


class BadRecording(Refused):
    """A folder or file of recordings that can't be read."""


class OutOfNeurons(RuntimeError):
    """The account's daily neurons are used up: on the platform, or on purpose with ``--fault``."""


class TimedOut(TimeoutError):
    """A request that took too long: on the platform, or on purpose with ``--fault``."""


class NotEmulated(NotImplementedError):
    """Something the platform has and roost hasn't (yet); the sentence names it."""


class JsonModeUnsupported(ValueError):
    """Output of a JSON Schema, asked of a model whose card has no JSON mode."""


class ForeignHost(PermissionError):
    """A Host header that roost doesn't serve, or a page of another site that asks."""


class WrongMethod(ValueError):
    """A route that exists, called with a method it doesn't take."""


class NoRoute(LookupError):
    """A path that leads nowhere."""


class NoGatewayLog(LookupError):
    """A log entry that an AI Gateway doesn't have."""


class NoApiRoute(LookupError):
    """A path within the API that leads nowhere."""


class NoCredentials(PermissionError):
    """A call of the API that says nothing of who makes it, where this roost asks for a token."""


class BadAuthorization(PermissionError):
    """A call of the API whose Authorization header bears no bearer's token, where this roost asks for one."""


class BadToken(PermissionError):
    """The API was asked to verify a token that isn't the one that this roost asks for."""


class Unauthorized(PermissionError):
    """A call without the token that this roost asks for."""


@dataclass(frozen=True, slots=True)
class Code:
    """One row of the table. ``lead`` opens the message; ``text`` replaces the fault's own words if given."""

    internal: int
    status: int
    lead: str
    text: str | None = None


CODES: dict[type[Exception], Code] = {
    InvalidInput: Code(5006, 400, "Bad input", "Error: {fault}"),
    BadParameter: Code(5006, 400, "Bad input", "Error: {fault}"),
    BadBody: Code(5006, 400, "Bad input", "Error: failed to decode JSON: {fault}"),
    UnknownModel: Code(5007, 400, "No such model"),
    LoraUnsupported: Code(5005, 405, "Ai"),
    # The code and the words were seen live (cloudflare-docs issues 14757 and 23272), not the status.
    UnknownFinetune: Code(3037, 400, "AiError"),
    FinetuneIncomplete: Code(3039, 400, "Ai", "Finetune is missing required files (model.safetensors and config.json)"),
    BodyTooLarge: Code(3006, 413, "Ai", "Request is too large"),
    TimedOut: Code(3007, 408, "Ai", "Request timeout"),
    OutOfNeurons: Code(3036, 429, "Ai", "You have used up your daily free allocation of 10,000 neurons."),
    ClientLeft: Code(3008, 408, "Ai", "Request was aborted"),
    ContextTooLong: Code(5021, 413, "Ai"),
    JsonCut: Code(5024, 400, "Ai", "JSON Mode couldn't be met: {fault}"),
    JsonUnmet: Code(5024, 400, "Ai", "JSON Mode couldn't be met: {fault}"),
    JsonModeUnsupported: Code(5025, 400, "Ai", "This model doesn't support JSON Schema."),
    Overloaded: Code(3040, 429, "Ai", "Capacity temporarily exceeded, please try again."),
    BadToken: Code(1000, 401, "Ai", "Invalid API Token"),
    BadAuthorization: Code(6003, 400, "Ai", "Invalid request headers"),
    NoCredentials: Code(9106, 400, "Ai", "Missing X-Auth-Key, X-Auth-Email or Authorization headers"),
    Unauthorized: Code(10000, 401, "Ai", "Authentication error"),
    ForeignHost: Code(9109, 403, "Ai"),
    NoRoute: Code(7000, 404, "Ai", "No route for that URI"),
    WrongMethod: Code(7001, 405, "Ai"),
    NoGatewayLog: Code(7002, 404, "Ai"),
    NoApiRoute: Code(7003, 404, "Ai"),
    NoWeights: Code(5901, 503, "roost"),
    NotEmulated: Code(5902, 501, "roost"),
    DeviceUnavailable: Code(5903, 503, "roost"),
    DeviceFull: Code(5903, 503, "roost"),
    ArtifactError: Code(5904, 503, "roost"),
    EngineFailed: Code(5905, 500, "roost"),
    NoRoost: Code(5906, 503, "roost"),
    StreamBroken: Code(5907, 502, "roost"),
    AdapterError: Code(5908, 400, "roost"),
    FinetuneTaken: Code(5909, 409, "roost"),
    NoGrammars: Code(5910, 501, "roost"),
    NoRecording: Code(5911, 404, "roost"),
    BadRecording: Code(5912, 500, "roost"),
}
RETRY_AFTER = 1
"""Seconds after which a client that was refused for want of room may ask again: a row becomes free within less."""
UNFORESEEN = Code(5999, 500, "roost", "an error in roost itself, see its log: {fault}")
"""The row of whatever has none."""


class AiError(Exception):
    """What ``AI.run`` raises. ``code`` and ``status`` are the platform's, ``description`` the fault in its words."""

    def __init__(self, code: int, status: int, description: str, *, lead: str = "Ai", request_id: str = "") -> None:
        self.code = code
        self.status = status
        self.description = description
        self.request_id = request_id or new_request_id()
        self._lead = lead
        super().__init__(f"{code}: AiError: {lead}: {description}")

    @property
    def name(self) -> str:
        """The error's name on the wire."""
        return "AiError"

    @property
    def message(self) -> str:
        """The message as REST gives it: ``AiError: Bad input: Error: … (<request id>)``."""
        return f"AiError: {self._lead}: {self.description} ({self.request_id})"

    @property
    def foreseen(self) -> bool:
        """Whether the table has a row for it; otherwise it is a defect of roost."""
        return self.code != UNFORESEEN.internal

    @property
    def headers(self) -> dict[str, str]:
        """What every door says beside the refusal; ``retry-after`` where the same request may pass later."""
        retry = {"retry-after": str(RETRY_AFTER)} if self.code == CODES[Overloaded].internal else {}
        return {"cf-ai-req-id": self.request_id, **retry}

    def to_edge_envelope(self) -> dict[str, Any]:
        """The envelope of a refusal that never reached the AI service: no lead, no request id."""
        errors = [{"code": self.code, "message": self.description}]
        return {"result": None, "success": False, "errors": errors, "messages": []}

    def to_dict(self) -> dict[str, Any]:
        """The error as the wire and a broken stream carry it."""
        return {
            "name": self.name,
            "internalCode": self.code,
            "httpCode": self.status,
            "message": self.message,
            "description": self.description,
            "requestId": self.request_id,
            "errors": [{"code": self.code, "message": self.message}],
        }

    @classmethod
    def from_dict(cls, body: Any) -> AiError:
        """The error that :meth:`to_dict` wrote; ``ValueError`` if ``body`` is nothing of the kind."""
        try:
            lead = str(body["message"]).removeprefix("AiError: ").partition(": ")[0]
            code, status = int(body["internalCode"]), int(body["httpCode"])
            return cls(code, status, str(body["description"]), lead=lead, request_id=str(body["requestId"]))
        except (KeyError, TypeError) as error:
            raise ValueError("not an error of roost's") from error

    @classmethod
    def injected(cls, code: int, request_id: str) -> AiError:
        """The error of a code in the table, on purpose; ``LookupError`` for one that isn't there."""
        if (row := row_of(code)) is None:
            raise LookupError(code)
        described = (row.text or "{fault}").format(fault="made on purpose, by --fault")
        return cls(row.internal, row.status, described, lead=row.lead, request_id=request_id)

    @classmethod
    def of(cls, fault: Exception, request_id: str = "") -> AiError:
        """``fault`` by its row in the table; an :class:`AiError` passes as it is."""
        if isinstance(fault, AiError):
            return fault
        row = next((CODES[kind] for kind in type(fault).__mro__ if kind in CODES), UNFORESEEN)
        described = (row.text or "{fault}").format(fault=fault)
        return cls(row.internal, row.status, described, lead=row.lead, request_id=request_id)


def row_of(code: int) -> Code | None:
    """The table's first row of a code."""
    return next((row for row in CODES.values() if row.internal == code), None)


def new_request_id() -> str:
    """An id as the platform gives one to every request."""
    return str(uuid.uuid4())
