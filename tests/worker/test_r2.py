"""R2's laws: a bucket is a dict, lists come page by page, bodies stream, and what breaks off leaves nothing."""

import asyncio
import contextlib
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.worker.python_workers import serving
from worker.bindings.binding import BindingError
from worker.bindings.r2 import R2Bucket
from worker.bindings.r2_rules import KEYS
from worker.isolate.js_base import JsArray, JsObject
from worker.isolate.js_convert import to_js
from worker.isolate.js_r2 import R2Bucket as JsBucket
from worker.isolate_process import Limits
from wrangler_compat.testing_js import NearHost

MEGABYTE = 1 << 20
NAMES = st.text(st.sampled_from("a/é☃\0"), max_size=3)
WORKER = """
    from workers import Response, WorkerEntrypoint

    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            bucket = self.env.BUCKET
            if request.method == "PUT":
                stored = await bucket.put("big", request.body)
                return Response.json([stored.size, stored.etag])
            found = await bucket.get("big")
            return Response("none", status=404) if found is None else Response(found.body)
"""


@contextlib.asynccontextmanager
async def bucket_in(folder: Path) -> AsyncIterator[Any]:
    made = R2Bucket(folder, "bucket")
    yield JsBucket(NearHost(made), "BUCKET")
    await made.aclose()


def files(folder: Path) -> list[Path]:
    return list((folder / "r2" / "bucket" / "blobs").iterdir())


STEPS = st.lists(st.tuples(NAMES, st.one_of(st.none(), st.binary(max_size=20))), max_size=12)


@settings(max_examples=40)
@given(steps=STEPS, start=st.integers(0, 25), length=st.integers(1, 25))
def test_a_bucket_is_a_dict(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, bytes | None]], start: int, length: int
) -> None:
    folder = tmp_path_factory.mktemp("r2")

    async def checked() -> None:
        model: dict[str, bytes] = {}
        async with bucket_in(folder) as bucket:
            for key, value in steps:
                if value is None:
                    model.pop(key, None)
                    await bucket.delete(key)
                else:
                    model[key] = value
                    await bucket.put(key, value)
            for key, value in model.items():
                assert bytes(await (await bucket.get(key)).bytes()) == value
                if start < len(value):
                    part = await bucket.get(key, to_js({"range": {"offset": start, "length": length}}, objects=True))
                    assert bytes(await part.bytes()) == value[start : start + length]
            assert [each.key for each in (await bucket.list()).objects] == sorted(model, key=str.encode)
            assert len(files(folder)) == len(model)

    asyncio.run(checked())


@settings(max_examples=60)
@given(keys=st.sets(NAMES, max_size=12), prefix=NAMES, delimiter=st.text("a/", max_size=1), limit=st.integers(1, 4))
def test_lists_come_page_by_page(
    tmp_path_factory: pytest.TempPathFactory, keys: set[str], prefix: str, delimiter: str, limit: int
) -> None:
    expected: list[str] = []
    for key in sorted((each for each in keys if each.startswith(prefix)), key=str.encode):
        head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
        name = f"{prefix}{head}{found}" if found else key
        expected += [] if found and name in expected else [name]

    async def listed() -> None:
        async with bucket_in(tmp_path_factory.mktemp("r2")) as bucket:
            for key in keys:
                await bucket.put(key, "x")
            names: list[str] = []
            cursor: Any = None
            while True:
                options = {"prefix": prefix, "delimiter": delimiter, "limit": limit, "cursor": cursor}
                page = await bucket.list(JsObject(options))
                found = [*(each.key for each in page.objects), *page.delimitedPrefixes]
                assert len(found) == limit or not page.truncated
                names += found
                if not page.truncated:
                    break
                cursor = page.cursor
            assert sorted(names) == sorted(expected)

    asyncio.run(listed())


async def megabytes(count: int) -> AsyncGenerator[bytes]:
    for _ in range(count):
        yield bytes(MEGABYTE)


async def test_a_large_object_is_never_whole_in_memory(tmp_path: Path) -> None:
    size = 120 * MEGABYTE
    limits = Limits(memory=60 * MEGABYTE)
    async with serving(
        tmp_path / "w", WORKER, bindings={"BUCKET": R2Bucket(tmp_path, "bucket")}, limits=limits
    ) as client:
        tracemalloc.start()
        length = {"content-length": str(size)}
        stored = await client.put("/", content=megabytes(120), headers=length)
        assert stored.json()[0] == size
        got = 0
        async with client.stream("GET", "/") as answer:
            async for piece in answer.aiter_bytes():
                got += len(piece)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert got == size
    assert most < 40 * MEGABYTE


async def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    async def broken() -> AsyncGenerator[bytes]:
        yield bytes(MEGABYTE)
        while not files(tmp_path):
            await asyncio.sleep(0.01)
        raise ZeroDivisionError

    async with serving(tmp_path / "w", WORKER, bindings={"BUCKET": R2Bucket(tmp_path, "bucket")}) as client:
        with pytest.raises((ZeroDivisionError, httpx.HTTPError)):
            await client.put("/", content=broken(), headers={"content-length": str(9 * MEGABYTE)})
        while files(tmp_path):
            await asyncio.sleep(0.01)
        assert (await client.get("/")).status_code == 404


