"""HTMLRewriter in a real isolate: what handlers see, and what the page becomes, however it is cut into pieces."""

from pathlib import Path
from typing import Any

import pytest

from tests.worker.python_workers import serving

HEAD = """
import asyncio
from js import HTMLRewriter, ReadableStream, TextEncoder, Object
from pyodide.ffi import create_proxy, to_js
from workers import Response, WorkerEntrypoint

class Handlers:
    def __init__(self, **functions):
        self.__dict__.update(functions)

def handlers(**functions):
    return create_proxy(Handlers(**functions))

def in_pieces(data, size):
    async def start(controller):
        for place in range(0, len(data), size):
            controller.enqueue(to_js(data[place:place + size]))
            await asyncio.sleep(0)
        controller.close()
    return ReadableStream.new(start=start)

def rewritten(rewriter, page, size=None, kind="text/html; charset=utf-8"):
    body = page if size is None else in_pieces(page, size)
    given = Response(body, headers={"content-type": kind, "content-length": str(len(page)), "x-a": "1"})
    return Response(rewriter.transform(given.js_object))

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        size = int(request.url.rpartition("=")[2]) if "=" in request.url else None
        page = await request.bytes()
        seen = []
        rewriter = HTMLRewriter.new()
"""
PAGE = """<!DOCTYPE html PUBLIC "a" 'b'><HTML lang=de>
<head><title>a<b>&amp;</title><script>if (a<b) { "</div>" }</script ><!-- one --></head>
<body><p class="x y" ID='p1' data-a="1&quot;2" hidden>hé<br/>l&lt;o <b>there</b></P><img src=a.png>
<ul><li>1<li>2</ul><div><p>unclosed</div> 1 < 2 </body></HTML>""".encode()


async def told(tmp_path: Path, source: str, page: bytes = PAGE, path: str = "/") -> Any:
    async with serving(tmp_path, HEAD + source) as client:
        answer = await client.post(path, content=page)
        assert answer.status_code == 200, answer.text
        return answer


@pytest.mark.parametrize("size", [1, 2, 7, 5000])
async def test_what_nobody_changes_stays_as_it_is(tmp_path: Path, size: int) -> None:
    source = """
        rewriter.on("*", handlers(element=lambda e: None, text=lambda t: None, comments=lambda c: None))
        return rewritten(rewriter, page, size)
    """
    odd = (
        PAGE
        + b"<a b='>' c=\"x<y\" d = e / f><p/><!bogus><?pi?></><!--> x --!> <![CDATA[x]]> \xff <textarea></b></textarea"
    )
    assert (await told(tmp_path, source, odd, f"/?size={size}")).content == odd


async def test_the_response_keeps_its_head_but_for_its_length(tmp_path: Path) -> None:
    answer = await told(tmp_path, "        return rewritten(rewriter, page)")
    assert (answer.headers["x-a"], answer.headers["content-type"]) == ("1", "text/html; charset=utf-8")
    assert answer.content == PAGE


@pytest.mark.parametrize("size", [1, 3, 5000])
async def test_content_is_put_everywhere(tmp_path: Path, size: int) -> None:
    source = """
        def around(e):
            e.before("<1>").before("2")
            e.prepend("<i>3</i>", html=True)
            e.prepend("4", Object.fromEntries(to_js([["html", True]])))
            e.append("5", to_js({"html": True}, dict_converter=Object.fromEntries))
            e.append("6")
            e.after("7").after("8")
        rewriter.on("b", handlers(element=around))
        rewriter.on("br", handlers(element=lambda e: e.before("9").after("10").append("never").prepend("never")))
        return rewritten(rewriter, page, size)
    """
    page = b"<p>a<b class=x>c</b>d<br>e"
    answer = await told(tmp_path, source, page, f"/?size={size}")
    assert answer.text == "<p>a&lt;1&gt;2<b class=x>4<i>3</i>c56</b>87d9<br>10e"


