"""``_redirects`` and ``_headers``, the rules that a folder of static assets may hold.

Rules and limits: developers.cloudflare.com/workers/static-assets/redirects and /headers, and what workers-sdk's
``workers-shared`` does with them (``parseRedirects``, ``parseHeaders``, the asset worker's rules engine).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import quote, urlsplit

_STATIC, _DYNAMIC, _HEADERS, _LINE = 2000, 100, 100, 2000  # rules of each kind, characters of a line
_STATUSES = (200, 301, 302, 303, 307, 308)
_PLACEHOLDER = re.compile(r":([A-Za-z]\w*)", re.ASCII)
_HOSTED = re.compile(r"https:/{2,}([^/]+)/?(.*)")
_A_PATH = re.compile(r"([^\s]+://|/)")
_KEPT = "!$&'()*+,-./:;=@[]\\^_|~%"  # what a URL's path leaves as it is


@dataclass(frozen=True, slots=True)
class Redirect:
    """``status`` 200 shows another asset under the same address; the rest send the client to ``target``."""

    source: str
    target: str
    status: int


@dataclass(slots=True)
class Redirects:
    """The rules of a ``_redirects`` file. ``problems``: what is wrong in it; those lines don't count."""

    static: dict[str, Redirect] = field(default_factory=dict)
    dynamic: dict[str, tuple[re.Pattern[str], Redirect]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, text: str, *, html: bool = True) -> Redirects:
        """``text`` of the file; ``html``: whether pages are moved to addresses without ``.html``."""
        made, counted, lines = cls(), [0, 0], text.split("\n")
        for number, line in _lines(text, made.problems):
            try:
                made._add(line, counted, html=html)
            except _Full:
                left = len(lines) - number + 1
                made.problems.append(f"line {number}: more than {_DYNAMIC} dynamic rules; {left} lines are left out")
                break
            except ValueError as error:
                made.problems.append(f"line {number}: {error}")
        return made

    def found(self, path: str) -> Redirect | None:
        """The rule for a request, its target filled in: a static one, else the first of the others."""
        if path in self.static:
            return self.static[path]
        for pattern, rule in self.dynamic.values():
            if (match := pattern.fullmatch(path)) is not None:
                target = _filled(rule.target, match).strip()
                return replace(rule, target=target if "://" in target else re.sub("/+", "/", target))
        return None

    def _add(self, line: str, counted: list[int], *, html: bool) -> None:
        words = line.split()
        if not 2 <= len(words) <= 3:
            raise ValueError(f"a redirect is two or three words, from, to and a status, and this is {len(words)}")
        source = _address(words[0], relative=True)
        # a rule after the first dynamic one counts as dynamic, so that the order of the file holds
        dynamic = counted[1] > 0 or "*" in source or _PLACEHOLDER.search(source) is not None
        counted[dynamic] += 1
        if counted[0] > _STATIC and not dynamic:
            raise ValueError(f"more than {_STATIC} static rules")
        if counted[1] > _DYNAMIC:
            raise _Full
        rule = Redirect(source, _address(words[1], whole=True), _status(words[2:]))
        self._check(rule, html=html)
        if dynamic:
            self.dynamic[source] = (_pattern(source), rule)
        else:
            self.static[source] = rule

    def _check(self, rule: Redirect, *, html: bool) -> None:
        hosted = _HOSTED.match(rule.target) is not None
        index = not hosted and rule.target.endswith(("/index", "/index.html"))
        if index and (rule.source.endswith("/*") or (rule.source.endswith("/") and html)):
            raise ValueError("this rule would lead back to itself for ever, as /index and .html are left off")
        if rule.source in self.static or rule.source in self.dynamic:
            raise ValueError(f"there is a rule for {rule.source} already")
        if rule.status == 200 and hosted:
            raise ValueError(f"a rule of status 200 leads to a path of the same site, and not to {rule.target}")


@dataclass(frozen=True, slots=True)
class _HeaderRule:
    source: str
    pattern: re.Pattern[str]
    set: dict[str, str] = field(default_factory=dict)
    detached: list[str] = field(default_factory=list)


