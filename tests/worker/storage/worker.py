"""The same as tests/wrangler_compat/node/storage_worker.js, in Python. Read by test_storage.py; nobody imports it."""

# ruff: noqa
# mypy: ignore-errors

import datetime
import json

import js
from workers import Response, WorkerEntrypoint

etags = {}
UNDEFINED = object()


def given(x):
    if isinstance(x, list):
        return [given(each) for each in x]
    if not isinstance(x, dict):
        return x
    if "$bytes" in x:
        return bytes(x["$bytes"])
    if "$times" in x:
        return x["$text"] * x["$times"]
    if "$date" in x:
        return datetime.datetime.fromtimestamp(x["$date"] / 1000, datetime.UTC)
    if "$headers" in x:
        return js.Headers.new(js.JSON.parse(json.dumps(x["$headers"])))
    if "$undefined" in x:
        return UNDEFINED
    if "$etag" in x:
        return etags[x["$etag"]]
    return {key: given(value) for key, value in x.items()}


def plain(x):
    if isinstance(x, datetime.datetime):
        return x.astimezone(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(x, dict):
        return {key: plain(value) for key, value in x.items()}
    return x


def of(found):
    if found is None:
        return None
    found = getattr(found, "_binding", found)  # of a list, the objects come as JavaScript's
    etags[found.key] = found.etag
    dicts = {name: getattr(found, name) for name in ("httpMetadata", "customMetadata", "range")}
    return {
        **{name: getattr(found, name) for name in ("key", "size", "etag", "httpEtag")},
        **{name: plain(json.loads(js.JSON.stringify(value))) for name, value in dicts.items() if value is not None},
        "checksums": found.checksums.toJSON().to_py(),
    }


def rows(result):
    meta = result.meta
    return {"results": result["results"], "changes": meta.changes, "last": meta.last_row_id, "changed": meta.changed_db}


class D1:
    def __init__(self, env):
        self.db = env.DB
        self.bare = env._env.DB

    def prepared(self, args):
        sql, *params = map(given, args)
        if UNDEFINED in params:  # which Python has only without the SDK's conversion
            return self.bare.prepare(sql).bind(*[None if each is UNDEFINED else each for each in params])
        return self.db.prepare(sql).bind(*params) if params else self.db.prepare(sql)

    async def all(self, *args):
        return rows(await self.prepared(args).all())

    async def raw(self, options, *args):
        return await self.prepared(args).raw(options)

    async def first(self, column, *args):
        return await self.prepared(args).first(column)

    async def batch(self, *each):
        return [rows(result) for result in await self.db.batch([self.prepared(args) for args in each])]

    async def exec(self, sql):
        return (await self.db.exec(sql))["count"]


class R2:
    def __init__(self, env):
        self.bucket = env.BUCKET

    async def put(self, key, value, options=None):
        return of(await self.bucket.put(given(key), given(value), given(options or {})))

    async def head(self, key):
        return of(await self.bucket.head(given(key)))

    async def get(self, key, options=None):
        found = await self.bucket.get(key, given(options or {}))
        if found is None:
            return None
        return {**of(found), "text": await found.text() if hasattr(found, "body") else None}

    async def delete(self, keys):
        return await self.bucket.delete(keys)

    async def list(self, options=None):
        found = await self.bucket.list(options or {})
        return {**found, "objects": [of(each) for each in found["objects"]]}

    async def upload(self, key, options, parts, order):
        upload = await self.bucket.createMultipartUpload(given(key), given(options or {}))
        done = {number: await upload.uploadPart(number, given(value)) for number, value in parts}
        chosen = [done.get(number, {"partNumber": number, "etag": "none"}) for number in order]
        return of(await upload.complete(chosen))

    async def aborted(self, key):
        upload = await self.bucket.createMultipartUpload(key)
        await upload.abort()
        await upload.abort()
        return await upload.uploadPart(1, "x")

    async def metadata(self, key):
        headers = js.Headers.new()
        (await self.bucket.head(key)).writeHttpMetadata(headers)
        return [[name, headers.get(name)] for name in headers.keys()]


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        asked = await request.json()
        calls = (D1 if asked["kind"] == "d1" else R2)(self.env)
        told = []
        for call, *args in asked["steps"]:
            try:
                told.append({"gives": await getattr(calls, call)(*args)})
            except Exception as error:
                told.append({"fails": str(error)})
        return Response.json(told)
