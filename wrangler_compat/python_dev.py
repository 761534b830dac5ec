"""``roost dev`` for Python Workers: each in an isolate, the first one on the Worker's port."""

from __future__ import annotations

import asyncio
import datetime
import functools
import logging
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack

import click

from worker.front import Front
from worker.guard import Guard
from worker.isolate_process import WorkerFault
from worker.reloading import keep_reloading
from worker.server import bind, serve_until, url_of
from wrangler_compat import serving
from wrangler_compat.keeper import kept
from wrangler_compat.project import STATE, Project
from wrangler_compat.python_project import PythonProject, read_python_project
from wrangler_compat.python_workers import PythonOptions, Workers, refuse_absent_services, refuse_second_consumers

_PORT = 8787  # wrangler's own
_log = logging.getLogger("roost.worker")


async def serve_python(
    projects: Sequence[Project], port: int | None, options: PythonOptions, doors: serving.ServeOptions
) -> int:
    """Serve the first of ``projects``, with the others behind its service bindings, until roost is ended."""
    read = [read_python_project(project, allow_missing=options.allow_missing) for project in projects]
    refuse_absent_services(read)
    refuse_second_consumers(read)
    for project in read:
        for warning in project.warnings:
            click.echo(f"note: {warning}", err=True)
    listener = bind("127.0.0.1", _PORT if port is None else port, or_next=port is None)
    mark = uuid.uuid4().hex

    async def beside(url: str, stop: asyncio.Event) -> int:
        _log.setLevel(logging.INFO)
        workers = Workers(read, options, read[0].project.home / STATE, url, doors.token, mark)
        async with AsyncExitStack() as stack:
            stack.enter_context(kept(mark))
            for project in read:
                await _started(stack, project, workers)
            front = workers[read[0].name][1]
            ending = asyncio.create_task(_sockets_end(front, stop))
            stack.callback(ending.cancel)
            app = Guard(front)
            ready = functools.partial(click.echo, f"Worker ready on {url_of(listener)}")
            await serve_until(app, listener, stop, ready)
        return 0

    return await serving.serve(doors, beside)


async def _sockets_end(front: Front, stop: asyncio.Event) -> None:
    """Close what is open when roost ends: the server would wait for it."""
    await stop.wait()
    front.end_sockets()


async def _started(stack: AsyncExitStack, project: PythonProject, workers: Workers) -> None:
    """Start a Worker, its watcher and its clock, which end with ``stack``."""
    worker, front = workers[project.name]
    again = functools.partial(workers.again, project.name)
    opened = project.project
    more = [opened.home, *((opened.home / file).resolve() for file in opened.env_files)]
    more = [each for each in dict.fromkeys(more) if not each.is_relative_to(opened.folder)]
    await stack.enter_async_context(worker.running())
    await stack.enter_async_context(workers.consuming(project.name))
    for work in (keep_reloading(worker, opened.folder, again, more), _keep_time(workers, project.name, front)):
        stack.callback(asyncio.create_task(work).cancel)
    try:
        await worker.isolate()
    except WorkerFault as fault:
        click.echo(fault.told.get("traceback") or str(fault), err=True)


async def _keep_time(workers: Workers, name: str, front: Front) -> None:
    """Run the scheduled handler at each minute that a pattern meets."""
    while True:
        now = datetime.datetime.now(datetime.UTC)
        await asyncio.sleep(60 - now.second - now.microsecond / 1e6)
        minute = datetime.datetime.now(datetime.UTC).replace(second=0, microsecond=0)
        for cron in workers.projects[name].crons:
            if cron.meets(minute):
                try:
                    await front.scheduled(cron.pattern, minute.timestamp() * 1000)
                    _log.info("scheduled %s", cron.pattern)
                except WorkerFault as fault:
                    _log.error("%s", fault.told.get("traceback") or fault)
