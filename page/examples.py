"""What the page begins with, and what its buttons fill in: each outcome once, an abstention included.

That the checkpoint in this repository answers so, the tests say.
"""

from typing import NamedTuple


class Example(NamedTuple):
    """The name on the button, and what goes into the two fields of its tab."""

    name: str
    first: str
    second: str


PAIRS = (
    Example("It follows", "A man is playing guitar on stage.", "A person is making music."),
    Example("It is contradicted", "The museum is closed on Mondays.", "The museum is open on Mondays."),
    Example("It is not said", "Two girls are sitting on a bench in the park.", "The girls are sisters."),
    Example("It abstains", "The company denied that the factory would close.", "The factory will close."),
    # Wrong, and hardly below the limit: accept fewer wrong answers, and this one is not given.
    Example("It errs", "Few of the guests stayed for dinner.", "Most of the guests left before dinner."),
)

_CATEGORIES = """\
refund: I want my money back.
delivery: My parcel has not arrived.
damage: Something is broken.
praise: I am happy with it."""

ROUTES = (
    Example("One fits", "The screen was cracked when I opened the box.", _CATEGORIES),
    Example("None follows", "I ordered two lamps on Monday.", _CATEGORIES),
    Example("All abstain", "Can I change my order?", _CATEGORIES),
)

FACTS = (
    Example(
        "Sources disagree",
        "The museum is open on Mondays.",
        "On Mondays the museum opens at ten.\n\n"
        "The museum is closed on Mondays.\n\n"
        "The museum shows paintings of the nineteenth century.\n\n"
        "Many people visited the museum on Monday.",
    ),
    Example(
        "It is supported",
        "The children are playing outside.",
        "Boys and girls play football in the park.\n\nThe playground is behind the school.",
    ),
    Example(
        "It is contradicted",
        "The bridge was never used.",
        "Cars cross the bridge all day.\n\nThe bridge is for trains alone; no car may use it.",
    ),
    Example(
        "All abstain",
        "The bridge was built before 1950.",
        "The bridge opened in 1932.\n\nWork on the bridge began in 1961.",
    ),
)
