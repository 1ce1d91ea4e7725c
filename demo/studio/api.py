"""The studio's HTTP interface. Bodies and answers are JSON unless said; errors are {"error": one line}.

    GET    /                                    the page;  /static/<name>: its files
    GET    /api/about                           about.about()
    GET    /api/projects                        [{id, title, modified, thumb}], the newest first
    POST   /api/projects  {}                    {id}
    POST   /api/projects/import                 body: a project.json that holds its pictures -> {id}
    GET    /api/projects/<id>                   the project, see Studio.document()
    PUT    /api/projects/<id>                   {revision, project: {...}}, or the project's own keys with revision
                                                beside them -> as GET. picture, mask and strokes are not taken from it.
                                                409 with the newer document where revision is not the newest
    DELETE /api/projects/<id>                   {}
    PUT    /api/projects/<id>/picture?keep=1    body: a picture file -> {size: [w, h], revision}; also mask, strokes.
                                                Without keep, or with another size, mask, strokes and motion go
    DELETE /api/projects/<id>/mask|strokes      {revision}
    GET    /api/projects/<id>/project.json      a download that holds its pictures
    POST   /api/projects/<id>/run               {stages: "s1-s6", preview: false} -> {job}
    POST   /api/projects/<id>/words             {vocab} -> {job}; the mask is then files/mask
    POST   /api/projects/<id>/paint             {} -> {job}; the picture is then files/image
    POST   /api/projects/<id>/suggest           {count} -> {motion, job}, when it is done
    POST   /api/projects/<id>/complete          {} -> {url}: the mask that strokes.png stands for, files/completed
    POST   /api/projects/<id>/flow              {short_side} -> float32 little-endian [2,H,W] in px/frame at that size;
                                                headers X-Flow-Width, X-Flow-Height, X-Flow-Scale (small by full size)
                                                and X-Flow-Source (arrows or stage: where it comes from)
    GET    /api/projects/<id>/events            server-sent events: {type: job, job} and {type: project, revision}
    GET    /api/projects/<id>/files/<name>      a file; ?download=1: as an attachment. Names: picture, own_mask,
                                                strokes, thumb, completed; the stages' image, twin, mask_odise, mask,
                                                clusters, flow_color, motion_picture, motion, flow, summary, ...;
                                                video (video.mp4), video.webm, video.gif, ...; preview
    GET    /api/jobs/<id>                       a job, see jobs.Job;  DELETE: cancel it

What changes something needs X-Studio-Token (in the page's <meta name="studio-token">) and an Origin, see guard.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shlex
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from text2cinemagraph.data.project import FILE, LARGEST_FILE, PICTURES, Project, parsed, project_of, self_contained
from text2cinemagraph.demo.studio import runs
from text2cinemagraph.demo.studio.about import MEGABYTES, MEGAPIXELS, about
from text2cinemagraph.demo.studio.guard import Guard
from text2cinemagraph.demo.studio.jobs import Events, Job, Jobs
from text2cinemagraph.demo.studio.store import STATE, VIDEOS, Folder, Store
from text2cinemagraph.demo.studio.workers import HEAVY, TaskFailed, Worker

STATIC = Path(__file__).with_name("static")
MIME = {
    **{".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"},
    **{".mjs": "text/javascript; charset=utf-8", ".json": "application/json", ".svg": "image/svg+xml"},
    **{".png": "image/png", ".ico": "image/x-icon", ".gif": "image/gif", ".webp": "image/webp", ".apng": "image/apng"},
    **{".mp4": "video/mp4", ".webm": "video/webm", ".npz": "application/octet-stream", ".woff2": "font/woff2"},
}
JSON_MEGABYTES = 8  # of a request: motion files hold up to 100,000 points
READ_ALL = 4  # times the limit that is still read of an upload, so that its sender gets to see why it was refused
SECONDS = 120  # that a picture may take to be read
BEAT = 15.0  # seconds between two signs of life on an event stream
FEWEST, MOST = 32, 1024  # px of the short side of a flow that is asked for


class Refused(Exception):
    """A request that cannot be answered.  more: further keys of the answer."""

    def __init__(self, status: int, line: str, more: dict | None = None) -> None:
        super().__init__(line)
        self.status, self.line, self.more = status, line, more or {}


class Studio:
    """What the routes share: the projects, the two worker processes, the queue."""

    def __init__(self, folder: str | Path, config: str, token: str) -> None:
        """folder: where projects are kept.   config: of new projects.   token: that the page shows."""
        self.store, self.config, self.token = Store(folder), config, token
        self.renders, self.hands = Worker("renders"), Worker("hands", heavy=HEAVY)
        self.events = Events()
        self.jobs = Jobs(self.renders, self.events)
        self._about: dict | None = None
        self._work: list[asyncio.Task] = []

    @contextlib.asynccontextmanager
    async def running(self, app: Starlette) -> AsyncIterator[None]:
        """Start the processes and the queue; end them with the server."""
        self._work = [asyncio.create_task(self.jobs.run())]
        self._work += [asyncio.create_task(self._prepare()), asyncio.create_task(self.renders.warm())]
        try:
            yield
        finally:
            for task in self._work:
                task.cancel()
            for worker in (self.renders, self.hands):
                await worker.kill()

    async def _prepare(self):
        """What the page asks for first comes first."""
        with contextlib.suppress(TaskFailed, OSError):
            await self.about()
        await self.hands.warm()

    # ------------------------------------------------------------ what routes find
    def folder(self, request: Request) -> Folder:
        folder = self.store.folder(request.path_params["id"])
        if folder is None:
            raise Refused(404, "there is no such project; it may have been deleted")
        return folder

    async def about(self) -> dict:
        if self._about is None:
            looks = (await self.hands.call("looks"))["looks"]
            self._about = await asyncio.to_thread(about, self.config, looks)
        return self._about

    def told(self, folder: Folder, revision: int) -> int:
        """Tell the pages that a project changed."""
        self.events.tell(folder.id, {"type": "project", "revision": revision})
        return revision

    def idle(self, folder: Folder) -> None:
        """Raise where a job of the project is running."""
        if self.jobs.running(folder.id):
            raise Refused(409, "a render of this project is running; wait for it, or cancel it first")

    async def document(self, folder: Folder) -> dict:
        """{id, revision, project, size, stages, jobs, files, command, motion_command, problem} of a project.

        stages: [{name, state, picture}], see runs.cards.   files: {name: url}, and {"video": {format: url}}.
        command: what a user can paste.   motion_command: the same, spelled out.   problem: a line, or null.
        """
        job = self.jobs.running(folder.id)
        at = job.stage if job and job.kind not in ("preview", "suggest") else None
        return await asyncio.to_thread(self._document, folder, at)

    def _document(self, folder, at):
        project = folder.project()
        found, problem = runs.cards(folder, at)
        urls = {name: url_of(folder, name, path) for name, path in folder.there().items()}
        for card in found:
            card["picture"] = urls.get(card["picture"]) or urls.get("video.mp4" if card["picture"] == "video" else "")
        videos = {kind: urls.pop(f"video.{kind}") for kind in VIDEOS if f"video.{kind}" in urls}
        size = folder.size()
        return {
            "id": folder.id,
            "revision": folder.revision,
            "project": project.content(),
            "size": list(size) if size else None,
            "stages": found,
            "jobs": [job.shown() for job in self.jobs.of(folder.id)[:20]],
            "files": urls | {"video": videos},
            "command": shlex.join(["python", "inference_t2c.py", "--project", str(folder.path / FILE)]),
            "motion_command": shlex.join(["python", "inference_t2c.py", *runs.words_of(folder, project)]),
            "problem": problem,
        }

    async def checked(self, content: Any) -> Project:
        """A project that a client sent, its configuration one of ours, its look a look."""
        project = project_of(content)
        known = [entry["path"] for entry in (await self.about())["configs"]]
        if project.config not in known:
            raise Refused(400, f"config={project.config[:60]}: expected one of {', '.join(known)}"[:190])
        looks = [entry["name"] for entry in (await self.about())["looks"]]
        if project.style and project.style not in looks:
            raise Refused(400, f"style={project.style}: expected one of {', '.join(looks)}")
        return project

    async def receive(self, request: Request, folder: Folder, most: int) -> Path:
        """The body of a request, in a file; it is counted while it comes.  most: bytes."""
        path, size = folder.incoming(), 0
        with open(path, "wb") as file:
            async for chunk in _chunks(request, most):
                file.write(chunk)
                size += len(chunk)
        if not size:
            path.unlink()
            raise Refused(400, "the request is empty; expected a file in its body")
        return path


async def _chunks(request, most):
    """The pieces of a request's body, up to `most` bytes."""
    said, size = request.headers.get("content-length", ""), 0
    if not said.isdigit() or int(said) <= READ_ALL * most:
        async for chunk in request.stream():
            size += len(chunk)
            if size > READ_ALL * most:
                break
            if size <= most:
                yield chunk
            # A client that still sends would not see the answer: a little too much is read, and thrown away.
    if size > most or not size and said.isdigit() and int(said) > most:
        raise Refused(413, f"the upload is too large; expected at most {most // 2**20} MB")


