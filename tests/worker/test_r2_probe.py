from pathlib import Path
from tests.worker.python_workers import serving
from worker.bindings.r2 import R2Bucket
SRC = '''
import js, datetime
from pyodide.ffi import to_js
from workers import Response, WorkerEntrypoint
class Default(WorkerEntrypoint):
    async def fetch(self, request):
        b = self.env.B
        if "up" in request.url:
            o = await b.put("big", request.body)
            return Response(o.etag)
        if "down" in request.url:
            o = await b.get("big")
            h = js.Headers.new(); o.writeHttpMetadata(h)
            return Response(o.body, headers=h)
        out = []
        async def t(label, make):
            try:
                r = make()
                if hasattr(r, "__await__"): r = await r
                if hasattr(r, "_binding"): r = {k: str(getattr(r, k)) for k in ("key", "size", "etag", "httpEtag", "uploaded", "httpMetadata", "customMetadata", "range", "storageClass")} | {"sums": r.checksums.toJSON(), "sha": str(r.checksums.sha1)}
                elif isinstance(r, dict): r = {k: str(v) for k, v in r.items()}
                out.append([label, r if not isinstance(r, memoryview) else bytes(r).hex()])
            except Exception as e:
                out.append([label, type(e).__name__, str(e)])
        await t("put", lambda: b.put("a/b", "hello world", httpMetadata={"contentType": "text/x", "cacheExpiry": datetime.datetime(2030,1,1)}, customMetadata={"a": "1"}))
        await t("put2", lambda: b.put("c", b"hello", {"sha1": "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"}))
        await t("putbad", lambda: b.put("c", b"hello", {"sha1": "00f4c61ddcc5e8a2dabede0f3b482cd9aea9434d"}))
        await t("put num", lambda: b.put("c", 5)); await t("put none", lambda: b.put("n", None))
        await t("head", lambda: b.head("a/b")); await t("get", lambda: b.get("a/b")); await t("nohead", lambda: b.head("zz")); await t("noget", lambda: b.get("zz"))
        o = await b.get("a/b"); await t("text", lambda: o.text()); await t("text2", lambda: o.text())
        o = await b.get("a/b", range={"offset": 3, "length": 4}); await t("text", lambda: o.text()); await t("range", lambda: o.range)
        o = await b.get("a/b", range=js.Headers.new({"range": "bytes=-4"})); await t("text", lambda: o.arrayBuffer())
        await t("cond", lambda: b.get("a/b", onlyIf={"etagMatches": "x"})); await t("cond", lambda: b.put("a/b", "x", onlyIf={"etagMatches": "x"}))
        await t("rangebad", lambda: b.get("a/b", range={"offset": 100})); await t("rangebad", lambda: b.get("a/b", range={"offset": -1}))
        await t("list", lambda: b.list()); await t("list", lambda: b.list(delimiter="/", limit=1)); await t("list", lambda: b.list({"limit": 0}))
        u = await b.createMultipartUpload("mp"); await t("u", lambda: u.uploadId)
        p1 = await u.uploadPart(1, b"x" * 5242880); p2 = await u.uploadPart(2, "tail"); await t("p", lambda: p1)
        await t("complete", lambda: u.complete([p1, p2]))
        o = await b.get("mp", range={"suffix": 6}); await t("mp", lambda: o.text())
        await t("delete", lambda: b.delete("mp")); await t("delete", lambda: b.delete(["c", "n"]))
        await t("stream", lambda: b.put("s", js.ReadableStream.new()))
        return Response.json(out)
'''
async def test_it(tmp_path: Path) -> None:
    async with serving(tmp_path, SRC, bindings={"B": R2Bucket(tmp_path / "x", "my")}) as client:
        r = await client.get("/")
        print(r.text[:3000] if r.status_code != 200 else "")
        for row in r.json(): print(row)
        r = await client.put("/up", content=b"abc" * 1000000); print(r.text)
        r = await client.get("/down"); print(len(r.content), r.headers)
