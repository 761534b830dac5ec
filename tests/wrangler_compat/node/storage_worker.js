// Does what the steps in the request say to D1 and R2, and tells what came of each: see tests/worker/storage/steps.py.
const given = (x) => {
  if (x === null || typeof x !== "object") return x;
  if (Array.isArray(x)) return x.map(given);
  if ("$bytes" in x) return new Uint8Array(x.$bytes).buffer;
  if ("$times" in x) return x.$text.repeat(x.$times);
  if ("$date" in x) return new Date(x.$date);
  if ("$headers" in x) return new Headers(x.$headers);
  if ("$undefined" in x) return undefined;
  if ("$etag" in x) return etags[x.$etag];
  return Object.fromEntries(Object.entries(x).map(([key, value]) => [key, given(value)]));
};
const etags = {};
const of = (object) => {
  if (object === null || object === undefined) return null;
  etags[object.key] = object.etag;
  const { key, size, etag, httpEtag, httpMetadata, customMetadata, range, checksums } = object;
  return { key, size, etag, httpEtag, httpMetadata, customMetadata, range, checksums: checksums.toJSON() };
};
const rows = ({ results, meta }) => ({ results, changes: meta.changes, last: meta.last_row_id, changed: meta.changed_db });

const d1 = (db) => {
  const prepared = ([sql, ...params]) => (params.length ? db.prepare(given(sql)).bind(...params.map(given)) : db.prepare(given(sql)));
  return {
    all: async (...args) => rows(await prepared(args).all()),
    raw: async (options, ...args) => prepared(args).raw(options),
    first: async (column, ...args) => prepared(args).first(column ?? undefined),
    batch: async (...each) => (await db.batch(each.map(prepared))).map(rows),
    exec: async (sql) => (await db.exec(sql)).count,
  };
};

const r2 = (bucket) => ({
  put: async (key, value, options) => of(await bucket.put(given(key), given(value), given(options))),
  head: async (key) => of(await bucket.head(given(key))),
  get: async (key, options) => {
    const object = await bucket.get(key, given(options));
    return object && { ...of(object), text: object.body ? await object.text() : null };
  },
  delete: async (keys) => { await bucket.delete(keys); return null; },
  list: async (options) => {
    const { objects, ...rest } = await bucket.list(options);
    return { objects: objects.map(of), ...rest };
  },
  upload: async (key, options, parts, order) => {
    const upload = await bucket.createMultipartUpload(given(key), given(options));
    const done = {};
    for (const [number, value] of parts) done[number] = await upload.uploadPart(number, given(value));
    return of(await upload.complete(order.map((number) => done[number] ?? { partNumber: number, etag: "none" })));
  },
  aborted: async (key) => {
    const upload = await bucket.createMultipartUpload(key);
    await upload.abort();
    await upload.abort();
    return await upload.uploadPart(1, "x");
  },
  metadata: async (key) => {
    const headers = new Headers();
    (await bucket.head(key)).writeHttpMetadata(headers);
    return [...headers];
  },
});

export default {
  async fetch(request, env) {
    const { kind, steps } = await request.json();
    const calls = kind === "d1" ? d1(env.DB) : r2(env.BUCKET);
    const told = [];
    for (const [call, ...args] of steps) {
      try {
        told.push({ gives: await calls[call](...args) });
      } catch (error) {
        told.push({ fails: `${error.name}: ${error.message}` });
      }
    }
    return Response.json(told);
  },
};
