"""What stands in front of the service: the size of a request, who may ask, and a line for each answer.

Pure ASGI, so that a body is refused while it comes in, before anything has read it.
"""

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN_TO_ALL = ("/health",)  # of who may ask: a load balancer knows no token

log = logging.getLogger("modernbert_nli.serve")


class Guard:
    """Refuses by 401, 408 and 413; notes method, path, status and seconds of everything, and never a text.

    Args:
        app (`ASGIApp`): What is guarded.
        max_body (`int`): Bytes.
        body_timeout (`float`): Seconds until a body has to be there.
        token (`str`, *optional*): What clients have to know.
        noted (`Callable`, *optional*): Told path, status and seconds of each answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_body: int,
        body_timeout: float,
        token: str | None,
        noted: Callable[[str, int, float], None] = lambda *_: None,
    ):
        self.app, self.token, self.noted = app, token, noted
        self.max_body, self.body_timeout = max_body, body_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, told = time.perf_counter(), 500, False

        def tell() -> None:
            nonlocal told
            if not told:
                told, seconds = True, time.perf_counter() - start
                self.noted(scope["path"], status, seconds)
                line = {"method": scope["method"], "path": scope["path"], "status": status}
                log.info(json.dumps({**line, "seconds": round(seconds, 4)}))

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif not message.get("more_body", False):
                tell()  # before the end goes out: who has an answer finds it counted
            await send(message)

        try:
            refusal = self._refusal(scope)
            if refusal is None:
                await self.app(scope, self._counted(receive), noting)
            else:
                await refusal(scope, receive, noting)
        finally:
            tell()

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        if self.token and scope["path"] not in OPEN_TO_ALL:
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, f"Bearer {self.token}".encode()):
                detail = "This service asks for `Authorization: Bearer TOKEN`."
                return JSONResponse({"detail": detail}, 401, {"WWW-Authenticate": "Bearer"})
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.max_body:
            return JSONResponse({"detail": self._too_large}, 413)
        return None

    @property
    def _too_large(self) -> str:
        return f"A request has at most {self.max_body:,} bytes."

    def _counted(self, receive: Receive) -> Receive:
        """A body of unknown length, up to where it is too long or too late."""
        received, complete = 0, False
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.body_timeout
        close = {"Connection": "close"}  # what still comes of such a body is read by nobody

        async def counted() -> Message:
            nonlocal received, complete
            if complete:  # what comes now is that the client leaves, at any time
                return await receive()
            try:
                message: Any = await asyncio.wait_for(receive(), deadline - clock())
            except (TimeoutError, asyncio.TimeoutError):
                late = f"The body of a request has to be there within {self.body_timeout:g} seconds."
                raise HTTPException(408, late, close) from None
            complete = not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > self.max_body:
                raise HTTPException(413, self._too_large, close)
            return message

        return counted