async def read_body(request: Request) -> dict:
    """A JSON body, {} where it is empty."""
    data = b"".join([chunk async for chunk in _chunks(request, JSON_MEGABYTES * 2**20)])
    if not data:
        return {}
    try:
        content = parsed(data)
    except ValueError as error:
        raise Refused(400, str(error).replace("a project.json", "an object in JSON")) from error
    if not isinstance(content, dict):
        raise Refused(400, f"expected an object in JSON, found a {type(content).__name__}")
    return content


def url_of(folder: Folder, name: str, path: Path) -> str:
    """Where a client finds a file, with the file's state, so that a new one is not taken from a cache."""
    state = path.stat()
    return f"/api/projects/{folder.id}/files/{name}?v={state.st_mtime_ns:x}{state.st_size:x}"


# ---------------------------------------------------------------- the page
async def index(studio: Studio, request: Request) -> Response:
    page = STATIC / "index.html"
    if not page.is_file():
        raise Refused(404, "the page's files are missing; install the package again")
    text, found = re.subn(
        r'(<meta name="studio-token" content=")[^"]*', rf"\g<1>{studio.token}", page.read_text(encoding="utf-8")
    )
    if not found:
        text = text.replace("<head>", f'<head><meta name="studio-token" content="{studio.token}">', 1)
    return HTMLResponse(text, headers={"cache-control": "no-store"})


