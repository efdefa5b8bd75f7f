"""The categories of a route: names, the hypotheses that stand for them, and examples."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch

from .tokenization import PairError, items_of, plain

TEMPLATE = "This is about {}."
NOTHING = -1  # the answer where no category fits
NO_CATEGORY = ("", "none", "oos")  # labels that mean that none fits


class Categories(NamedTuple):
    """What is known of each category."""

    names: tuple[Any, ...]
    hypotheses: tuple[str, ...]
    examples: tuple[tuple[str, ...], ...]

    def digest(self) -> str:
        """SHA-256 of all of it, whatever the order of the categories."""
        rows = sorted(json.dumps(row, default=str) for row in zip(*self, strict=True))
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()

    def words(self) -> set[str]:
        """Their own, by `words_of`."""
        return words_of(" ".join([*map(str, self.names), *self.hypotheses, *chain(*self.examples)]))


def as_categories(
    categories: Any, template: str = TEMPLATE, examples: Mapping[str, Sequence[str]] | None = None
) -> Categories:
    """Names with a template, or a mapping to hypotheses, and example texts of some of them.

    Raises:
        ValueError: there is no category, one is there twice or has no name, a template without a place for
            the name, or examples of something else.
    """
    names: tuple[Any, ...] = ()
    hypotheses: tuple[str, ...] = ()
    if isinstance(categories, Mapping):
        names, hypotheses = tuple(map(plain, categories)), tuple(categories.values())
        if wrong := [name for name in names if not isinstance(name, str | int | float)]:
            raise ValueError(f"The name of a category is a string or a number, got {shortened(wrong[0])}.")
    elif categories is not None and not isinstance(categories, str):
        names = tuple(items_of(categories, "`categories` as a mapping to hypotheses, or a list of names"))
        if wrong := [name for name in names if not isinstance(name, str) or not name.strip()]:
            raise ValueError(f"The name of a category is a string that is not empty, got {wrong[0]!r}.")
        if not isinstance(template, str) or "{}" not in template:
            raise ValueError(f"`hypothesis_template` needs a place for the name, {{}}, got {template!r}.")
        hypotheses = tuple(template.replace("{}", str(name)) for name in names)
    if not names:
        raise ValueError(
            "`categories` maps each category to its hypothesis, e.g. {'refund': 'This asks for …'}, or names "
            "them, e.g. ['billing', 'shipping']."
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"The category {twice!r} is there twice: name each one once.")
    examples = {} if examples is None else examples
    if not isinstance(examples, Mapping) or not set(examples) <= set(names):
        raise ValueError(f"`examples` maps categories to lists of texts, got {shortened(examples)}.")
    shown = {}
    for name, texts in examples.items():
        if isinstance(texts, str):
            raise ValueError(f"The examples of {name!r} are a list of texts, got {shortened(texts)}.")
        shown[name] = tuple(items_of(texts, f"the examples of {name!r} as a list of texts"))
    return Categories(names, hypotheses, tuple(shown.get(name, ()) for name in names))


def answers_of(labels: Sequence[Any], categories: Categories) -> list[int]:
    """The number of each text's category, or `NOTHING`.

    Args:
        labels (`Sequence`): Names of categories, or scalars of NumPy and the like; where none fits, `None` or
            one of `NO_CATEGORY`, if no category is called so.

    Raises:
        PairError: a label that is none of these, such as a name with a slip; its position is named.
    """
    places = dict.fromkeys([None, *NO_CATEGORY], NOTHING)
    places |= {name: number for number, name in enumerate(categories.names)}
    answers = []
    for row, label in enumerate(map(plain, labels)):
        if not isinstance(label, str | int | float | None) or label not in places:
            raise PairError(
                row,
                f"the label {shortened(label)} is none of the categories {shortened(categories.names)}. "
                f"Where none fits, it is null, or {' or '.join(map(repr, NO_CATEGORY[1:]))}.",
            )
        answers.append(places[label])
    return answers


def readable(name: str) -> str:
    """The name of a category as words: `refund_request` and `RefundRequest` are "refund request"."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return re.sub(r"[\W_]+", " ", apart).strip().lower() or name


def words_of(text: str) -> set[str]:
    """The words of a text that have three letters or more, in lower case."""
    return set(re.findall(r"[^\W\d_]{3,}", text.lower()))


def describe(hypotheses: torch.Tensor, names: torch.Tensor, examples: Sequence[torch.Tensor]) -> torch.Tensor:
    """One vector for each category, of length 1, from those of its texts: (categories, size).

    A name counts as much as names tell their hypotheses here: words do, identifiers such as "A17" do not.

    Args:
        hypotheses, names (`torch.Tensor` of shape `(categories, size)`): Of length 1 each.
        examples (`Sequence[torch.Tensor]`): By category, `(examples, size)`.
    """
    count = len(names)
    matched = (names @ hypotheses.T).argmax(dim=1) == torch.arange(count, device=names.device)
    chance = 1 / count
    agreement = 0.0 if count == 1 else max(0.0, (matched.float().mean().item() - chance) / (1 - chance))
    vectors = hypotheses + agreement * names
    shown = [given.sum(dim=0) if len(given) else torch.zeros_like(vectors[0]) for given in examples]
    return torch.nn.functional.normalize(vectors + torch.stack(shown), dim=-1)


def shortened(value: Any) -> str:
    """Of a value that is wrong, as much as a message shows."""
    return repr(value)[:60]
