"""What a service allows itself and its clients."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Limits of a service.

    Args:
        max_body (`int`): Bytes of a request; more is answered by 413.
        max_pairs (`int`): Pairs, texts or categories of a request; more is answered by 413.
        max_characters (`int`): Characters of an answer to check and of its sources; more is answered by 413.
        max_sentences (`int`): Pairs of a sentence of an answer to check and one of its sources: what a check
            costs. More is answered by 413.
        max_waiting (`int`): Requests that wait for the model; further ones are answered by 429.
        timeout (`float`): Seconds until a request that is not answered is answered by 504, and dropped.
        body_timeout (`float`): Seconds until the body of a request has to be there; else 408.
        shutdown_timeout (`int`): Seconds that requests have to be answered in when the service goes down, and
            then again those that a batch has which still runs.
        batch_size (`int`): Items that the model judges at once, of one request or of several.
        token (`str`, *optional*): What clients have to know: `Authorization: Bearer TOKEN`.
    """

    max_body: int = 10_000_000
    max_pairs: int = 10_000
    max_characters: int = 200_000
    max_sentences: int = 50_000
    max_waiting: int = 256
    timeout: float = 60.0
    body_timeout: float = 30.0
    shutdown_timeout: int = 10
    batch_size: int = 32
    token: str | None = None
