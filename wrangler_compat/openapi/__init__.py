"""``/cdn-cgi/local/openapi.json``: what the doors take and give, in OpenAPI 3.1, from their routes and the cards."""

from wrangler_compat.openapi.document import describe_doors, openapi_door

__all__ = ["describe_doors", "openapi_door"]
