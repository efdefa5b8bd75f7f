"""What is encoded once and judged often: routes, checks, states that are kept."""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import psutil
import torch
from transformers import pipeline

from modernbert_nli.documents import rules_of
from modernbert_nli.separate import judge_every, known_texts, prepare
from modernbert_nli.training.on_states import judge_states

from ..setup import BATCH_SIZE, Setup, in_batches
from ..timing import Row, beside, compared

TOPICS = (
    *("sport", "music", "food", "travel", "work", "school", "weather", "money", "health", "animals"),
    *("children", "politics", "science", "art", "war", "water", "clothes", "games", "family", "transport"),
)
TEMPLATE = "This text is about {}."
COUNTS = (20, 40, 80, 400)  # sentences that are checked against as many


@torch.no_grad()
def reuse(setup: Setup) -> list[Row]:
    """Routes and a check beside judging each pair, and kept states beside encoding again."""
    nli = setup.pipeline()
    model = nli.model
    texts = list(dict.fromkeys(premise for premise, _ in setup.pairs))[:200]
    claim = model.encode([setup.pairs[0][1]])
    stored = model.encode(texts[:16])
    projected = model.project_states(stored)
    prepared = prepare(
        model, known_texts(model, projected)
    )  # for all claims to come, as routes know their categories
    inputs = []
    for batch in in_batches(nli.tokenizer, setup.pairs):
        segments = {"joint": model.segments(batch["input_ids"], batch["attention_mask"])}
        states = {"joint": model.encoder_states(batch, "joint")}
        inputs.append((batch, (states, segments)))

    def again() -> Any:
        return model.encode(texts[:16])

    def heads() -> None:
        for _, of in inputs:
            judge_states(model, *of)

    def encoder() -> None:
        for batch, _ in inputs:
            model(batch["input_ids"], batch["attention_mask"], mode="late_interaction")

    ways = {
        "16 stored passages and a claim": lambda: model.classify(stored, claim),
        "16 projected passages and a claim": lambda: model.classify(projected, claim),
        "16 prepared passages and a claim": lambda: judge_every(
            model, prepared, prepare(model, known_texts(model, claim))
        ),
    }
    count = setup.repetitions
    return [
        *_routes(setup, nli, texts),
        *(
            beside(f"{name}: encoding again / judging states", way, again, count)
            for name, way in ways.items()
        ),
        beside(
            "joint pairs: encoder / heads",
            lambda: [judge_states(model, *of) for _, of in inputs],
            encoder,
            count,
        ),
        *_documents(setup, nli),
    ]


def _routes(setup: Setup, nli: Any, texts: list[str]) -> list[Row]:
    """Texts to 20 categories beside zero-shot classification; one text to known ones beside a plain pass."""
    classifier, tokenizer = setup.classifier()
    zero_shot = pipeline(
        "zero-shot-classification", model=classifier, tokenizer=tokenizer, device=setup.device
    )

    def routed() -> None:
        nli.texts.clear()
        nli.route(texts, {topic: TEMPLATE.format(topic) for topic in TOPICS})

    def at_once(batch_size: int) -> Any:
        return lambda: zero_shot(texts, TOPICS, hypothesis_template=TEMPLATE, batch_size=batch_size)

    what, count = f"{len(texts)} texts, 20 categories", setup.repetitions
    rows = [
        beside(f"{what}: zero-shot pipeline, batch {size} / route", routed, at_once(size), count)
        for size in (1, BATCH_SIZE)
    ]
    rows.append(
        beside(f"{what}: encoding the texts once / route", routed, lambda: nli.model.encode(texts), count)
    )
    many = [f"{topic}, part {part}" for part in range(50) for topic in TOPICS]
    return rows + [_route(setup, nli, texts, names) for names in (TOPICS, many)]


def _route(setup: Setup, nli: Any, texts: list[str], names: Sequence[str]) -> Row:
    """Medians over texts that were never seen, in turn: tokenizer and encoder alone, and `route`."""
    nli.texts.clear()
    nli.route(texts[0], names)
    programs = {
        "route": lambda text: nli.route(text, names),
        "plain": lambda text: nli.model.encoder(**nli.tokenizer(text, return_tensors="pt")),
    }
    medians: dict[str, list[float]] = {name: [] for name in programs}
    for start in range(1, setup.repetitions + 1):
        seconds: dict[str, list[float]] = {name: [] for name in programs}
        for text in texts[start :: setup.repetitions]:
            for name, program in programs.items():
                begin = time.perf_counter()
                program(text)
                seconds[name].append(time.perf_counter() - begin)
        for name, times in seconds.items():
            medians[name].append(statistics.median(times))
    what = f"one text, {len(names):,} known categories: a plain pass over it / route"
    return compared(what, medians["route"], medians["plain"])


def _documents(setup: Setup, nli: Any) -> list[Row]:
    """A check beside a cross-encoder's pass for every sentence of an answer with every passage.

    The cross-encoder runs on a share of the pairs, sorted by length, and its seconds count so many times.
    """
    share = 8 if setup.geometry == "minilm" else 256
    document, answer = (
        list(dict.fromkeys(text.strip().rstrip(".") + "." for text in column))[:most]
        for column, most in zip(zip(*setup.pairs, strict=True), (200, 10), strict=True)
    )
    sizes = rules_of(nli.model.config, separate=True)["sizes"]
    passages = [" ".join(document[at : at + n]) for n in sizes for at in range(len(document) - n + 1)]
    pairs = sorted(((p, a) for p in passages for a in answer), key=lambda pair: len(pair[0]) + len(pair[1]))
    classifier, tokenizer = setup.classifier()
    text, said = "\n\n".join(document), "\n\n".join(answer)
    kept = nli.read(text)

    def cross_encoder() -> None:
        for batch in in_batches(tokenizer, pairs[::share]):
            classifier(**batch)

    def check(source: Any) -> Any:
        def run() -> None:
            nli.texts.clear()
            nli.check(said, source)

        return run

    rows = []
    for name, source in (("check", text), ("check of a kept document", kept)):
        what = (
            f"{len(answer)} sentences against {len(document)}: cross-encoder on {len(pairs):,} pairs / {name}"
        )
        row = beside(what, check(source), cross_encoder, min(setup.repetitions, 5))
        row["the other"] *= share
        row["ratio"] = {key: share * value for key, value in row["ratio"].items()}
        rows.append(row)
    return rows


def check(setup: Setup) -> list[Row]:
    """Sentences against as many, none known before, beside encoding both."""
    nli = setup.pipeline()
    known = [text for pair in setup.pairs for text in pair if 20 <= len(text) <= 200]
    if not known:
        raise ValueError("the pairs have no texts of 20 to 200 characters")
    rows = []
    for count in COUNTS:
        claims, source = (
            [f"{name} {number}: {known[number % len(known)].rstrip('.')}." for number in range(count)]
            for name in ("Item", "Part")
        )

        def checked(claims: Any = claims, source: Any = source) -> None:
            nli.texts.clear()
            nli.check("\n\n".join(claims), "\n\n".join(source))

        def encoded(claims: Any = claims, source: Any = source) -> None:
            nli.texts.clear()
            nli.model.encode([*claims, *source])

        before = psutil.Process().memory_info().rss
        row = beside(f"{count} sentences: encoding both / check", checked, encoded, setup.repetitions)
        rows.append({**row, "more memory, MB": (psutil.Process().memory_info().rss - before) / 2**20})
    return rows
