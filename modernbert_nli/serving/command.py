"""Serve a checkpoint over HTTP: pairs, routes and checks.

    python serve.py
    python serve.py --model CHECKPOINT --base BASE --host 0.0.0.0 --port 8000

    curl -s localhost:8000/judge -H 'Content-Type: application/json' \\
        -d '{"pairs": [{"premise": "A man plays guitar on stage.", "hypothesis": "A man makes music."}]}'

`POST /judge`, `/route` and `/check` take JSON; `GET /health`, `/metrics` (Prometheus) and `/docs` (OpenAPI)
tell about the service. Requests that wait together are judged together. What is too large is answered by 413,
what comes on top of a full queue by 429, what takes too long by 504. With the variable MODERNBERT_NLI_TOKEN
set, clients need `Authorization: Bearer TOKEN`. Each answer is a line of JSON in the log, without the texts.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any

from ..options import add_options, check_options, parser_of, pipeline_of, program, run

try:
    import fastapi  # noqa: F401
    import prometheus_client  # noqa: F401
    import uvicorn
except ModuleNotFoundError as error:
    sys.exit(f'{program("serve.py")}: error: {error.name} is not installed. Run `pip install ".[serve]"`.')

from .service import create_app
from .settings import Settings

if TYPE_CHECKING:
    from ..pipeline_modernbert_nli import NliAbstentionPipeline

COMMAND = "serve.py"
TOKEN = "MODERNBERT_NLI_TOKEN"
LIMITS = {
    "max_body": "bytes of a request",
    "max_pairs": "pairs, texts or categories of a request",
    "max_characters": "characters of an answer to check and of its sources",
    "max_sentences": "pairs of a sentence of an answer to check and one of its sources",
    "max_waiting": "requests that wait",
    "timeout": "seconds until a request that is not answered is dropped",
    "body_timeout": "seconds until the body of a request has to be there",
    "shutdown_timeout": "seconds to answer what has been asked when the service goes down",
    "batch_size": "items that are judged at once",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Load, then serve until interrupted."""
    args = parse_args(argv)
    return run(COMMAND, partial(serve, args))


def serve(args: argparse.Namespace) -> None:
    """Load the pipeline that options name, and answer requests to it until interrupted."""
    pipe = pipeline_of(args)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    limits = {name: getattr(args, name) for name in LIMITS}
    settings = Settings(token=os.environ.get(TOKEN) or None, **limits)
    # Of its own log only what is wrong: a line for each answer is ours, and texts are in none.
    uvicorn.run(
        create_app(pipe, settings, about(pipe)),
        host=args.host,
        port=args.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=settings.shutdown_timeout,
    )


def about(pipe: "NliAbstentionPipeline") -> dict[str, Any]:
    """What `/health` says of the model."""
    config = pipe.model.config
    return {
        "base": config.base_model_name_or_path,
        "revision": config.base_model_revision,
        "encoding": config.encoding,
        "threshold": config.abstention_threshold,
    }


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    usage = "python serve.py [--model CHECKPOINT] [--host ADDRESS] [--port PORT] [option ...]"
    parser = parser_of(COMMAND, usage, __doc__)
    add = parser.add_argument_group("what is served, and where").add_argument
    add_options(add, "model", "base", "revision", "device")
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=8000, help="default: %(default)s")
    add = parser.add_argument_group("limits").add_argument
    defaults = {field.name: field for field in fields(Settings)}
    for name, what in LIMITS.items():
        default: Any = defaults[name].default
        add(f"--{name}", type=type(default), default=default, help=f"{what} (default: {default:,})")
    args = parser.parse_args(argv)
    check_options(parser, args)
    for name in LIMITS:
        if getattr(args, name) <= 0:
            parser.error(f"--{name} must be above 0")
    return args
