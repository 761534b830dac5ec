"""The AI Gateway of the binding, in front of Workers AI alone: runs, fallbacks, logs, and the URL that leads here.

Source: workerd's ``src/cloudflare/internal/aig-api.ts`` and the documentation of AI Gateway. Nothing is cached, and
other providers are refused: roost reaches none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from worker.doors import Asked, answer_request
from worker.errors import AiError, NoGatewayLog, NotEmulated
from worker.requests import parse_json, read_body, read_json
from wrangler_compat import wire
from wrangler_compat.gateway_log import GatewayLog
from wrangler_compat.rest import failure_response, success_envelope

_PROVIDER = "workers-ai"


class Gateway:
    """The routes of every gateway, whatever its id; they share one log."""

    def __init__(self) -> None:
        self._log = GatewayLog()

    def wire_routes(self) -> list[BaseRoute]:
        """What ``env.AI`` calls."""
        return [
            Route("/ai-gateway/run", self._run, methods=["POST"]),
            Route("/ai-gateway/universal/run/{gateway}", self._universal, methods=["POST"]),
            Route("/ai-gateway/gateways/{gateway}/url/{provider}", _url, methods=["GET"]),
            Route("/ai-gateway/gateways/{gateway}/logs/{log}", self._get_log, methods=["GET"]),
            Route("/ai-gateway/gateways/{gateway}/logs/{log}", self._patch_log, methods=["PATCH"]),
        ]

    def http_routes(self) -> list[BaseRoute]:
        """Where the URL of ``gateway(id).getUrl()`` leads."""
        return [
            Route("/ai-gateway/v1/{account}/{gateway}", self._universal, methods=["POST"]),
            Route("/ai-gateway/v1/{account}/{gateway}/{provider}/{model:path}", self._provider, methods=["POST"]),
        ]

    async def _run(self, request: Request) -> Response:
        response = await wire.run(request)
        asked = getattr(request.state, "asked", None)
        options = asked[2] if asked and isinstance(asked[2], Mapping) else {}
        stated = options.get("gateway")
        gateway: Mapping[str, Any] = stated if isinstance(stated, Mapping) else {}
        if gateway.get("collectLog") is False:
            return response
        return self._log.follow(request, response, str(gateway.get("id", "")), gateway.get("metadata"))

    async def _universal(self, request: Request) -> Response:
        """The first of the steps that succeeds, or the last one's refusal."""
        gateway = request.path_params["gateway"]
        response: Response = failure_response(AiError.of(NotEmulated("no step was given to run")))
        try:
            content = await read_body(request)
            steps = parse_json(content, list)
            metadata = json.loads(request.headers.get("cf-aig-metadata", "null"))
        except Exception as fault:
            return failure_response(AiError.of(fault))
        for place, step in enumerate(steps):
            response = await _step(request, step)
            response.headers["cf-aig-step"] = str(place)
            if response.status_code < 400:
                break
        if request.headers.get("cf-aig-collect-log") == "false":
            return response
        return self._log.follow(request, response, gateway, metadata)

    async def _provider(self, request: Request) -> Response:
        provider, model = request.path_params["provider"], request.path_params["model"]
        if provider != _PROVIDER or not model.startswith("@"):
            return failure_response(_elsewhere(f"{provider}/{model}"))

        async def asked(request: Request) -> Asked:
            return model, await read_json(request), None

        response = await answer_request(request, asked, success_envelope, failure_response)
        return self._log.follow(request, response, request.path_params["gateway"])

    async def _get_log(self, request: Request) -> Response:
        entry = self._log.find(request.path_params["gateway"], request.path_params["log"])
        return wire.reply({"success": True, "result": entry}) if entry else _no_log(request)

    async def _patch_log(self, request: Request) -> Response:
        entry = self._log.find(request.path_params["gateway"], request.path_params["log"])
        if entry is None:
            return _no_log(request)
        try:
            self._log.patch(entry, await read_json(request))
        except Exception as fault:
            return wire.refusal(AiError.of(fault))
        return wire.reply({"success": True, "result": entry})


async def _step(request: Request, step: Any) -> Response:
    given: Mapping[str, Any] = step if isinstance(step, Mapping) else {}
    if given.get("provider") != _PROVIDER:
        return failure_response(_elsewhere(str(given.get("provider"))))

    async def asked(_request: Request) -> Asked:
        return str(given.get("endpoint", "")), given.get("query"), None

    return await answer_request(request, asked, success_envelope, failure_response)


async def _url(request: Request) -> Response:
    """An address of this roost: the real one would leave the machine, and with it the caller's token."""
    host, port = request.scope["server"]
    gateway, provider = request.path_params["gateway"], request.path_params["provider"]
    url = f"{request.scope['scheme']}://{host}:{port}/ai-gateway/v1/local/{gateway}"
    return wire.reply({"success": True, "result": {"url": url if provider == "universal" else f"{url}/{provider}"}})


def _no_log(request: Request) -> JSONResponse:
    log, gateway = request.path_params["log"], request.path_params["gateway"]
    return wire.refusal(AiError.of(NoGatewayLog(f"no log {log} in gateway {gateway}")))


def _elsewhere(what: str) -> AiError:
    return AiError.of(NotEmulated(f"roost's AI Gateway leads to models of {_PROVIDER} alone, not to {what}"))