async def test_a_reader_keeps_what_it_began(tmp_path: Path) -> None:
    async with bucket_in(tmp_path) as bucket:
        await bucket.put("a", bytes(3 * MEGABYTE))
        found = await bucket.get("a")
        reader = found.body.getReader()
        begun = (await reader.read()).value.byteLength
        await bucket.put("a", "new")
        await bucket.delete("a")
        while not (piece := await reader.read()).done:
            begun += piece.value.byteLength
        assert begun == 3 * MEGABYTE
        assert files(tmp_path) == []


async def test_who_reads_sees_one_object_while_others_replace_it(tmp_path: Path) -> None:
    size = MEGABYTE // 2
    both = [R2Bucket(tmp_path, "bucket") for _ in range(2)]
    near = [JsBucket(NearHost(each), "BUCKET") for each in both]

    async def put_and_get(number: int) -> None:
        await near[number % 2].put("a", bytes([number]) * size)
        found = bytes(await (await near[(number + 1) % 2].get("a")).bytes())
        assert found == found[:1] * size

    await asyncio.gather(*map(put_and_get, range(40)))
    assert len(files(tmp_path)) == 1
    for each in both:
        await each.aclose()


async def test_a_reader_keeps_every_part(tmp_path: Path) -> None:
    async with bucket_in(tmp_path) as bucket, bucket_in(tmp_path) as other:
        upload = await bucket.createMultipartUpload("a")
        parts = [await upload.uploadPart(number, bytes(5 * MEGABYTE)) for number in (1, 2)]
        await upload.complete(JsArray(parts))
        pieces = (await bucket.get("a")).body.values()
        size = (await anext(pieces)).byteLength
        await other.delete("a")
        assert len(files(tmp_path)) == 2
        async for piece in pieces:
            size += piece.byteLength
        assert size == 10 * MEGABYTE
        assert files(tmp_path) == []


async def test_a_stream_keeps_its_promise(tmp_path: Path) -> None:
    source = """
        import js
        from workers import Response, WorkerEntrypoint

        class Default(WorkerEntrypoint):
            async def fetch(self, request):
                told = []
                for length in (3, 4):
                    stream = js.FixedLengthStream.new(length)
                    async def write():
                        writer = stream.writable.getWriter()
                        await writer.write(b"abc")
                        await writer.close()
                    writing = js.Promise.new(write())
                    try:
                        told.append((await self.env.BUCKET.put("a", stream.readable)).size)
                    except Exception as error:
                        told.append(str(error))
                try:
                    await self.env.BUCKET.put("a", js.ReadableStream.new())
                except Exception as error:
                    told.append(str(error).partition(" (")[0])
                return Response.json(told)
    """
    async with serving(tmp_path / "w", source, bindings={"BUCKET": R2Bucket(tmp_path, "bucket")}) as client:
        assert (await client.get("/")).json() == [
            3,
            "TypeError: FixedLengthStream did not see all expected bytes before close().",
            "TypeError: Provided readable stream must have a known length",
        ]


async def test_what_is_fetched_can_be_put(tmp_path: Path) -> None:
    source = """
        from workers import Response, WorkerEntrypoint, fetch

        class Default(WorkerEntrypoint):
            async def fetch(self, request):
                if request.url.endswith("/inner"):
                    return Response("fetched")
                inner = await fetch(request.url + "inner")
                await self.env.BUCKET.put("a", inner.body)
                await self.env.BUCKET.put("b", (await self.env.BUCKET.get("a")).body)
                return Response(await (await self.env.BUCKET.get("b")).text())
    """
    async with serving(tmp_path / "w", source, bindings={"BUCKET": R2Bucket(tmp_path, "bucket")}) as client:
        assert (await client.get("/")).text == "fetched"


async def test_a_thousand_keys_are_deleted_at_once_and_no_more(tmp_path: Path) -> None:
    async with bucket_in(tmp_path) as bucket:
        await bucket.put("7", "x")
        await bucket.delete(JsArray([str(number) for number in range(KEYS)]))
        assert files(tmp_path) == []
        with pytest.raises(Exception, match="at most 1000 keys can be deleted at once, not 1001"):
            await bucket.delete(JsArray([str(number) for number in range(KEYS + 1)]))


async def test_no_key_is_a_path(tmp_path: Path) -> None:
    async with bucket_in(tmp_path / "state") as bucket:
        for key in ("../../../x", "/etc/x", "..", "."):
            await bucket.put(key, key)
            assert await (await bucket.get(key)).text() == key
    assert [each.name for each in tmp_path.iterdir()] == ["state"]


async def test_what_no_bucket_has_is_refused(tmp_path: Path) -> None:
    made = R2Bucket(tmp_path, "bucket")
    with pytest.raises(BindingError, match="R2Bucket has no method nope"):
        await made.call("nope", [])
    await made.aclose()
