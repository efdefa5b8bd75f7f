"""Texts to answers, as HTML: a pair, a text and its categories, an answer and a document.

Each answer is one of three: a decision, an abstention in plain words, or a sentence that says why there is
neither. `risk` is always the share of wrong answers that the reader accepts, or `None` without a calibration.
"""

import logging
from collections.abc import Callable
from functools import wraps
from html import escape
from typing import TYPE_CHECKING, Any

from ..categories import TEMPLATE
from ..guards import UNCERTAIN
from ..tokenization import PairError, max_pair_length
from . import documents
from .drawing import bars, note, problem, quote, scale
from .guarantee import limit, percent

if TYPE_CHECKING:
    from ..pipeline_modernbert_nli import NliAbstentionPipeline

MAX_CHARACTERS = 100_000  # of a field: some fifty windows of the quick start's encoder, three of ModernBERT's
MAX_CATEGORIES = 500
SHOWN = 8  # categories of a ranking that are seen without opening the rest

MEANINGS = {
    "entailment": "It follows from the premise.",
    "neutral": "The premise does not say whether it is so.",
    "contradiction": "The premise contradicts it.",
    "verbatim": "The premise says so word for word.",
}
logger = logging.getLogger(__name__)


def answered(function: Callable[..., str]) -> Callable[..., str]:
    """Let a function of this module answer with a sentence where it cannot answer otherwise."""

    @wraps(function)
    def answer(*args: Any) -> str:
        try:
            return function(*args)
        except PairError as error:
            return problem(error.reason)
        except ValueError as error:
            return problem(str(error))
        except Exception:  # the reader cannot mend it, whoever runs the page may
            logger.exception("%s failed", function.__name__)
            return problem("This could not be judged: an error that the page did not expect, now in its log.")

    return answer


@answered
def judge_pair(pipe: "NliAbstentionPipeline", premise: str, hypothesis: str, risk: float | None) -> str:
    """Label, probabilities, and the uncertainty against its limit; or that the model abstains."""
    premise, hypothesis = _text(premise, "premise"), _text(hypothesis, "hypothesis")
    threshold = _threshold(pipe, risk)
    decision = pipe(premise, hypothesis, threshold=threshold)
    label, sure = decision["label"], not decision["abstain"]
    if sure:
        verdict, meaning = label.capitalize(), MEANINGS.get(decision.get("rule", label), "")
    else:
        verdict, reason = "No answer", decision["reason"]
        why = "it is too unsure of this pair" if reason == UNCERTAIN else reason
        meaning = f"The model abstains: {why}. It leans to {label}, which is not to be relied on."
    return _answer(
        label if sure else "abstained",
        verdict,
        f"<q>{quote(hypothesis)}</q> {escape(meaning)}",
        bars(list(decision["probs"].items()), "Probabilities", strongest=label if sure else None)
        + scale(decision["uncertainty"], threshold),
        _cut_note(pipe, "premise", [premise], [hypothesis]),
    )


@answered
def choose_category(pipe: "NliAbstentionPipeline", text: str, lines: str, risk: float | None) -> str:
    """The category, or why there is none, and the ranking. `risk` is for pairs and plays no part here."""
    text, categories = _text(text, "text"), parse_categories(lines)
    route = pipe.route(text, categories)
    best = route["category"]
    if best is None:
        verdict, outcome = "No category", "abstained"
        reason = route["reason"]
        meaning = f"The model declines: {escape(reason)}. Below is how it would rank them."
    else:
        verdict, outcome = best, "entailment"
        meaning = f"<q>{quote(categories[best])}</q> fits the text best."
    return _answer(
        outcome,
        verdict,
        meaning,
        _ranking(route["ranking"], best),
        _cut_note(pipe, "text", [text], list(categories.values())),
    )


