"""The pages under ``/cdn-cgi/local/``: the catalogue, a page and a playground per model, and what is running.

Everything a page shows is in its ``.json`` twin. Templates and static files lie beside this; nothing is built, and
nothing is fetched from elsewhere.
"""

from wrangler_compat.pages.door import HOME, pages_door

__all__ = ["HOME", "pages_door"]
