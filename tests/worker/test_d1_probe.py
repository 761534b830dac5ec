from pathlib import Path
from tests.worker.python_workers import serving
from worker.bindings.d1 import D1Database
SRC = '''
from workers import Response, WorkerEntrypoint
class Default(WorkerEntrypoint):
    async def fetch(self, request):
        db = self.env.DB
        out = []
        async def q(sql, *params):
            try:
                st = db.prepare(sql)
                if params: st = st.bind(*params)
                r = await st.all()
                out.append([sql, r["results"], r.meta])
            except Exception as e:
                out.append([sql, type(e).__name__, str(e)])
        await q("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT UNIQUE, b REAL NOT NULL DEFAULT 1, c BLOB, CHECK (b > 0))")
        await q("INSERT INTO t (a, c) VALUES (?, ?)", "x", b"\\x01\\x02\\xff")
        await q("INSERT INTO t (a, c) VALUES (?, ?)", "x", None)
        await q("SELECT *, typeof(id), typeof(?) FROM t", 1)
        await q("SELEC 1"); await q("BEGIN"); await q("ATTACH DATABASE 'x' AS y"); await q("SELECT sqlite_version()"); await q("SELECT 1; SELECT 2")
        await q("SELECT * FROM nope"); await q("PRAGMA user_version"); await q("SELECT ?", 1, 2); await q("-- c"); await q(""); await q("SELECT ?", {"a": 1}); await q("SELECT ?", [1, 2]); await q("CREATE TABLE _cf_x (a)"); await q("VACUUM")
        out.append(await db.prepare("SELECT a FROM t").first()); out.append(await db.prepare("SELECT a FROM t").first("a")); out.append(await db.prepare("SELECT a, 2 b FROM t").raw(columnNames=True)); out.append(await db.prepare("SELECT a, 2 b FROM t").raw({"columnNames": True}))
        out.append(await db.batch([db.prepare("SELECT 1 a"), db.prepare("SELECT ? a").bind(2.5)]))
        out.append(await db.exec("SELECT 1\\nSELECT 2"))
        s = db.withSession(); b = s.getBookmark(); await s.prepare("SELECT 1").all(); out.append([b, s.getBookmark()])
        return Response.json(out)
'''
async def test_it(tmp_path: Path) -> None:
    async with serving(tmp_path, SRC, bindings={"DB": D1Database(tmp_path / "x" / "d.sqlite")}) as client:
        r = await client.get("/")
        print(r.text[:300])
        for row in r.json(): print(row)
