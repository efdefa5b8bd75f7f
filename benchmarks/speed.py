"""Speed as ratios: every peer in the same run, on the same machine and base; medians of alternating runs.

    python benchmarks/speed.py --pairs pairs.jsonl            all-MiniLM-L6-v2 with its weights
    python benchmarks/speed.py --pairs pairs.jsonl --large    the geometry of ModernBERT-large, random weights

PAIRS is a JSONL file with `premise` and `hypothesis`: real sentences, for their lengths. Prints a table and
writes `benchmarks/results/speed.json` (`speed-large.json`). Run it while nothing else runs.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, pipeline
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from timing import alternate, ratio  # noqa: E402

from modernbert_nli import embedded  # noqa: E402
from modernbert_nli.configuration_modernbert_nli import LABELS, ModernBertNliConfig  # noqa: E402
from modernbert_nli.documents import rules_of  # noqa: E402
from modernbert_nli.modeling_modernbert_nli import ModernBertNliModel  # noqa: E402
from modernbert_nli.states import TokenStates  # noqa: E402

TOPICS = ["sport", "music", "food", "travel", "work", "school", "weather", "money", "health", "animals"]
TOPICS += [
    "children",
    "politics",
    "science",
    "art",
    "war",
    "water",
    "clothes",
    "games",
    "family",
    "transport",
]
BATCH_SIZE = 32


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--repetitions", type=int, default=5)
    args = parser.parse_args()
    disable_progress_bar()
    set_verbosity_error()

    with args.pairs.open() as file:
        rows = [json.loads(line) for line in file]
    rows = rows[:: max(1, len(rows) // 600)][:600]
    pairs = [(row["premise"], row["hypothesis"]) for row in rows]
    measured = (_large if args.large else _small)(pairs, args.repetitions)
    results = {
        "date": date.today().isoformat(),
        "command": "python benchmarks/speed.py --pairs PAIRS" + " --large" * args.large,
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "ratios": measured,
    }
    path = ROOT / "benchmarks" / "results" / ("speed-large.json" if args.large else "speed.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n")
    print("\n".join(f"{row['ratio']:8.3g}  {name}" for name, row in measured.items()))


def _small(pairs: list[tuple[str, str]], repetitions: int) -> dict[str, Any]:
    base = str(embedded.base_folder())
    nli = ModernBertNliModel.from_pretrained(embedded.CHECKPOINT, base_model_name_or_path=base).as_pipeline(
        device="cpu"
    )
    model, tokenizer = nli.model, nli.tokenizer
    labels = {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}
    peer = AutoModelForSequenceClassification.from_pretrained(base, **labels).eval()
    texts = list(dict.fromkeys(premise for premise, _ in pairs))[:200]
    document, answer = _document(pairs)
    template = "This text is about {}."
    zero_shot = pipeline(
        "zero-shot-classification", model=peer, tokenizer=AutoTokenizer.from_pretrained(base), device="cpu"
    )

    def ours() -> None:
        nli.texts.clear()
        nli.route(texts, {topic: template.format(topic) for topic in TOPICS})

    def theirs(batch_size: int) -> Callable[[], Any]:
        return lambda: zero_shot(texts, TOPICS, hypothesis_template=template, batch_size=batch_size)

    def texts_once() -> None:
        model.encode(texts)

    return {
        "zero-shot, 20 labels, 200 texts: transformers' pipeline, batch 1 / ours": _ratio(
            theirs(1), ours, repetitions
        ),
        "zero-shot, 20 labels, 200 texts: transformers' pipeline, batch 32 / ours": _ratio(
            theirs(32), ours, repetitions
        ),
        "zero-shot, 20 labels, 200 texts: ours / encoding the texts once": _ratio(
            ours, texts_once, repetitions
        ),
        **{
            f"one text, {len(names):,} known categories: route / the plain base's pass over it": _route_ratio(
                nli, texts, names, repetitions
            )
            for names in (TOPICS, [f"{topic}, part {part}" for part in range(50) for topic in TOPICS])
        },
        "joint pairs, all-MiniLM-L6-v2: heads / encoder": _head_ratio(model, tokenizer, pairs, repetitions),
        **_check_ratios(nli, peer, document, answer, repetitions, share=8),
    }


def _large(pairs: list[tuple[str, str]], repetitions: int) -> dict[str, Any]:
    """Random weights: no speed depends on what they are. The tokens are those of the embedded tokenizer."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(embedded.base_folder())
    config = ModernBertNliConfig(
        head_type="alignment", encoding="separate", sep_token_id=tokenizer.sep_token_id
    )
    config.encoder_config.pad_token_id = config.pad_token_id = tokenizer.pad_token_id
    model = ModernBertNliModel(config, encoder=AutoModel.from_config(config.encoder_config)).eval()
    nli = model.as_pipeline(tokenizer, device="cpu")  # whose tokenizer is then the model's
    peer = AutoModelForSequenceClassification.from_config(config.encoder_config).eval()
    document, answer = _document(pairs)
    passages, claims = [premise for premise, _ in pairs[:16]], [hypothesis for _, hypothesis in pairs[:16]]
    stored, claim = model.encode(passages), model.encode(claims[:1])
    projected = model.project_states(stored)
    known = model.prepare(model.kept(projected))  # for all claims to come, as routes know their categories

    def again() -> TokenStates:
        return model.encode(passages)

    with torch.no_grad():
        return {
            "stored passages and a claim, ModernBERT-large: encoding again / judging states": _ratio(
                again, lambda: model.classify(stored, claim), repetitions
            ),
            "projected passages and a claim, ModernBERT-large: encoding again / judging states": _ratio(
                again, lambda: model.classify(projected, claim), repetitions
            ),
            "prepared passages and a claim, ModernBERT-large: encoding again / judging states": _ratio(
                again, lambda: model.judge_every(known, model.prepare(model.kept(claim))), repetitions
            ),
            "joint pairs, ModernBERT-large: heads / encoder": _head_ratio(
                model, tokenizer, pairs[:16], repetitions
            ),
            **_check_ratios(nli, peer, document, answer, min(repetitions, 2), share=256),
        }


