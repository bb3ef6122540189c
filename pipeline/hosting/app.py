"""The HTTP interface: OpenAI's paths, and what each of them does."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Form, Query, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import FileResponse, StreamingResponse

from pipeline.hosting.accounts import Account
from pipeline.hosting.documents import Document, new_id
from pipeline.hosting.errors import ApiError, invalid
from pipeline.hosting.refusals import Guarded, handle_refusals
from pipeline.hosting.service import Service
from pipeline.hosting.wire import Chat, NewJob
from pipeline.hosting.writing import End

log = logging.getLogger(__name__)

_METADATA = "metadata["


def make_app(service: Service) -> FastAPI:
    """Return the application of a service that has started."""
    app = FastAPI(title="tunewright serve-tuning", redirect_slashes=False)
    app.state.service = service
    app.include_router(v1)
    if not service.has_keys:  # any will do, so no page of another site may ask by its own name
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])
    app.add_middleware(Guarded, accounts=service.accounts, limits=service.limits)
    handle_refusals(app)
    return app


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _account(request: Request) -> Account:
    account: Account = request.state.account  # whose key let the request in
    return account


Serving = Annotated[Service, Depends(_service)]
Owner = Annotated[Account, Depends(_account)]
Limit = Annotated[int, Query(ge=1, le=100)]
FileLimit = Annotated[int, Query(ge=1, le=10_000)]

v1 = APIRouter(prefix="/v1")


@v1.post("/files")
async def upload(
    request: Request, account: Owner, purpose: Annotated[str, Form()], file: UploadFile
) -> Document:
    """Keep a file."""
    if unknown := sorted((await request.form()).keys() - {"purpose", "file"}):
        raise invalid(f"Unknown parameter: '{unknown[0]}'.", unknown[0], "unknown_parameter")
    return await run_in_threadpool(account.files.add, file.filename or "upload", purpose, file.file)


@v1.get("/files")
def list_files(
    account: Owner,
    after: str | None = None,
    limit: FileLimit = 10_000,
    order: Literal["asc", "desc"] = "desc",
    purpose: str | None = None,
) -> Document:
    """List the files."""
    return account.files.page(after, limit, order, purpose)


@v1.get("/files/{file_id}")
def get_file(account: Owner, file_id: str) -> Document:
    """Say what a file is."""
    return account.files.get(file_id)


@v1.get("/files/{file_id}/content")
def get_content(account: Owner, file_id: str) -> FileResponse:
    """Send a file back."""
    return FileResponse(account.files.content(file_id), media_type="application/octet-stream")


@v1.delete("/files/{file_id}")
def delete_file(account: Owner, file_id: str) -> Document:
    """Delete a file."""
    return account.files.delete(file_id)


@v1.post("/fine_tuning/jobs")
def create_job(service: Serving, account: Owner, asked: NewJob) -> Document:
    """Take a job."""
    return service.create_job(account, asked)


@v1.get("/fine_tuning/jobs")
def list_jobs(
    request: Request, account: Owner, after: str | None = None, limit: Limit = 20
) -> Document:
    """List the jobs, those with some metadata alone where they are given."""
    sent = request.query_params.items()
    metadata = {k[len(_METADATA) : -1]: v for k, v in sent if k.startswith(_METADATA)}
    return account.jobs.page(after, limit, metadata)


@v1.get("/fine_tuning/jobs/{job_id}")
def get_job(account: Owner, job_id: str) -> Document:
    """Say how a job goes."""
    return account.jobs.get(job_id)


@v1.post("/fine_tuning/jobs/{job_id}/cancel")
def cancel_job(service: Serving, account: Owner, job_id: str) -> Document:
    """End a job."""
    return service.cancel(account, job_id)


@v1.post("/fine_tuning/jobs/{job_id}/pause")
def pause_job(service: Serving, account: Owner, job_id: str) -> Document:
    """Have a job wait."""
    return service.pause(account, job_id)


@v1.post("/fine_tuning/jobs/{job_id}/resume")
def resume_job(service: Serving, account: Owner, job_id: str) -> Document:
    """Go on with a paused job."""
    return service.resume(account, job_id)


@v1.get("/fine_tuning/jobs/{job_id}/events")
def list_events(
    account: Owner, job_id: str, after: str | None = None, limit: Limit = 20
) -> Document:
    """List a job's events, the newest first."""
    return account.jobs.events(job_id, after, limit)


@v1.get("/fine_tuning/jobs/{job_id}/checkpoints")
def list_checkpoints(
    account: Owner, job_id: str, after: str | None = None, limit: Limit = 10
) -> Document:
    """List a job's checkpoints: the best evaluation's is kept."""
    return account.jobs.checkpoints(job_id, after, limit)


@v1.get("/models")
def list_models(service: Serving, account: Owner) -> Document:
    """List the models."""
    return {"object": "list", "data": service.list_models(account)}


@v1.get("/models/{name:path}")
def get_model(service: Serving, account: Owner, name: str) -> Document:
    """Say what a model is."""
    return service.get_model(account, name)


@v1.delete("/models/{name:path}")
def delete_model(service: Serving, account: Owner, name: str) -> Document:
    """Delete a tuned model."""
    return service.delete_model(account, name)


@v1.post("/chat/completions", response_model=None)
def chat(service: Serving, account: Owner, asked: Chat) -> Document | StreamingResponse:
    """Reply to a conversation by a tuned model."""
    pieces = service.models.reply(account.jobs.model(asked.model)[1], asked)
    about: Document = {
        "id": new_id("chatcmpl"),
        "created": int(time.time()),
        "model": asked.model,
    }
    if asked.stream:
        first = next(pieces)  # what is refused is so before the stream begins
        events = _events(about, chain([first], pieces), asked)
        return StreamingResponse(events, media_type="text/event-stream")
    *texts, end = pieces
    assert isinstance(end, End)
    message = {"role": "assistant", "content": "".join(map(str, texts)), "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": end.reason}
    return {**about, "object": "chat.completion", "choices": [choice], "usage": end.usage}


def _events(about: Document, pieces: Iterator[str | End], asked: Chat) -> Iterator[str]:
    """Yield a reply as server-sent events."""
    with_usage = bool(asked.stream_options and asked.stream_options.include_usage)

    def event(delta: dict[str, Any], reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return sent({"choices": [choice], **({"usage": None} if with_usage else {})})

    def sent(part: Document) -> str:
        return f"data: {json.dumps({**about, 'object': 'chat.completion.chunk', **part})}\n\n"

    yield event({"role": "assistant", "content": ""})
    try:
        for piece in pieces:
            if isinstance(piece, str):
                yield event({"content": piece})
                continue
            yield event({}, piece.reason)
            if with_usage:
                yield sent({"choices": [], "usage": piece.usage})
    except Exception as error:  # the status is sent already
        log.error("%s", about["id"], exc_info=error)
        fault = ApiError(500, f"The reply broke off; the server's log has it as {about['id']}.")
        yield f"data: {json.dumps(fault.body)}\n\n"
    yield "data: [DONE]\n\n"
