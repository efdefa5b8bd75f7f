"""A pipeline as a service: pairs, routes and checks over HTTP.

The limits of a request are stated in the schema and looked at here: what is beyond them is answered by 413,
where a schema alone would say 422.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from ..guards import REASONS
from ..sentences import split_sentences
from .guards import Guard
from .metrics import Metrics
from .queue import Closed, Job, ModelQueue, QueueFull
from .settings import Settings

if TYPE_CHECKING:
    from ..pipeline_modernbert_nli import NliAbstentionPipeline

Share = Annotated[float, Field(ge=0, le=1)]
CHARACTERS = "characters in an answer and its sources"
COMPARED = "pairs of a sentence of an answer and one of its sources"
CLIENT_LEFT = 499  # nginx's status for it: nobody reads the answer, but the log and the metrics have it


class Question(BaseModel):
    """What all requests have in common: nothing unknown is passed over, and `true` is no number."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Pair(Question):
    premise: str
    hypothesis: str


class Judge(Question):
    """Pairs, and options of the pipeline's call."""

    pairs: Annotated[list[Pair], Field(min_length=1)]
    threshold: Share | None = None
    target_risk: Share | None = None
    like: str | None = None
    encoding: str | None = None


class Route(Question):
    """Texts, and arguments of `route`."""

    texts: Annotated[list[str], Field(min_length=1)]
    categories: dict[str, str] | list[str]
    examples: dict[str, list[str]] | None = None
    hypothesis_template: str | None = None
    several: bool = False
    threshold: Share | None = None
    target_risk: Share | None = None


class Check(Question):
    """An answer and its sources, and arguments of `check`."""

    answer: str
    sources: str | list[str] | dict[str, str]
    threshold: Share | None = None
    max_characters: Annotated[int, Field(ge=1)] | None = None


class Dropped(Exception):
    """Nobody waits any more for what is computed."""