def _document(pairs: list[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """200 sentences of a document and 10 of an answer."""
    first = list(dict.fromkeys(premise.strip().rstrip(".") + "." for premise, _ in pairs))
    second = list(dict.fromkeys(hypothesis.strip().rstrip(".") + "." for _, hypothesis in pairs))
    return first[:200], second[:10]


@torch.no_grad()
def _route_ratio(nli: Any, texts: list[str], names: list[str], repetitions: int) -> dict[str, Any]:
    """Medians over texts that were never seen, in turn: `route`, and tokenizer and encoder alone."""
    nli.texts.clear()
    nli.route(texts[0], names)

    def plain(text: str) -> None:
        nli.model.encoder(**nli.tokenizer(text, return_tensors="pt"))

    programs: tuple[Callable[[str], Any], ...] = (lambda text: nli.route(text, names), plain)
    medians: list[list[float]] = [[], []]
    for start in range(1, repetitions + 1):
        seconds: list[list[float]] = [[], []]
        for text in texts[start::repetitions]:
            for times, program in zip(seconds, programs, strict=True):
                begin = time.perf_counter()
                program(text)
                times.append(time.perf_counter() - begin)
        for found, times in zip(medians, seconds, strict=True):
            found.append(statistics.median(times))
    return {**ratio(*medians), "seconds": [statistics.median(found) for found in medians]}


@torch.no_grad()
def _check_ratios(
    nli: Any, peer: Any, document: list[str], answer: list[str], repetitions: int, share: int
) -> dict[str, Any]:
    """Every sentence of an answer with every passage: a pass of a cross-encoder for each, or `check`.

    The cross-encoder runs on every `share`-th pair, sorted by length, and its seconds count so many times.
    """
    name = str(nli.model.config.base_model_name_or_path).rpartition("/")[2]
    sizes = rules_of(nli.model.config, separate=True)["sizes"]
    passages = [" ".join(document[at : at + n]) for n in sizes for at in range(len(document) - n + 1)]
    pairs = sorted(((p, a) for p in passages for a in answer), key=lambda pair: len(pair[0]) + len(pair[1]))
    pairs = pairs[::share]
    text, said = "\n\n".join(document), "\n\n".join(answer)
    kept = nli.read(text)

    def cross_encoder() -> None:
        for start in range(0, len(pairs), BATCH_SIZE):
            columns = map(list, zip(*pairs[start : start + BATCH_SIZE], strict=True))
            peer(**nli.tokenizer(*columns, padding=True, truncation=True, return_tensors="pt"))

    def new() -> None:
        nli.texts.clear()
        nli.check(said, text)

    def second() -> None:
        nli.texts.clear()
        nli.check(said, kept)

    what = f"10 sentences against 200 ({share * len(pairs):,} pairs), {name}: cross-encoder"
    found = {
        f"{what} / check": _ratio(cross_encoder, new, repetitions),
        f"{what} / check of a kept document": _ratio(cross_encoder, second, repetitions),
    }
    for row in found.values():
        row.update({key: share * row[key] for key in ("ratio", "least", "most")})
        row["seconds"][0] *= share
    return found


@torch.no_grad()
def _head_ratio(model: Any, tokenizer: Any, pairs: list[tuple[str, str]], repetitions: int) -> dict[str, Any]:
    """The heads alone against the whole encoder, over the same length-sorted batches of pairs."""
    pairs = sorted(pairs, key=lambda pair: len(pair[0]) + len(pair[1]))
    batches = [
        tokenizer(
            *map(list, zip(*pairs[start : start + BATCH_SIZE], strict=True)),
            padding=True,
            return_tensors="pt",
        )
        for start in range(0, len(pairs), BATCH_SIZE)
    ]
    inputs = [
        {
            "encoder_states": {"joint": model.encoder_states(batch, "joint")},
            "segments": {"joint": model.segments(batch["input_ids"], batch["attention_mask"])},
        }
        for batch in batches
    ]
    return _ratio(
        lambda: [model(**states) for states in inputs],
        lambda: [
            model(batch["input_ids"], batch["attention_mask"], mode="late_interaction") for batch in batches
        ],
        repetitions,
    )


def _ratio(first: Callable[[], Any], second: Callable[[], Any], repetitions: int) -> dict[str, Any]:
    """Seconds of the first over those of the second, taken in turn after a warm-up of each."""
    seconds = alternate({"first": first, "second": second}, repetitions)
    return {**ratio(*seconds.values()), "seconds": [statistics.median(times) for times in seconds.values()]}


if __name__ == "__main__":
    main()