@answered
def check_answer(pipe: "NliAbstentionPipeline", answer: str, document: str, risk: float | None) -> str:
    """Each sentence of an answer with its verdict, and the document with the evidence in its place."""
    answer, document = _text(answer, "answer"), _text(document, "document")
    result = pipe.check(answer, document)
    sentences = result["sentences"]
    return _answer(
        documents.TONES[result["verdict"]],
        result["verdict"].capitalize(),
        documents.summary(sentences),
        documents.checked(answer, sentences) + documents.document(document, sentences),
        note(
            f"All {len(document):,} characters of the document were read. The guarantee below is for pairs, "
            "not for the best of many passages."
        ),
    )


def parse_categories(lines: str) -> dict[str, str]:
    """A hypothesis by category, from lines such as "delivery: This is about a delivery." or just "delivery".

    Raises:
        ValueError: there is none, too many of them, or one that is there twice or without a name.
    """
    categories: dict[str, str] = {}
    for number, line in enumerate(_checked(lines, "list of categories").splitlines(), 1):
        name, _, hypothesis = (part.strip() for part in line.partition(":"))
        if not name and not hypothesis:
            continue
        if not name:
            raise ValueError(
                f"Line {number} of the categories has no name before the colon: write “name: sentence”."
            )
        if name in categories:
            raise ValueError(
                f"The category “{name[:60]}” is there twice, again in line {number}: name each one once."
            )
        categories[name] = hypothesis or TEMPLATE.format(name)
    if not categories:
        raise ValueError(
            "There is no category yet: write one a line, such as “delivery: This is about a delivery.”"
        )
    if len(categories) > MAX_CATEGORIES:
        raise ValueError(
            f"There are {len(categories):,} categories, but this page takes up to {MAX_CATEGORIES}."
        )
    return categories


def _text(text: str, what: str) -> str:
    text = _checked(text, what).strip()
    if not text:
        raise ValueError(f"The {what} is empty: write something into it.")
    return text


def _checked(text: str | None, what: str) -> str:
    text = text or ""
    if len(text) > MAX_CHARACTERS:
        raise ValueError(
            f"The {what} has {len(text):,} characters, but this page takes up to {MAX_CHARACTERS:,}. For "
            "whole files there is predict.py."
        )
    return text


def _threshold(pipe: "NliAbstentionPipeline", risk: float | None) -> float:
    try:
        return limit(pipe, risk).threshold
    except ValueError:
        raise ValueError(
            f"Nothing is answered at a risk of {percent(risk or 0)}, which cannot be guaranteed: accept more "
            "wrong answers."
        ) from None


def _answer(outcome: str, verdict: str, meaning: str, figures: str, notes: str) -> str:
    return (
        f'<article class="answer {escape(outcome)}"><h2>{quote(verdict, 60)}</h2>'
        f'<p class="meaning">{meaning}</p>{figures}{notes}</article>'
    )


def _ranking(rows: list[tuple[str, float]], best: str | None) -> str:
    caption = "How probably each category is the one"
    shown = bars(rows[:SHOWN], caption, strongest=best)
    if rest := rows[SHOWN:]:
        more = f"{len(rest)} more, less probable"
        shown += f"<details><summary>{more}</summary>{bars(rest, caption)}</details>"
    return shown


def _cut_note(pipe: "NliAbstentionPipeline", what: str, texts: list[str], hypotheses: list[str]) -> str:
    """A note where the encoder does not read all of the texts, else nothing."""
    window = max_pair_length(pipe.model.config.encoder_config, pipe.tokenizer)

    def tokens(text: str) -> int:
        return len(pipe.tokenizer(text, split_special_tokens=True, verbose=False)["input_ids"])

    room = window
    if pipe.encoding == "joint":  # where the longest hypothesis has taken its part
        room -= max(map(tokens, hypotheses)) - 1
    cut = [count for count in map(tokens, texts) if count > room]
    if not cut:
        return ""
    if len(texts) == 1:
        told = f"The {what} has {cut[0]:,} tokens, of which the encoder reads {room:,} at once:"
    else:
        told = (
            f"{len(cut)} of {len(texts)} {what}s are longer than the {room:,} tokens that the encoder reads:"
        )
    return note(f"{told} the rest was left out. Split long texts into passages to have all of them read.")
