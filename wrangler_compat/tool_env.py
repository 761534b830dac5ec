"""The environment in which wrangler, miniflare, vitest and Cloudflare's SDKs find roost in place of Cloudflare."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

from worker.guard import TOKEN_PARAMETER
from wrangler_compat.accounts import ACCOUNT

PRELOAD = Path(__file__).with_name("preload.cjs")
SHELLS = ("sh", "fish", "powershell")


def tool_environment(
    url: str,
    token: str | None,
    inherited: Mapping[str, str],
    *,
    preload: bool = True,
    authority: Path | None = None,
) -> dict[str, str]:
    """The variables to set. ``inherited``: those that are there, for ``NODE_OPTIONS`` may hold options already.

    Without ``preload``, variables alone: enough for wrangler before 4.36, and for newer ones where this roost serves
    TLS on port 443 with a certificate of ``authority``.
    """
    shared = {
        "CLOUDFLARE_API_BASE_URL": f"{url}/client/v4",
        "CLOUDFLARE_BASE_URL": f"{url}/client/v4",  # the official SDKs' name for it
        "CLOUDFLARE_API_TOKEN": token or "roost",
        "CLOUDFLARE_ACCOUNT_ID": ACCOUNT,
        "CLOUDFLARE_CF_FETCH_ENABLED": "false",  # miniflare would ask the network where in the world this is
        "WRANGLER_SEND_METRICS": "false",
        "ROOST_URL": url,
        **({"ROOST_TOKEN": token} if token else {}),
    }
    if not preload:
        return shared | ({"NODE_EXTRA_CA_CERTS": str(authority)} if authority else {})
    query = "?" + urlencode({TOKEN_PARAMETER: token}) if token else ""
    return {
        **shared,
        "ROOST_BINDING_URL": f"{url}/{query}",
        "NODE_OPTIONS": _with_preload(inherited.get("NODE_OPTIONS", "")),
    }


def _with_preload(options: str) -> str:
    """``options`` with our ``--require`` before them, once. Node reads double quotes and backslashes in them."""
    quoted = str(PRELOAD).replace("\\", "\\\\").replace('"', '\\"')
    ours = f'--require "{quoted}"'
    return " ".join([ours, *[part for part in [options.replace(ours, "").strip()] if part]])


def export_lines(variables: Mapping[str, str], shell: str) -> str:
    """``variables`` as text that ``shell`` evaluates."""
    return "\n".join(_line(name, value, shell) for name, value in variables.items())


def _line(name: str, value: str, shell: str) -> str:
    if shell == "fish":
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"set -gx {name} '{escaped}';"
    if shell == "powershell":
        escaped = value.replace("'", "''")
        return f"$env:{name} = '{escaped}'"
    return f"export {name}={shlex.quote(value)}"


def as_json(variables: Mapping[str, str]) -> str:
    """``variables`` as a JSON object."""
    return json.dumps(dict(variables), indent=2)