async def static(studio: Studio, request: Request) -> Response:
    there = {path.relative_to(STATIC).as_posix(): path for path in STATIC.rglob("*") if path.suffix in MIME}
    path = there.get(request.path_params["name"])
    if path is None or path.name == "index.html":
        raise Refused(404, "there is no such file")
    return FileResponse(path, media_type=MIME[path.suffix], headers={"cache-control": "no-cache"})


async def get_about(studio: Studio, request: Request) -> Response:
    return JSONResponse(await studio.about())


# ---------------------------------------------------------------- projects
async def list_projects(studio: Studio, request: Request) -> Response:
    return JSONResponse(await asyncio.to_thread(lambda: [_entry(folder) for folder in studio.store.folders()]))


def _entry(folder):
    try:
        prompt = folder.project().prompt.strip()
    except ValueError as error:
        prompt = f"damaged: {error}"
    thumb = next((name for name in ("thumb", "image") if (path := folder.file_of(name)) and path.is_file()), None)
    state = folder.path / (STATE if (folder.path / STATE).is_file() else FILE)
    return {
        "id": folder.id,
        "title": prompt[:80] or "Untitled",
        "modified": state.stat().st_mtime,
        "thumb": url_of(folder, thumb, folder.file_of(thumb)) if thumb else None,
    }


async def create_project(studio: Studio, request: Request) -> Response:
    await read_body(request)
    return JSONResponse({"id": studio.store.create(Project(config=studio.config)).id}, 201)


async def import_project(studio: Studio, request: Request) -> Response:
    folder = studio.store.create(Project(config=studio.config))
    try:
        source = await studio.receive(request, folder, LARGEST_FILE)
        told = await studio.hands.call(
            "unpack", source=str(source), folder=str(folder.path), megapixels=MEGAPIXELS, timeout=SECONDS
        )
        source.unlink()
        folder.save(await studio.checked(told["project"]))
    except BaseException:
        studio.store.remove(folder)
        raise
    return JSONResponse({"id": folder.id}, 201)


