"""A pipeline as a service: pairs, routes and checks over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from serving.guards import Guard
from serving.metrics import Metrics
from serving.queue import Closed, Job, ModelQueue, QueueFull
from serving.settings import Settings

Share = Annotated[float, Field(ge=0, le=1)]


class Question(BaseModel):
    """What all requests have in common: nothing that is not known is passed over."""

    model_config = ConfigDict(extra="forbid")


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


def create_app(pipe: Any, settings: Settings, about: dict[str, Any] | None = None) -> FastAPI:
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
        await queue.close()

    app = FastAPI(title="ModernBERT-NLI", description="It answers, or it abstains.", lifespan=lifespan)
    app.add_middleware(
        Guard,
        max_body=settings.max_body,
        token=settings.token,
        noted=metrics.answered,
    )

    async def asked(run: Callable[[list[Any]], Sequence[Any]], items: Sequence[Any], alike: Any) -> list[Any]:
        if len(items) > settings.max_pairs:
            raise HTTPException(
                413, f"A request has at most {settings.max_pairs:,} items, not {len(items):,}."
            )
        try:
            return await asyncio.wait_for(queue.ask(Job(run, items, alike)), settings.timeout)
        except QueueFull:
            detail = f"{settings.max_waiting} requests wait already: come back later."
            raise HTTPException(429, detail, {"Retry-After": "1"}) from None
        except Closed:
            raise HTTPException(503, "The service is going down.") from None
        except (TimeoutError, asyncio.TimeoutError):
            raise HTTPException(504, f"Not answered within {settings.timeout:g} seconds.") from None
        except ValueError as error:  # of what was given
            raise HTTPException(422, str(error)) from None

    @app.post("/judge")
    async def judge(question: Judge) -> dict[str, Any]:
        """Does each premise support its hypothesis, contradict it, or say nothing about it?"""
        options = question.model_dump(exclude={"pairs"}, exclude_none=True)
        pairs = [(pair.premise, pair.hypothesis) for pair in question.pairs]

        def run(items: list[tuple[str, str]]) -> list[dict[str, Any]]:
            return pipe(items, batch_size=settings.batch_size, **options)

        results = await asked(run, pairs, ("judge", json.dumps(options, sort_keys=True)))
        abstained = sum(result["abstain"] for result in results)
        metrics.decided(abstained, len(results) - abstained)
        return {"results": results}

    @app.post("/route")
    async def route(question: Route) -> dict[str, Any]:
        """Which category fits each text best, or why none is chosen."""
        arguments = question.model_dump(exclude={"texts"}, exclude_none=True)
        if len(question.categories) > settings.max_pairs:
            raise HTTPException(413, f"At most {settings.max_pairs:,} categories.")

        def run(texts: list[str]) -> list[dict[str, Any]]:
            return pipe.route(texts, **arguments)

        results = await asked(run, question.texts, ("route", json.dumps(arguments)))
        abstained = sum(not _chosen(result) for result in results)
        metrics.decided(abstained, len(results) - abstained)
        return {"results": results}

    @app.post("/check")
    async def check(question: Check) -> dict[str, Any]:
        """Is each sentence of an answer supported by the sources?"""
        arguments = question.model_dump(exclude_none=True)
        (result,) = await asked(lambda items: [pipe.check(**items[0])], [arguments], None)
        metrics.decided(int(result["abstain"]), int(not result["abstain"]))
        return result

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

    return app


def _chosen(result: dict[str, Any]) -> bool:
    return bool(result.get("categories") if "categories" in result else result["category"])
