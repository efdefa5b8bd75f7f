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
    # Wrong, and below the limit: accept fewer wrong answers, and this one is not given.
    Example("It errs", "Nobody but Maria knew the answer.", "Maria knew the answer."),
)

_CATEGORIES = """\
refund: I want my money back.
delivery: My parcel has not arrived.
damage: Something is broken.
praise: I am happy with it."""

ROUTES = (
    Example("One fits", "The screen was cracked when I opened the box.", _CATEGORIES),
    Example("Nothing fits", "Can you play some jazz?", _CATEGORIES),
    Example("Names alone", "I want my money back.", "refund\nopening hours\ncareers"),
)

_BRIDGE = """\
The old bridge was opened in 1932. It crosses the river between the harbour and the market, and was \
painted green. Until 1961 it carried trams; since then it has been for cyclists and pedestrians alone.

Repairs began in March. The city expects them to take two years and to cost nine million euros. While \
they last, a ferry crosses the river every ten minutes. It is free of charge.

Before the bridge was built, boats were the only way across. The last of them is in the museum at the \
market. The museum is closed on Mondays."""

FACTS = (
    Example(
        "Of each kind",
        "The bridge was opened in 1932. Repairs began in June. The architect was born in Vienna.",
        _BRIDGE,
    ),
    Example("It is supported", "A ferry crosses the river every ten minutes. The ferry is free.", _BRIDGE),
    Example("It is contradicted", "Repairs began in June.", _BRIDGE),
    Example("It is not said", "The architect was born in Vienna.", _BRIDGE),
)