async def get_project(studio: Studio, request: Request) -> Response:
    document = await studio.document(studio.folder(request))
    return JSONResponse(document, headers={"etag": f'"{document["revision"]}"', "cache-control": "no-store"})


async def put_project(studio: Studio, request: Request) -> Response:
    folder, body = studio.folder(request), await read_body(request)
    revision = body.pop("revision", None)
    if revision is None and (tag := request.headers.get("if-match", "").strip('W/" ')).isdigit():
        revision = int(tag)
    content = body.pop("project", body)
    if not isinstance(content, dict):
        raise Refused(400, "project: expected an object")
    project = await studio.checked({key: value for key, value in content.items() if key not in PICTURES})
    if not isinstance(revision, int):
        raise Refused(400, "revision is missing; send the number that came with the project")
    if revision != folder.revision:
        newer = await studio.document(folder)
        raise Refused(409, "the project was changed elsewhere, perhaps in another tab; this is the newer one", newer)
    kept = folder.project()
    studio.told(folder, folder.save(replace(project, **{key: getattr(kept, key) for key in PICTURES})))
    return JSONResponse(await studio.document(folder))


async def delete_project(studio: Studio, request: Request) -> Response:
    folder = studio.folder(request)
    for job in studio.jobs.of(folder.id):
        await studio.jobs.cancel(job)
    await asyncio.to_thread(studio.store.remove, folder)
    return JSONResponse({})


async def export_project(studio: Studio, request: Request) -> Response:
    folder = studio.folder(request)
    project = await asyncio.to_thread(lambda: self_contained(folder.project(), folder.path))
    text = json.dumps(project.content(), indent=1, ensure_ascii=False) + "\n"
    name = re.sub(r"[^a-z0-9]+", "-", project.prompt.lower())[:40].strip("-") or folder.id
    headers = {"content-disposition": f'attachment; filename="{name}.project.json"'}
    return Response(text, media_type="application/json", headers=headers)


# ---------------------------------------------------------------- pictures
async def put_picture(studio: Studio, request: Request) -> Response:
    folder, key = studio.folder(request), request.path_params["key"]
    project, before = folder.project(), folder.size()
    if key == "picture":
        studio.idle(folder)
    elif before is None:
        raise Refused(409, f"there is no picture yet that the {key} could lie on; upload one first")
    source = await studio.receive(request, folder, MEGABYTES * 2**20)
    target = folder.path / f"{key}.png"
    try:
        told = await studio.hands.call(
            "store",
            key=key,
            source=str(source),
            target=str(source.with_suffix(".png")),
            size=None if key == "picture" else before[::-1],
            megapixels=MEGAPIXELS,
            thumb=str(folder.own("thumb")) if key == "picture" else None,
            timeout=SECONDS,
        )
        if key == "picture":
            studio.idle(folder)
        source.with_suffix(".png").replace(target)
    finally:
        source.unlink(missing_ok=True)
        source.with_suffix(".png").unlink(missing_ok=True)
    project = replace(folder.project(), **{key: target.name})  # what came meanwhile counts
    if key == "picture" and not (request.query_params.get("keep") == "1" and tuple(told["size"]) == before):
        project = replace(project, mask="", strokes="", motion=None)
        for name in ("own_mask", "strokes"):
            folder.own(name).unlink(missing_ok=True)
        await asyncio.to_thread(folder.drop_renders)
    revision = studio.told(folder, folder.save(project))
    return JSONResponse({"size": told["size"], "revision": revision})


async def delete_picture(studio: Studio, request: Request) -> Response:
    folder, key = studio.folder(request), request.path_params["key"]
    if key == "picture":
        raise Refused(405, "a picture is replaced, not deleted; delete the project, or make a new one")
    revision = studio.told(folder, folder.save(replace(folder.project(), **{key: ""})))
    (folder.path / f"{key}.png").unlink(missing_ok=True)
    return JSONResponse({"revision": revision})