CHANGES = {
    "remove()": "<p>a c</p>",
    "removeAndKeepContent()": "<p>ab<i>x</i> c</p>",
    "replace('<hr>', html=True)": "<p>a<hr> c</p>",
    "replace('<hr>')": "<p>a&lt;hr&gt; c</p>",
    "setInnerContent('<u>', html=True)": "<p>a<b><u></b> c</p>",
    "setInnerContent('x').append('y').prepend('z')": "<p>a<b>zxy</b> c</p>",
    "prepend('x').remove().after('y').before('w')": "<p>awy c</p>",
}


@pytest.mark.parametrize(("change", "becomes"), CHANGES.items())
async def test_an_element_is_replaced_or_removed_with_its_content(tmp_path: Path, change: str, becomes: str) -> None:
    source = f"""
        rewriter.on("b", handlers(element=lambda e: e.{change}))
        rewriter.on("i", handlers(element=lambda e: seen.append(e.tagName)))
        return rewritten(rewriter, page, 2)
    """
    assert (await told(tmp_path, source, b"<p>a<b>b<i>x</i></b> c</p>")).text == becomes


async def test_attributes_and_names(tmp_path: Path) -> None:
    source = """
        def change(e):
            seen.append([e.tagName, e.getAttribute("DATA-A"), e.hasAttribute("hidden"), e.hasAttribute("nope")])
            seen.append([[name, value] for name, value in e.attributes])
            seen.append(str(e.getAttribute("nope")))
            e.setAttribute("title", 'say "hi"').removeAttribute("hidden").setAttribute("ID", "p2")
            e.tagName = "div"
            e.onEndTag(create_proxy(lambda end: (seen.append(end.name), end.before("!"))))
        rewriter.on("p", handlers(element=change))
        def refused(e):
            for wrong in (lambda: e.onEndTag(print), lambda: e.setAttribute("a b", "c")):
                try:
                    wrong()
                except Exception as error:
                    seen.append(str(error))
        rewriter.on("img", handlers(element=refused))
        text = await rewritten(rewriter, page).text()
        return Response.json([seen, text])
    """
    page = b"<P class=\"x\" DATA-A='1&quot;2' hidden id=p1>a</p><img src=a>"
    seen, text = (await told(tmp_path, source, page)).json()
    assert seen == [
        ["p", "1&quot;2", True, False],
        [["class", "x"], ["data-a", "1&quot;2"], ["hidden", ""], ["id", "p1"]],
        "jsnull",
        "div",
        "TypeError: Parser error: No end tag.",
        "TypeError: 'a b' can't be an attribute's name",
    ]
    assert text == '<div class="x" DATA-A=\'1&quot;2\' id="p2" title="say &quot;hi&quot;">a!</div><img src=a>'


@pytest.mark.parametrize("size", [1, 5000])
async def test_text_comments_doctype_and_the_end(tmp_path: Path, size: int) -> None:
    source = """
        words = []
        def text(chunk):
            words.append(chunk.text)
            if chunk.lastInTextNode:
                chunk.replace("".join(words).upper())
                words.clear()
            else:
                chunk.remove()
        def comment(c):
            seen.append(c.text)
            c.text = "two"
        async def element(e):
            await asyncio.sleep(0.001)
            seen.append(e.tagName)
        rewriter.on("b", handlers(element=element, text=text, comments=comment))
        rewriter.onDocument(handlers(
            doctype=lambda d: seen.append([d.name, d.publicId, d.systemId]),
            comments=lambda c: c.remove() if c.text == "gone" else None,
            end=lambda e: e.append("<end>", html=True),
        ))
        text = await rewritten(rewriter, page, size).text()
        return Response.json([seen, text])
    """
    page = b"<!doctype html public 'p' \"s\">a<!--gone--><b>cd &amp; <i>e</i><!--one--></b>f"
    seen, text = (await told(tmp_path, source, page, f"/?size={size}")).json()
    assert seen == [["html", "p", "s"], "b", "one"]
    assert text == "<!doctype html public 'p' \"s\">a<b>CD &amp;AMP; <i>E</i><!--two--></b>f<end>".replace(
        "&amp;AMP", "&amp;AMP"
    )


