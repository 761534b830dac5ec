"""URL and URLSearchParams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, quote_plus, urljoin, urlsplit

from .js_base import JsObject, JsProxy, type_error
from .js_pairs import Pairs

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21}
_PATH, _QUERY = "/%:@!$&'()*+,;=~-._|[]", "/%:@!$&()*+,;=~-._?|[]{}^`\\"


class URLSearchParams(Pairs):
    """``URLSearchParams.new(init)``: of a query, of pairs, of an object."""

    def __init__(self, init: Any = "") -> None:
        self._url: URL | None = None
        self._pairs = []
        if isinstance(init, str):
            self._pairs = parse_qsl(init.removeprefix("?"), keep_blank_values=True)
        elif isinstance(init, URLSearchParams):
            self._pairs = list(init._pairs)
        elif isinstance(init, JsObject | Mapping):
            entries = init.as_object_map() if isinstance(init, JsObject) else init
            self._pairs = [(str(key), str(value)) for key, value in entries.items()]
        elif init is not None:
            self._pairs = [(str(key), str(value)) for key, value in init]

    def append(self, name: str, value: Any) -> None:
        self._pairs.append((name, str(value)))
        self._changed()

    def set(self, name: str, value: Any) -> None:
        places = [place for place, pair in enumerate(self._pairs) if pair[0] == name]
        if not places:
            return self.append(name, value)
        first, doubles = places[0], set(places[1:])
        self._pairs[first] = (name, str(value))
        self._pairs = [pair for place, pair in enumerate(self._pairs) if place not in doubles]
        self._changed()

    def sort(self) -> None:
        self._pairs.sort(key=lambda pair: pair[0])
        self._changed()

    @property
    def size(self) -> int:
        return len(self._pairs)

    def toString(self) -> str:
        return "&".join(f"{quote_plus(key, safe='*')}={quote_plus(value, safe='*')}" for key, value in self._pairs)

    __str__ = toString

    def _changed(self) -> None:
        if self._url is not None:
            self._url.search = self.toString()


class URL(JsProxy):
    """``URL.new(address, base)``; raises a TypeError for what is no address."""

    def __init__(self, address: Any, base: Any = None) -> None:
        text = str(address).strip()
        self._parts: SplitResult
        self._set(urlsplit(urljoin(str(base), text) if base is not None else text))
        self._params: URLSearchParams | None = None

    def _set(self, parts: SplitResult) -> None:
        try:
            port = parts.port
        except ValueError as error:
            raise type_error("Invalid URL string.") from error
        if not parts.scheme or (parts.scheme in _PORTS and not parts.hostname):
            raise type_error("Invalid URL string.")
        netloc = parts.netloc
        if parts.scheme in _PORTS:
            host = (parts.hostname or "").encode("idna").decode() if not netloc.isascii() else parts.hostname or ""
            host = f"[{host}]" if ":" in host else host
            login, at, _ = netloc.rpartition("@")
            netloc = login + at + host + (f":{port}" if port not in (None, _PORTS[parts.scheme]) else "")
        path = quote(parts.path or ("/" if parts.netloc else ""), safe=_PATH)
        query = quote(parts.query, safe=_QUERY)
        self._parts = parts._replace(netloc=netloc, path=path, query=query)

    @property
    def href(self) -> str:
        return self._parts.geturl()

    @property
    def protocol(self) -> str:
        return f"{self._parts.scheme}:"

    @protocol.setter
    def protocol(self, value: str) -> None:
        self._set(self._parts._replace(scheme=value.removesuffix(":")))

    @property
    def origin(self) -> str:
        return f"{self._parts.scheme}://{self.host}"

    @property
    def host(self) -> str:
        return self._parts.netloc.rpartition("@")[2]

    @host.setter
    def host(self, value: str) -> None:
        self._set(self._parts._replace(netloc=value))

    @property
    def hostname(self) -> str:
        host = self._parts.hostname or ""
        return f"[{host}]" if ":" in host else host

    @hostname.setter
    def hostname(self, value: str) -> None:
        self._set(self._parts._replace(netloc=value + (f":{self.port}" if self.port else "")))

    @property
    def port(self) -> str:
        return str(self._parts.port or "")

    @port.setter
    def port(self, value: Any) -> None:
        self._set(self._parts._replace(netloc=f"{self.hostname}:{value}" if value else self.hostname))

    @property
    def username(self) -> str:
        return self._parts.username or ""

    @property
    def password(self) -> str:
        return self._parts.password or ""

    @property
    def pathname(self) -> str:
        return self._parts.path

    @pathname.setter
    def pathname(self, value: str) -> None:
        self._set(self._parts._replace(path=value if value.startswith("/") else f"/{value}"))

    @property
    def search(self) -> str:
        return f"?{self._parts.query}" if self._parts.query else ""

    @search.setter
    def search(self, value: str) -> None:
        self._set(self._parts._replace(query=value.removeprefix("?")))

    @property
    def searchParams(self) -> URLSearchParams:
        if self._params is None:
            self._params = URLSearchParams(self.search)
            self._params._url = self
        return self._params

    @property
    def hash(self) -> str:
        return f"#{self._parts.fragment}" if self._parts.fragment else ""

    @hash.setter
    def hash(self, value: str) -> None:
        self._parts = self._parts._replace(fragment=value.removeprefix("#"))

    def toString(self) -> str:
        return self.href

    toJSON = __str__ = toString

    @staticmethod
    def canParse(address: Any, base: Any = None) -> bool:
        try:
            URL(address, base)
        except Exception:
            return False
        return True