# ---------------------------------------------------------------- renders
async def run(studio: Studio, request: Request) -> Response:
    folder, body = studio.folder(request), await read_body(request)
    stages, small = body.get("stages", "s1-s6"), body.get("preview", False)
    if not isinstance(stages, str) or not re.fullmatch(r"all|s\d(-s\d)?", stages) or not isinstance(small, bool):
        raise Refused(400, 'expected {"stages": "s1-s6", "preview": false}')
    runs.chosen_stages(stages, runs.STAGES)
    plan = partial(runs.preview, folder) if small else partial(runs.final, folder, stages)
    return queued(studio, folder, "preview" if small else "run", plan)


async def words(studio: Studio, request: Request) -> Response:
    folder, body = studio.folder(request), await read_body(request)
    if "vocab" in body:
        project = folder.project()
        content = project.content() | {"options": project.options | {"odise.vocab": body["vocab"]}}
        studio.told(folder, folder.save(project_of(content)))
    return queued(studio, folder, "words", partial(runs.words_mask, folder))


async def paint(studio: Studio, request: Request) -> Response:
    folder = studio.folder(request)
    project = folder.project()
    if not project.style or not project.picture:
        raise Refused(409, "a look needs a picture of yours and the name of a look; choose both")
    return queued(studio, folder, "paint", partial(runs.paint, folder))


def queued(studio: Studio, folder: Folder, kind: str, plan: Callable[[], dict]) -> Response:
    """Put a job into the queue."""
    return JSONResponse({"job": studio.jobs.add(Job(folder.id, kind, plan)).shown()}, 202)


async def suggest(studio: Studio, request: Request) -> Response:
    folder, body = studio.folder(request), await read_body(request)
    count = body.get("count", 6)
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= 50:
        raise Refused(400, f"count={str(count)[:40]}: expected a whole number, 1 to 50")
    job = studio.jobs.add(Job(folder.id, "suggest", partial(runs.suggest, folder, count)))
    await job.ended.wait()
    if job.state != "done":
        raise Refused(409, job.error or "the job was cancelled", {"job": job.shown()})
    path, size = folder.experiment("suggested").path("motion"), folder.size()
    told = await studio.hands.call("suggested", path=str(path), size=size[::-1])
    return JSONResponse(told | {"job": job.shown()})


async def complete(studio: Studio, request: Request) -> Response:
    folder = studio.folder(request)
    project = folder.project()
    if not project.strokes or not project.picture:
        raise Refused(409, "there are no scribbles on a picture of yours to complete; draw some first")
    target = folder.own("completed")
    await studio.hands.call(
        "complete",
        picture=str(folder.path / project.picture),
        strokes=str(folder.path / project.strokes),
        target=str(target),
        timeout=SECONDS,
    )
    return JSONResponse({"url": url_of(folder, "completed", target)})


async def flow(studio: Studio, request: Request) -> Response:
    folder, body = studio.folder(request), await read_body(request)
    side = body.get("short_side", 256)
    if not isinstance(side, int) or isinstance(side, bool) or not FEWEST <= side <= MOST:
        raise Refused(400, f"short_side={str(side)[:40]}: expected a whole number of px, {FEWEST} to {MOST}")
    task, source = await asyncio.to_thread(_flow_task, folder)
    try:
        told = await studio.hands.call("flow", short_side=side, timeout=SECONDS, **task)
    except TaskFailed as failed:
        raise Refused(400, failed.line) from failed
    import base64

    headers = {f"x-flow-{key}": str(told[key]) for key in ("width", "height", "scale")} | {"x-flow-source": source}
    data = base64.b64decode(told["flow"])
    return Response(data, media_type="application/octet-stream", headers=headers | {"cache-control": "no-store"})


def _flow_task(folder):
    """What the flow is made from: the flow of s5 where it is the newest that there is, else the arrows."""
    project, experiment = folder.project(), folder.experiment()
    arrows = project.motion and project.motion.get("arrows")
    if experiment.has("flow"):
        fresh = {card["name"]: card["state"] for card in runs.cards(folder, None)[0]}["s5"] == "fresh"
        if fresh or not arrows:
            return {"flow": str(experiment.path("flow"))}, "stage"
    if not arrows:
        raise Refused(409, "no arrow is drawn, and s5 has not run yet")
    mask = folder.own("own_mask") if project.mask else experiment.path("mask")
    if not mask.is_file():
        raise Refused(409, "there is no mask yet; paint what may move, or run s3 and s4")
    return {"motion": project.motion, "mask": str(mask)}, "arrows"