SELECTED = {
    "P": "1 3 5",
    "[DATA]": "",
    "*": "0 1 2 3 4 5 6",
    "div p": "1 3",
    "div > p": "1",
    "section>p,span": "3 6",
    ".a": "1 5",
    "p.a.b": "5",
    "#x": "2",
    "[data]": "1 4",
    '[data="v w"]': "1",
    "[data~=w]": "1",
    "[data^='v ']": "1",
    "[data$=w]": "1 4",
    '[data*="-"]': "4",
    "[data|=q]": "4",
    '[data="V W" i]': "1",
    "[data='V W']": "",
    "div > :nth-child(2)": "2",
    "div :nth-child(odd)": "1 3 4",
    "div>:nth-child(2n)": "2",
    "body > p:first-of-type": "5",
    "p:nth-of-type(1)": "1 3 5",
    ":first-child": "0 1 3",
    "p:not(.a)": "3",
    "div :not(p, [id])": "4",
    "*:not([data]):not(p)": "0 2 6",
}


async def test_selectors(tmp_path: Path) -> None:
    source = f"""
        for text in {[*SELECTED]!r}:
            found = []
            HTMLRewriter.new()
            one = HTMLRewriter.new().on(text, handlers(element=lambda e: found.append(e.getAttribute("n"))))
            await rewritten(one, page).text()
            seen.append(" ".join(n for n in found if n))
        return Response.json(seen)
    """
    page = (
        b'<body><div n=0><p n=1 class=a data="v w">x</p><section n=2 id=x><p n=3></p></section>'
        b'<img n=4 data="q-w"></div><p n=5 class="b a">x</p><span n=6></span></body>'
    )
    found = (await told(tmp_path, source, page)).json()
    assert dict(zip(SELECTED, found, strict=True)) == SELECTED


UNCLOSED = {
    "append('A').after('B')": "<div><p n=1>a<p n=2>bA</div>Bc",
    "remove()": "<div>c",
    "removeAndKeepContent()": "<div>abc",
}
"""What workerd makes of it, too: the outermost element that an end tag ends does at it what it has to do."""


@pytest.mark.parametrize(("change", "becomes"), UNCLOSED.items())
async def test_elements_without_an_end_tag_end_with_their_parent(tmp_path: Path, change: str, becomes: str) -> None:
    source = f"""
        rewriter.on("p", handlers(element=lambda e: e.{change}))
        return rewritten(rewriter, page, 2)
    """
    assert (await told(tmp_path, source, b"<div><p n=1>a<p n=2>b</div>c")).text == becomes


async def test_a_selector_that_is_none_and_a_handler_that_fails(tmp_path: Path) -> None:
    source = """
        for text in ("", "p +  b", "p ~ b", "a:hover", "p >", "[a", ":nth-child(x)", "p!"):
            try:
                HTMLRewriter.new().on(text, handlers())
            except Exception as error:
                seen.append(str(error) == f"TypeError: Parser error: HTMLRewriter doesn't take the selector {text!r}")
        rewriter.on("b", handlers(element=lambda e: 1 / 0))
        try:
            await rewritten(rewriter, page).text()
        except ZeroDivisionError as error:
            seen.append(str(error))
        return Response.json(seen)
    """
    assert (await told(tmp_path, source)).json() == [True] * 8 + ["division by zero"]


async def test_the_page_streams_and_another_charset_stays(tmp_path: Path) -> None:
    source = """
        gate = asyncio.Event()
        async def start(controller):
            controller.enqueue(to_js(b"<b>"))
            await gate.wait()
            controller.enqueue(to_js("é</b>".encode("latin-1")))
            controller.close()
        rewriter.on("b", handlers(element=lambda e: e.prepend("è")))
        given = Response(ReadableStream.new(start=start), headers={"content-type": "text/html; charset=iso-8859-1"})
        made = rewriter.transform(given.js_object)
        reader = made.body.getReader()
        first = (await reader.read()).value.to_bytes()
        gate.set()
        rest = (await reader.read()).value.to_bytes()
        return Response.json([first.decode("latin-1"), rest.decode("latin-1")])
    """
    assert (await told(tmp_path, source)).json() == ["<b>è", "é</b>"]
