"""Who did what to whom: pairs whose texts share their words, and differ in what the order of words says.

Heads on a frozen encoder take a high overlap for entailment (McCoy et al. 2019, arXiv:1902.01007). Examples
in which roles are exchanged mend that (Min et al. 2020, arXiv:2004.11999). These are made from a few nouns
and verbs, entailed as often as not within each construction, so that neither words nor construction tell the
label. No pair of HANS is used, which tests some of the same constructions with other words.
"""

import json
import random
from collections.abc import Callable, Iterator

PEOPLE = (
    *("man", "woman", "boy", "girl", "nurse", "farmer", "singer", "driver", "teacher", "painter", "cook"),
    *("sailor", "neighbor", "dancer", "guard", "clerk", "tailor", "officer", "player", "coach", "uncle"),
    *("soldier", "guest", "waiter", "child", "friend", "runner", "photographer", "plumber", "pilot"),
)
# Past tense, which is the participle too, so that a passive says the same with the same words.
TO_SOMEBODY = (
    *("pushed", "called", "followed", "helped", "hugged", "chased", "painted", "taught", "paid", "visited"),
    *("watched", "carried", "photographed", "greeted", "hired", "kicked", "warned", "found", "met", "heard"),
    *("tickled", "trained", "passed", "invited", "interviewed", "examined", "caught", "blamed", "praised"),
)
ALONE = (
    *("laughed", "slept", "sang", "cried", "fell", "waved", "jumped", "sat down", "smiled", "left", "cooked"),
    *("swam", "walked home", "stood up", "worked", "drank tea", "read a book", "rode a bike", "coughed"),
)
BESIDE = ("beside", "in front of", "with", "opposite", "close to", "across from")
WHEN = ("In the park", "At noon", "On the street", "After lunch", "In the evening", "At the market")
SAID_ONLY = ("hoped that", "claimed that", "imagined that", "feared that", "guessed that", "dreamt that")
SAID_TRULY = ("noticed that", "remembered that", "was glad that", "found out that", "was sorry that")

Pair = tuple[str, str, bool]  # premise, hypothesis, whether it is entailed


def pairs(count: int, seed: int = 0) -> list[Pair]:
    """Pairs of all constructions, equally often, none twice."""
    draw = random.Random(seed)
    found: dict[Pair, None] = {}
    while len(found) < count:
        for construction in CONSTRUCTIONS:
            found |= dict.fromkeys(construction(draw))
    return [(_sentence(premise), _sentence(hypothesis), entailed) for premise, hypothesis, entailed in found][
        :count
    ]


def lines(count: int, seed: int = 0) -> str:
    """Pairs as JSON lines of a two-way set."""
    rows = (
        {
            "premise": premise,
            "hypothesis": hypothesis,
            "label": "entailment" if entailed else "non-entailment",
        }
        for premise, hypothesis, entailed in pairs(count, seed)
    )
    return "".join(json.dumps(row) + "\n" for row in rows)


def _active(draw: random.Random) -> Iterator[Pair]:
    a, b = _people(draw, 2)
    verb, when = draw.choice(TO_SOMEBODY), draw.choice(WHEN)
    yield f"{when}, {a} {verb} {b}", f"{a} {verb} {b}", True
    yield f"{when}, {a} {verb} {b}", f"{b} {verb} {a}", False


def _passive(draw: random.Random) -> Iterator[Pair]:
    a, b = _people(draw, 2)
    verb = draw.choice(TO_SOMEBODY)
    yield f"{a} {verb} {b}", f"{b} was {verb} by {a}", True
    yield f"{a} {verb} {b}", f"{a} was {verb} by {b}", False
    yield f"{a} was {verb} by {b}", f"{b} {verb} {a}", True
    yield f"{a} was {verb} by {b}", f"{a} {verb} {b}", False


def _beside(draw: random.Random) -> Iterator[Pair]:
    a, b = _people(draw, 2)
    verb, place = draw.choice(ALONE), draw.choice(BESIDE)
    yield f"{a} {place} {b} {verb}", f"{a} {verb}", True
    yield f"{a} {place} {b} {verb}", f"{b} {verb}", False


def _both(draw: random.Random) -> Iterator[Pair]:
    a, b, c = _people(draw, 3)
    verb, alone = draw.choice(TO_SOMEBODY), draw.choice(ALONE)
    yield f"{a} and {b} {alone}", f"{b} {alone}", True
    yield f"{a} and {b} {verb} {c}", f"{a} {verb} {c}", True
    yield f"{a} and {b} {verb} {c}", f"{a} {verb} {b}", False
    yield f"{a} {verb} {b}, and {c} {alone}", f"{b} {alone}", False


def _relative(draw: random.Random) -> Iterator[Pair]:
    a, b = _people(draw, 2)
    verb, alone = draw.choice(TO_SOMEBODY), draw.choice(ALONE)
    yield f"{a} who {verb} {b} {alone}", f"{a} {alone}", True
    yield f"{a} who {verb} {b} {alone}", f"{b} {alone}", False
    yield f"{a} whom {b} {verb} {alone}", f"{b} {verb} {a}", True
    yield f"{a} whom {b} {verb} {alone}", f"{a} {verb} {b}", False


def _reported(draw: random.Random) -> Iterator[Pair]:
    a, b = _people(draw, 2)
    alone = draw.choice(ALONE)
    yield f"{a} {draw.choice(SAID_TRULY)} {b} {alone}", f"{b} {alone}", True
    yield f"{a} {draw.choice(SAID_ONLY)} {b} {alone}", f"{b} {alone}", False


def _conditional(draw: random.Random) -> Iterator[Pair]:
    a, b = _people(draw, 2)
    first, second = draw.sample(ALONE, 2)
    yield f"since {a} {first}, {b} {second}", f"{a} {first}", True
    yield f"in case {a} {first}, {b} {second}", f"{a} {first}", False
    yield f"{b} {second} while {a} {first}", f"{a} {first}", True
    yield f"either {b} {second} or {a} {first}", f"{a} {first}", False


CONSTRUCTIONS: tuple[Callable[[random.Random], Iterator[Pair]], ...] = (
    *(_active, _passive, _beside, _both, _relative, _reported, _conditional),
)


def _people(draw: random.Random, count: int) -> list[str]:
    return [f"the {person}" for person in draw.sample(PEOPLE, count)]


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."