# ---------------------------------------------------------------- files, jobs, events
async def get_file(studio: Studio, request: Request) -> Response:
    folder, name = studio.folder(request), request.path_params["name"]
    path = folder.file_of(name)
    if path is None or not path.is_file():
        raise Refused(404, f"there is no {name[:40]} yet" if path else "there is no such artifact")
    headers = {"cache-control": "private, max-age=31536000" if "v" in request.query_params else "no-cache"}
    attached = (
        {"filename": f"{folder.id}-{name.partition('.')[0]}{path.suffix}"}
        if request.query_params.get("download")
        else {}
    )
    return FileResponse(path, media_type=MIME.get(path.suffix), headers=headers, **attached)


def job_of(studio: Studio, request: Request) -> Job:
    job = studio.jobs.all.get(request.path_params["id"])
    if job is None:
        raise Refused(404, "there is no such job; it may be of an earlier start of the server")
    return job


async def get_job(studio: Studio, request: Request) -> Response:
    return JSONResponse(job_of(studio, request).shown())


async def cancel_job(studio: Studio, request: Request) -> Response:
    job = job_of(studio, request)
    await studio.jobs.cancel(job)
    return JSONResponse(job.shown())


async def events(studio: Studio, request: Request) -> Response:
    folder = studio.folder(request)

    async def lines():
        yield _event({"type": "project", "revision": folder.revision})
        for job in studio.jobs.of(folder.id):
            if job.waits:
                yield _event({"type": "job", "job": job.shown()})
        async for message in studio.events.of(folder.id, BEAT):
            yield _event(message) if message else ": still here\n\n"

    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(lines(), media_type="text/event-stream", headers=headers)


def _event(message):
    return f"data: {json.dumps(message)}\n\n"


# ---------------------------------------------------------------- the application
ROUTES = (
    ("GET", "/", index),
    ("GET", "/static/{name:path}", static),
    ("GET", "/api/about", get_about),
    ("GET", "/api/projects", list_projects),
    ("POST", "/api/projects", create_project),
    ("POST", "/api/projects/import", import_project),
    ("GET", "/api/projects/{id}", get_project),
    ("PUT", "/api/projects/{id}", put_project),
    ("DELETE", "/api/projects/{id}", delete_project),
    ("GET", "/api/projects/{id}/project.json", export_project),
    *(
        (method, f"/api/projects/{{id}}/{key}", (key, put_picture if method == "PUT" else delete_picture))
        for key in PICTURES
        for method in ("PUT", "DELETE")
    ),
    ("POST", "/api/projects/{id}/run", run),
    ("POST", "/api/projects/{id}/words", words),
    ("POST", "/api/projects/{id}/paint", paint),
    ("POST", "/api/projects/{id}/suggest", suggest),
    ("POST", "/api/projects/{id}/complete", complete),
    ("POST", "/api/projects/{id}/flow", flow),
    ("GET", "/api/projects/{id}/events", events),
    ("GET", "/api/projects/{id}/files/{name}", get_file),
    ("GET", "/api/jobs/{id}", get_job),
    ("DELETE", "/api/jobs/{id}", cancel_job),
)


def make_app(studio: Studio, host: str = "127.0.0.1") -> Starlette:
    """The application.  host: the address that it will be bound to."""

    def answering(entry):
        key, function = entry if isinstance(entry, tuple) else (None, entry)

        async def endpoint(request: Request) -> Response:
            if key:
                request.path_params["key"] = key
            try:
                return await function(studio, request)
            except Refused as refused:
                return JSONResponse({"error": refused.line} | refused.more, refused.status)
            except TaskFailed as failed:
                return JSONResponse({"error": failed.line}, failed.status)
            except (ValueError, OSError) as wrong:
                return JSONResponse({"error": " ".join(str(wrong).split())}, 400)

        return endpoint

    def told(request: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": f"{error.detail}: {request.method} {request.url.path[:80]}"}, error.status_code)

    return Starlette(
        routes=[Route(path, answering(entry), methods=[method]) for method, path, entry in ROUTES],
        exception_handlers={HTTPException: told},
        lifespan=studio.running,
        middleware=[Middleware(Guard, token=studio.token, host=host)],
    )
