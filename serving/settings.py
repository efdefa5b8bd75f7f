"""What a service allows itself and its clients."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Limits of a service.

    Args:
        max_body (`int`): Bytes of a request; more is answered by 413.
        max_pairs (`int`): Pairs, texts or categories of a request; more is answered by 413.
        max_waiting (`int`): Requests that wait for the model; further ones are answered by 429.
        timeout (`float`): Seconds until a request that still waits is answered by 504.
        batch_size (`int`): Pairs that the model judges at once, of one request or of several.
        token (`str`, *optional*): What clients have to know: `Authorization: Bearer TOKEN`.
    """

    max_body: int = 10_000_000
    max_pairs: int = 10_000
    max_waiting: int = 256
    timeout: float = 60.0
    batch_size: int = 32
    token: str | None = None
