"""Retrieval-augmented generation: notes are kept, and questions answered from the nearest of them."""

from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from workers import Response, WorkerEntrypoint

EMBEDDING = "@cf/baai/bge-base-en-v1.5"
MODEL = "@hf/nexusflow/starling-lm-7b-beta"
NEAREST = 3


class Default(WorkerEntrypoint):
    """The Worker."""

    async def fetch(self, request):  # type: ignore[no-untyped-def]
        """``POST /notes`` with a text keeps it; ``GET /ask?q=…`` answers."""
        url = urlsplit(request.url)
        if url.path == "/notes" and request.method == "POST":
            return Response.from_json({"id": await self._keep(await request.text())}, status=HTTPStatus.CREATED)
        question = parse_qs(url.query).get("q", [""])[0]
        if url.path != "/ask" or not question:
            return Response("ask with /ask?q=…\n", status=HTTPStatus.NOT_FOUND)
        notes = await self._nearest(question)
        told = "\n".join(notes)
        prompt = f"Answer from these notes alone:\n{told}\n\nQuestion: {question}"
        answer = await self.env.AI.run(MODEL, {"prompt": prompt, "max_tokens": 64})
        return Response.from_json({"answer": answer.response, "notes": notes})

    async def _keep(self, text: str) -> int:
        db = self.env.DB
        await db.exec("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")
        note = await db.prepare("INSERT INTO notes (text) VALUES (?) RETURNING id").bind(text).first("id")
        await self.env.INDEX.upsert([{"id": str(int(note)), "values": await self._vector(text)}])
        return int(note)

    async def _nearest(self, question: str) -> list[str]:
        found = await self.env.INDEX.query(await self._vector(question), {"topK": NEAREST})
        query = self.env.DB.prepare("SELECT text FROM notes WHERE id = ?")
        return [await query.bind(int(match.id)).first("text") for match in found.matches]

    async def _vector(self, text: str) -> list[float]:
        answer = await self.env.AI.run(EMBEDDING, {"text": [text]})
        return list(answer.data[0])