@dataclass(slots=True)
class HeaderRules:
    """The rules of a ``_headers`` file. ``problems``: what is wrong in it; those lines don't count."""

    rules: list[_HeaderRule] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, text: str) -> HeaderRules:
        """``text`` of the file."""
        made, rule = cls(), None
        found: list[tuple[int, _HeaderRule]] = []
        for number, line in _lines(text, made.problems):
            try:
                if _A_PATH.match(line):
                    rule = None
                    if len(found) == _HEADERS:
                        made.problems.append(f"line {number}: more than {_HEADERS} rules; the rest is left out")
                        break
                    source = _address(line)
                    rule = _HeaderRule(source, _pattern(source))
                    found.append((number, rule))
                else:
                    _add_header(rule, line)
            except ValueError as error:
                made.problems.append(f"line {number}: {error}")
        made.rules = [rule for _, rule in found if rule.set or rule.detached]
        made.problems += [f"line {at}: {rule.source} has no headers" for at, rule in found if rule not in made.rules]
        return made

    def applied(self, headers: Sequence[tuple[str, str]], host: str, path: str) -> list[tuple[str, str]]:
        """``headers`` with those of every rule that meets: the first takes another's place, later ones are joined.

        ``host``: without its port.
        """
        result, ours = dict(headers), set[str]()
        for rule in self.rules:
            compared = f"https://{host}{path}" if rule.source.startswith("https://") else path
            if (match := rule.pattern.fullmatch(compared)) is None:
                continue
            for name in rule.detached:
                result.pop(name, None)
            for name, value in rule.set.items():
                filled = _filled(value, match)
                result[name] = f"{result[name]}, {filled}" if name in ours and name in result else filled
                ours.add(name)
        return list(result.items())


class _Full(Exception):
    pass


def _lines(text: str, problems: list[str]) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if len(line) > _LINE:
            problems.append(f"line {number}: it has more than {_LINE} characters")
        elif line and not line.startswith("#"):
            yield number, line


def _add_header(rule: _HeaderRule | None, line: str) -> None:
    if rule is None:
        raise ValueError("a path that begins with / stands before its headers")
    name, colon, value = (part.strip() for part in line.partition(":"))
    if not colon:
        if not line.startswith("! "):
            raise ValueError("a header is a name, a colon and a value")
        rule.detached.append(line.removeprefix("! ").strip().lower())
    elif not name or not value or " " in name:
        raise ValueError("a header is a name without spaces, a colon and a value")
    else:
        key = name.lower()
        rule.set[key] = f"{rule.set[key]}, {value}" if key in rule.set else value


def _address(word: str, *, relative: bool = False, whole: bool = False) -> str:
    """A path, or https:// with a host and one, as requests are compared with; ``whole``: with its query and hash."""
    if hosted := _HOSTED.match(word):
        if relative:
            raise ValueError(f"a redirect begins at a path, and not at {word}")
        if not whole and re.search(r":\d+$", hosted[1]):
            raise ValueError(f"a port can't be named: {word}")
        return f"https://{hosted[1]}{_path('/' + hosted[2], whole=whole)}"
    if relative and not word.startswith("/"):
        word = f"/{word}"
    if not word.startswith("/"):
        raise ValueError(f"{word} is neither a path nor begins with https://")
    return _path(word, whole=whole)


def _path(word: str, *, whole: bool) -> str:
    parts = urlsplit(f"//{word}" if word.startswith("//") else word)
    query, hash_ = (f"?{parts.query}" if parts.query else ""), (f"#{parts.fragment}" if parts.fragment else "")
    return quote(parts.path, safe=_KEPT) + (query + hash_ if whole else "")


def _status(words: list[str]) -> int:
    status = int(words[0]) if words and words[0].isdecimal() else 0 if words else 302
    if status not in _STATUSES:
        raise ValueError(f"a redirect's status is one of {', '.join(map(str, _STATUSES))}, and not {words[0]}")
    return status


def _pattern(source: str) -> re.Pattern[str]:
    """``*`` takes anything, ``:name`` what stands between slashes, in a host between dots."""
    scheme = "https://" if source.startswith("https://") else ""
    host, slash, path = source.removeprefix(scheme).partition("/")
    try:
        return re.compile(re.escape(scheme) + _expression(host, "/.") + slash + _expression(path, "/"))
    except re.error as error:
        raise ValueError("a rule has one * and each placeholder once") from error


def _expression(text: str, apart: str) -> str:
    pieces = re.split(r"(\*|:[A-Za-z]\w*)", text, flags=re.ASCII)
    made = (re.escape(each) if not place % 2 else _group(each, apart) for place, each in enumerate(pieces))
    return "".join(made)


def _group(word: str, apart: str) -> str:
    return "(?P<splat>.*)" if word == "*" else f"(?P<{word[1:]}>[^{apart}]+)"


def _filled(text: str, match: re.Match[str]) -> str:
    known = match.groupdict()
    return _PLACEHOLDER.sub(lambda found: known.get(found[1], found[0]), text)