def create_app(
    pipe: "NliAbstentionPipeline", settings: Settings, about: dict[str, Any] | None = None
) -> FastAPI:
    """A service of one pipeline.

    Args:
        pipe (`NliAbstentionPipeline`): What answers.
        settings (`Settings`): Limits.
        about (`dict`, *optional*): What `/health` says of the model.
    """
    metrics = Metrics()
    queue = ModelQueue(settings.max_waiting, settings.batch_size, metrics.ran)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await queue.close(settings.shutdown_timeout)

    app = FastAPI(title="ModernBERT-NLI", description="It answers, or it abstains.", lifespan=lifespan)
    app.add_middleware(
        Guard,
        max_body=settings.max_body,
        body_timeout=settings.body_timeout,
        token=settings.token,
        noted=metrics.answered,
    )

    async def asked(
        request: Request, run: Callable[[list[Any]], Sequence[Any]], items: Sequence[Any], alike: Any
    ) -> list[Any]:
        """The results, for as long as the client waits and has time: the job is dropped then."""
        answer = asyncio.ensure_future(queue.ask(Job(run, items, alike)))
        left = asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait({answer, left}, timeout=settings.timeout, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            if left.done():
                raise HTTPException(CLIENT_LEFT, "The client has left.")
            raise HTTPException(504, f"Not answered within {settings.timeout:g} seconds.")
        except QueueFull:
            detail = f"{settings.max_waiting} requests wait already: come back later."
            raise HTTPException(429, detail, {"Retry-After": "1"}) from None
        except (Closed, asyncio.CancelledError):  # uvicorn cancels what is not answered in time
            raise HTTPException(503, "The service is going down.") from None
        except ValueError as error:  # of what was given
            raise HTTPException(422, str(error)) from None
        finally:
            answer.cancel()
            left.cancel()

    def responses(*limits: str) -> dict[int | str, dict[str, Any]]:
        """What else may be answered, for the schema."""
        return {
            408: {"description": f"The body was not there within {settings.body_timeout:g} seconds"},
            413: {"description": "; ".join((f"At most {settings.max_body:,} bytes", *limits))},
            429: {"description": f"{settings.max_waiting:,} requests wait already"},
            503: {"description": "The service is going down"},
            504: {"description": f"Not answered within {settings.timeout:g} seconds"},
        }

    @app.post(
        "/judge",
        responses=responses(f"at most {settings.max_pairs:,} pairs"),
        response_description="`results`, as of the pipeline; `reason`, where it abstains: "
        + "; ".join(REASONS),
    )
    async def judge(question: Judge, request: Request) -> dict[str, Any]:
        """Does each premise support its hypothesis, contradict it, or say nothing about it?"""
        at_most(settings.max_pairs, len(question.pairs), "pairs")
        options = question.model_dump(exclude={"pairs"}, exclude_none=True)
        pairs = [(pair.premise, pair.hypothesis) for pair in question.pairs]

        def run(items: list[tuple[str, str]]) -> list[dict[str, Any]]:
            return pipe(items, batch_size=settings.batch_size, **options)

        results = await asked(request, run, pairs, ("judge", json.dumps(options, sort_keys=True)))
        abstained = sum(result["abstain"] for result in results)
        metrics.decided(abstained, len(results) - abstained)
        return {"results": results}

    @app.post("/route", responses=responses(f"at most {settings.max_pairs:,} texts, and as many categories"))
    async def route(question: Route, request: Request) -> dict[str, Any]:
        """Which category fits each text best, or why none is chosen."""
        at_most(settings.max_pairs, len(question.texts), "texts")
        at_most(settings.max_pairs, len(question.categories), "categories")
        arguments = question.model_dump(exclude={"texts"}, exclude_none=True)

        def run(texts: list[str]) -> list[dict[str, Any]]:
            return pipe.route(texts, **arguments)

        results = await asked(request, run, question.texts, ("route", json.dumps(arguments)))
        abstained = sum(not _chosen(result) for result in results)
        metrics.decided(abstained, len(results) - abstained)
        return {"results": results}

    @app.post(
        "/check",
        responses=responses(
            f"at most {settings.max_characters:,} {CHARACTERS}",
            f"at most {settings.max_sentences:,} {COMPARED}",
        ),
    )
    async def check(question: Check, request: Request) -> dict[str, Any]:
        """Is each sentence of an answer supported by the sources?"""
        texts = [question.answer, *_texts(question.sources)]
        at_most(settings.max_characters, sum(map(len, texts)), CHARACTERS)
        counts = await asyncio.to_thread(lambda: [sum(1 for _ in split_sentences(text)) for text in texts])
        pairs = counts[0] * sum(counts[1:])
        at_most(settings.max_sentences, pairs, COMPARED)
        arguments = question.model_dump(exclude_none=True)
        dropped = threading.Event()

        def between() -> None:
            if dropped.is_set():
                raise Dropped

        def run(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return [pipe.check(**items[0], between=between)]

        try:
            (result,) = await asked(request, run, [arguments], None)
        finally:
            dropped.set()
        metrics.decided(int(result["abstain"]), int(not result["abstain"]))
        return result

    @app.head("/health", include_in_schema=False)
    @app.get("/health")
    async def health() -> dict[str, Any]:
        """That it is there, what it runs, and how many requests wait."""
        return {"status": "ok", "waiting": len(queue), **(about or {})}

    @app.get("/metrics", include_in_schema=False)
    async def prometheus() -> Response:
        return Response(metrics.text(), media_type=metrics.content_type)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        """What is wrong and where, without the texts."""
        problems = [{"where": list(of["loc"]), "problem": of["msg"]} for of in error.errors()]
        return JSONResponse({"detail": problems}, 422)

    def openapi() -> dict[str, Any]:
        """As FastAPI makes it, with the limits of this service."""
        if app.openapi_schema is None:
            schemas = FastAPI.openapi(app)["components"]["schemas"]
            _state(schemas, settings)
        return FastAPI.openapi(app)

    app.openapi = openapi  # type: ignore[method-assign]
    return app


def at_most(limit: int, count: int, what: str) -> None:
    """Answer by 413 what is beyond a limit."""
    if count > limit:
        raise HTTPException(413, f"At most {limit:,} {what}, not {count:,}.")


def _state(schemas: dict[str, Any], settings: Settings) -> None:
    """Put the limits of lists and texts into a schema."""
    schemas["Judge"]["properties"]["pairs"]["maxItems"] = settings.max_pairs
    schemas["Route"]["properties"]["texts"]["maxItems"] = settings.max_pairs
    for kind in schemas["Route"]["properties"]["categories"]["anyOf"]:
        kind["maxItems" if kind["type"] == "array" else "maxProperties"] = settings.max_pairs
    schemas["Check"]["properties"]["answer"]["maxLength"] = settings.max_characters
    schemas["Check"]["description"] += (
        f" At most {settings.max_characters:,} {CHARACTERS}, and {settings.max_sentences:,} {COMPARED}."
    )


def _texts(sources: str | list[str] | dict[str, str]) -> Iterable[str]:
    if isinstance(sources, str):
        return [sources]
    return sources.values() if isinstance(sources, dict) else sources


async def _left(request: Request) -> None:
    """Ends when the client does not wait any more: its body has been read, so that nothing else can come."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _chosen(result: dict[str, Any]) -> bool:
    return bool(result.get("categories") if "categories" in result else result["category"])
