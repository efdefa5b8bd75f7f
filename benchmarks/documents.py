"""Claims against whole sources: how often the verdict of `nli.check` is right, and where its evidence lies.

    python benchmarks/documents.py --data DOCUMENTS          measure
    python benchmarks/documents.py --data DOCUMENTS --fit    and write the weights into the checkpoint
    python benchmarks/documents.py --data DOCUMENTS --contexts window --output benchmarks/results/windows

DOCUMENTS is a folder of JSONL files with `source`, `claim` and `label` (supported, not supported). The few
weights that are fitted (`evidence` of config.json, see `documents.py`) are fitted in every run;
what is reported of a set comes from weights and a threshold of the other sets alone. How many sentences a
passage has, among `--sizes` (20: about as many as fit one window), and which features count is chosen by the
mean balanced accuracy so found. `--fit` writes what all sets give into the checkpoint's config.json. States
of the frozen base are kept in `--cache`: after new heads, only these run again. `--rows N` takes as many of
each set, by source.

Writes `benchmarks/results/documents.json` and `documents.md`.
"""

import argparse
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from modernbert_nli.coverage import lacking, word_scores  # noqa: E402
from modernbert_nli.documents import FEATURES, RULES, Claims, Comparison, weighted  # noqa: E402
from modernbert_nli.passages import Block, Reader, Sentence, inner_counts, kept, token_places  # noqa: E402
from modernbert_nli.sentences import Span  # noqa: E402
from modernbert_nli.states import TokenStates  # noqa: E402
from predict import load_pipeline  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
TOKENS = ("wice_tokens_train", "wice_tokens_dev")  # chosen on the first, measured on the second
PUBLISHED = {  # by others, on the test part where the development part is here
    "WiCE test, in LLM-AggreFact": {
        "FactCG-DeBERTa-L": 74.2,
        "MiniCheck FT5 / RoBERTa / DeBERTa": "72.2 / 67.6 / 69.4",
        "AlignScore-L": 66.0,
        "SummaC-ZS": 62.8,
    }
}
RELEVANCE = {"entailment": 0.3, "coverage": 10.0, "words": 10.0, "cosine": 3.0}  # the passage for words
_AT_ONCE = 32  # texts whose parts are encoded together, like lengths in a batch
STEPS, RATE, DECAY = 200, 0.1, 1e-3  # of the fit


@dataclass
class Row:
    """A claim and its source: what every passage says for each sentence of the claim."""

    source: str
    claim: str
    supported: bool
    features: list[torch.Tensor]  # for each sentence (passages, FEATURES)
    entailment: list[torch.Tensor]  # probabilities, (passages,)
    size: torch.Tensor  # sentences of each passage
    lines: list[tuple[int, int]]  # of each passage, its first line and last line in the source
    gold: list[list[int]] = field(default_factory=list)
    tokens: Any = None  # what is needed for words
    baselines: dict[str, float] = field(default_factory=dict)


def main() -> None:
    args = _arguments()
    torch.manual_seed(0)
    pipe = load_pipeline(args.model, args.base, device=args.device)
    names = sorted(path.stem for path in args.data.glob("*.jsonl"))
    names = [name for name in names if not args.sets or name in args.sets]
    variants: dict[str, Any] = {}
    for context in args.contexts:
        sets = {
            name: _judged(pipe, args.data / f"{name}.jsonl", context, args) for name in tqdm(names, "sets")
        }
        variants[context] = _measure(pipe, sets, args)
    first = variants[args.contexts[0]]
    rules = first.pop("rules")
    for other in list(variants.values())[1:]:
        other.pop("rules")
    results = {
        "date": date.today().isoformat(),
        "command": "python benchmarks/documents.py --data DOCUMENTS"
        + (f" --contexts {' '.join(args.contexts)}" if args.contexts != ["alone"] else "")
        + (f" --sets {' '.join(args.sets)}" if args.sets else "")
        + " --fit" * args.fit,
        "checkpoint": Path(args.model or "checkpoints/quickstart").name,
        "base": pipe.model.config.base_model_name_or_path,
        "rows": args.rows,
        "sizes": args.sizes,
        "rules": rules,
        "contexts": variants,
        "published": PUBLISHED,
    }
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "documents.json").write_text(json.dumps(results, indent=2) + "\n")
    (args.output / "documents.md").write_text(_markdown(results))
    print(_markdown(results))
    if args.fit:
        folder = Path(args.model or ROOT / "checkpoints" / "quickstart")
        _write_rules(folder / "config.json", rules)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True)
    add("--model", help="checkpoint: a folder")
    add("--base", help="folder or repository id of the base")
    add("--device", default="cpu")
    add("--sets", nargs="*", help="of these files alone")
    add("--rows", type=int, help="at most so many of each set")
    add("--sizes", type=int, nargs="+", default=[1, 3, 20], help="sentences in a passage, to choose from")
    add(
        "--contexts",
        nargs="+",
        choices=("alone", "window"),
        default=["alone"],
        help="how sentences are encoded",
    )
    add("--fit", action="store_true", help="write the weights into the checkpoint's config.json")
    add("--cache", type=Path, default=ROOT / "build" / "documents")
    add("--output", type=Path, default=RESULTS)
    return parser.parse_args()


# States, kept on disk ----------------------------------------------------------------------------------


def _judged(pipe: Any, path: Path, context: str, args: argparse.Namespace) -> list[Row]:
    """The rows of a set, each claim judged against every passage of its source."""
    rows = _sample([json.loads(line) for line in path.open(encoding="utf-8")], args.rows)
    sources = list(dict.fromkeys(row["source"] for row in rows))
    claims = list(dict.fromkeys(row["claim"] for row in rows))
    model = pipe.model
    reader = Reader(model, args.sizes)
    split = {text: list(reader.split(text)) for text in (*sources, *claims)}
    states = {
        "sources": _cached(pipe, sources, split, context, args.cache),
        "claims": _cached(pipe, claims, split, "alone", args.cache),
        "whole": _cached(pipe, sources, {text: [(0, len(text))] for text in sources}, "alone", args.cache),
    }
    found: list[Row] = []
    order = {text: number for number, text in enumerate(sources)}
    by_source: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_source.setdefault(row["source"], []).append(row)
    first = _starts(sources, split)
    first_claim = _starts(claims, split)
    for source, group in tqdm(by_source.items(), path.stem, leave=False):
        spans = split[source]
        block = Block(
            [Sentence(0, span) for span in spans],
            states["sources"][first[source] : first[source] + len(spans)],
        )
        texts, which, owners = [], [], []
        for number, row in enumerate(group):
            for place, (start, end) in enumerate(split[row["claim"]]):
                texts.append(row["claim"][start:end])
                which.append(first_claim[row["claim"]] + place)
                owners.append(number)
        of_claims = states["claims"][which]
        judged = judge(pipe, block, Claims(texts, [(0, 0)] * len(texts), of_claims), args.sizes, {0: source})
        entailment = judged.probs[..., model.config.label2id["entailment"]]
        whole = model.classify(states["whole"][order[source]], of_claims).logits.softmax(dim=-1)
        whole = whole[:, model.config.label2id["entailment"]].tolist()
        size = torch.tensor([stop - start for start, stop in judged.passages])
        lines = [_lines(source, spans[start][0], spans[stop - 1][1]) for start, stop in judged.passages]
        counts = inner_counts(of_claims).tolist()
        for number, row in enumerate(group):
            mine = [at for at, owner in enumerate(owners) if owner == number]
            single = entailment[mine][:, size == 1].amax(dim=1)
            tokens = None
            if "unsupported" in row:
                occluded = [_occluded(pipe, block, judged, of_claims, at, texts[at]) for at in mine]
                tokens = (row, model.tokenizer, mine, counts, judged.matches, texts, occluded)
            found.append(
                Row(
                    source,
                    row["claim"],
                    row["label"] == "supported",
                    [judged.features[at] for at in mine],
                    [entailment[at] for at in mine],
                    size,
                    lines,
                    row.get("supporting_sentences") or [],
                    tokens,
                    {
                        "whole source": sum(whole[at] for at in mine) / len(mine),
                        "SummaC-ZS": float(single.mean()),
                        "word overlap": _overlap(row["claim"], source),
                    },
                )
            )
    return found


def _occluded(
    pipe: Any, block: Block, judged: Any, claims: TokenStates, at: int, text: str
) -> list[tuple[Span, float]]:
    """By how much the log-odds of entailment rise when a word's states are left out of a claim, by word."""
    places = token_places(pipe.model.tokenizer, text) or []
    states = claims.text(at)
    if len(places) + 2 != len(states):
        return []
    start, stop = judged.passages[int(weighted(judged.features[at], RELEVANCE).argmax())]
    words = [span for span, _ in word_scores(text, places, [0.0] * len(places))]
    parts = [states]
    for first, last in words:
        kept_tokens = [1 + row for row, (a, b) in enumerate(places) if b <= first or a >= last]
        parts.append(states[[0, *kept_tokens, len(states) - 1]])
    passage = TokenStates.gather([block.states[start:stop].states], claims.source)  # type: ignore[index]
    probs = pipe.model.classify(passage, TokenStates.gather(parts, claims.source)).logits.softmax(dim=-1)
    odds = torch.logit(probs[:, pipe.model.config.label2id["entailment"]].double(), eps=1e-9)
    return list(zip(words, (odds[1:] - odds[0]).tolist(), strict=True))


def _cached(
    pipe: Any, texts: Sequence[str], split: dict[str, list[tuple[int, int]]], context: str, cache: Path
) -> TokenStates:
    """States of the parts of some texts, from the disk where they are there."""
    source = pipe.model.states_source
    digest = hashlib.sha256(json.dumps([source, context]).encode())
    for text in texts:
        digest.update(json.dumps([text, split[text]]).encode())
    path = cache / f"{digest.hexdigest()[:24]}.safetensors"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        pipe.texts.clear()
        parts: list[TokenStates] = []
        for first in tqdm(range(0, len(texts), _AT_ONCE), "encoding", leave=False):
            some = texts[first : first + _AT_ONCE]
            if context == "window":
                parts += [_windows(pipe, text, split[text]) for text in some]
            else:
                parts.append(pipe.model.encode([t[start:end] for t in some for start, end in split[t]]))
        lengths = torch.cat([part.lengths for part in parts])
        offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(dim=0)])
        TokenStates(torch.cat([part.states for part in parts]), offsets, source).save(path)
    return TokenStates.load(path)


def _windows(pipe: Any, text: str, spans: Sequence[tuple[int, int]]) -> TokenStates:
    """States of sentences, cut out of windows of as many whole sentences as fit."""
    places = token_places(pipe.model.tokenizer, text) or []
    window = Reader(pipe.model, [1]).window - 2
    parts, at = [], 0
    while at < len(spans):
        stop = at + 1
        while stop < len(spans) and sum(spans[at][0] <= a < spans[stop][1] for a, _ in places) <= window:
            stop += 1
        start, end = spans[at][0], spans[stop - 1][1]
        inside = [(a - start, b - start) for a, b in spans[at:stop]]
        whole = pipe.model.encode([text[start:end]])
        read = kept(pipe.model, whole, [text[start:end]], lambda _, inside=inside: inside)
        parts.append(read.blocks[0].states)
        at = stop
    lengths = torch.cat([part.lengths for part in parts if part is not None])
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(dim=0)])
    return TokenStates(
        torch.cat([p.states for p in parts if p is not None]), offsets, pipe.model.states_source
    )


def _sample(rows: list[dict[str, Any]], count: int | None) -> list[dict[str, Any]]:
    """Rows of whole sources, in an order that depends on the sources alone."""
    if count is None or len(rows) <= count:
        return rows
    return sorted(rows, key=lambda row: hashlib.sha256(row["source"].encode()).digest())[:count]


def _starts(texts: Iterable[str], split: dict[str, list[tuple[int, int]]]) -> dict[str, int]:
    at, starts = 0, {}
    for text in texts:
        starts[text] = at
        at += len(split[text])
    return starts


def _lines(text: str, start: int, end: int) -> tuple[int, int]:
    return text.count("\n", 0, start), text.count("\n", 0, end)


def _overlap(claim: str, source: str) -> float:
    """The share of the claim's words that are in the source."""
    words = set(re.findall(r"\w+", source.lower()))
    claimed = re.findall(r"\w+", claim.lower())
    return sum(word in words for word in claimed) / max(1, len(claimed))


# The fit -----------------------------------------------------------------------------------------------


@dataclass
class Batch:
    """Passages of many rows, one after the other."""

    features: torch.Tensor  # (passages, FEATURES)
    sentence: torch.Tensor  # whose each passage is
    row: torch.Tensor  # whose each sentence is
    supported: torch.Tensor
    weight: torch.Tensor  # of each row: sets and their classes count alike

    @classmethod
    def of(cls, sets: Sequence[Sequence[Row]], sizes: Sequence[int]) -> "Batch":
        features, sentence, weight = [], [], []
        owner: list[int] = []
        supported: list[bool] = []
        for rows in sets:
            share = {label: sum(row.supported == label for row in rows) for label in (True, False)}
            for row in rows:
                keep = _of_sizes(row, sizes)
                for each in row.features:
                    features.append(each[keep])
                    sentence.append(torch.full((int(keep.sum()),), len(owner)))
                    owner.append(len(supported))
                supported.append(row.supported)
                weight.append(1 / share[row.supported])
        return cls(
            torch.cat(features),
            torch.cat(sentence),
            torch.tensor(owner),
            torch.tensor(supported).float(),
            torch.tensor(weight) / sum(weight),
        )

    def scores(self, passages: torch.Tensor) -> torch.Tensor:
        """Of rows: the worst sentence's best passage."""
        sentences = torch.full((len(self.row),), -1e9).scatter_reduce(0, self.sentence, passages, "amax")
        return torch.full((len(self.supported),), 1e9).scatter_reduce(0, self.row, sentences, "amin")


def _of_sizes(row: Row, sizes: Sequence[int]) -> torch.Tensor:
    """Which passages there would be with these sizes: shorter sources have all they have."""
    keep = torch.isin(row.size, torch.tensor(list(sizes)))
    return keep | (row.size == row.size.max()) if not keep.any() or max(sizes) > row.size.max() else keep


def fit(sets: Sequence[Sequence[Row]], sizes: Sequence[int], used: Sequence[str]) -> dict[str, float]:
    """Weights of the features, and a bias, so that 0 is the threshold of the best mean balanced accuracy."""
    batch = Batch.of(sets, sizes)
    mask = torch.tensor([float(name in used) for name in FEATURES])
    mean, deviation = batch.features.mean(dim=0), batch.features.std(dim=0).clamp(min=1e-6)
    scaled = (batch.features - mean) / deviation * mask
    weights = torch.nn.Parameter(0.3 * mask)
    bias = torch.nn.Parameter(torch.zeros(()))
    optimiser = torch.optim.Adam([weights, bias], lr=RATE)
    for _ in range(STEPS):
        optimiser.zero_grad()
        scores = batch.scores(scaled @ weights + bias)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            scores, batch.supported, batch.weight, reduction="sum"
        )
        (loss + DECAY * (weights**2).sum()).backward()
        optimiser.step()
    with torch.no_grad():
        real = weights * mask / deviation
        constant = float(bias - (real * mean).sum())
        of_sets = [_row_scores(rows, sizes, real, constant) for rows in sets]
        cut = _best_cut(of_sets, [[row.supported for row in rows] for rows in sets])
    found = {
        name: round(float(weight), 5) for name, weight in zip(FEATURES, real, strict=True) if name in used
    }
    return {**found, "bias": round(constant - cut, 5)}


def _row_scores(
    rows: Sequence[Row], sizes: Sequence[int], weights: torch.Tensor, bias: float
) -> torch.Tensor:
    batch = Batch.of([rows], sizes)
    return batch.scores(batch.features @ weights + bias)


def scores_of(rows: Sequence[Row], sizes: Sequence[int], rule: dict[str, float]) -> torch.Tensor:
    batch = Batch.of([rows], sizes)
    return batch.scores(weighted(batch.features, rule))


def _best_cut(scores: Sequence[torch.Tensor], labels: Sequence[Sequence[bool]]) -> float:
    """The threshold with the highest mean balanced accuracy over sets."""
    every = torch.cat(list(scores))
    candidates = every.quantile(torch.linspace(0.02, 0.98, 193)).tolist()
    means = [
        sum(balanced((s >= cut).tolist(), y) for s, y in zip(scores, labels, strict=True))
        for cut in candidates
    ]
    smooth = [
        sum(means[max(0, i - 3) : i + 4]) / len(means[max(0, i - 3) : i + 4]) for i in range(len(means))
    ]
    return float(candidates[smooth.index(max(smooth))])


def balanced(said: Sequence[bool], true: Sequence[bool]) -> float:
    """Balanced accuracy: the mean of the share of either class that is said to be it."""
    shares = []
    for label in (True, False):
        of_class = [a == label for a, b in zip(said, true, strict=True) if b == label]
        shares.append(sum(of_class) / max(1, len(of_class)))
    return sum(shares) / 2


def auroc(scores: Sequence[float], true: Sequence[bool]) -> float:
    """Area under the ROC curve, ties counted half."""
    values = torch.tensor(list(scores), dtype=torch.float64)
    positive, negative = values[torch.tensor(true)], values[~torch.tensor(true)]
    difference = (positive[:, None] - negative).sign().mean()
    return float(0.5 + 0.5 * difference)


# Measures ----------------------------------------------------------------------------------------------


def _measure(pipe: Any, sets: dict[str, list[Row]], args: argparse.Namespace) -> dict[str, Any]:
    both = {name: rows for name, rows in sets.items() if len({row.supported for row in rows}) == 2}
    labels = {name: [row.supported for row in rows] for name, rows in both.items()}
    ways = _ways(args.sizes)
    variants = {way: _left_out(both, labels, *ways[way]) for way in tqdm(ways, "variants")}
    chosen = max(ways, key=lambda way: _mean(variants[way], "balanced"))
    sizes, used = ways[chosen]
    table: dict[str, Any] = {}
    for name, rows in both.items():
        entry: dict[str, Any] = {"rows": len(rows), "supported": sum(labels[name])}
        entry["check"] = variants[chosen][name]
        for baseline in rows[0].baselines:
            columns = {key: [row.baselines[baseline] for row in value] for key, value in both.items()}
            rest = [key for key in both if key != name] or [name]
            cut = _best_cut([torch.tensor(columns[key]) for key in rest], [labels[key] for key in rest])
            said = [value >= cut for value in columns[name]]
            entry[baseline] = _figures(columns[name], said, labels[name])
        table[name] = entry
    rules = {**RULES, "sizes": list(sizes), "support": fit(list(both.values()), sizes, used)}
    rules["contradiction"] = _against(rules["support"])
    rules["abstain_from"] = 0.45
    words = _words(sets)
    if words:
        rules["unsupported"] = words.pop("rule")
    return {
        "sets": table,
        "shipped": {
            name: _measured(rows, sizes, rules["support"], labels[name]) for name, rows in both.items()
        },
        "chosen": chosen,
        "variants": variants,
        "evidence": _evidence_hits(sets, sizes, rules["support"]),
        "words": words,
        "rules": rules,
    }


def _measured(
    rows: Sequence[Row], sizes: Sequence[int], rule: dict[str, float], true: Sequence[bool]
) -> dict[str, float]:
    scores = scores_of(rows, sizes, rule)
    return _figures(scores.tolist(), (scores >= 0).tolist(), true)


def _against(support: dict[str, float]) -> dict[str, float]:
    """Contradiction counts where the passage is about the same: the heads' word for it, and relevance."""
    relevance = {name: support.get(name, 0.0) for name in ("cosine", "coverage", "words")}
    return {**relevance, "contradiction": 1.0, "bias": support["bias"]}


def _figures(scores: Sequence[float], said: Sequence[bool], true: Sequence[bool]) -> dict[str, float]:
    return {"balanced": balanced(said, true), "auroc": auroc(scores, true)}


def _ways(sizes: Sequence[int]) -> dict[str, tuple[Sequence[int], Sequence[str]]]:
    """Granularities with all features, and all granularities with some of the features."""
    ways: dict[str, tuple[Sequence[int], Sequence[str]]] = {
        f"{size} alone": ([size], FEATURES) for size in sizes
    }
    ways |= {f"{sizes[0]} and {size}": ([sizes[0], size], FEATURES) for size in sizes[1:]}
    if len(sizes) > 2:
        ways["all sizes"] = (sizes, FEATURES)
    ways |= {"heads alone": (sizes, FEATURES[:2]), "no heads": (sizes, FEATURES[2:])}
    ways |= {f"without {name}": (sizes, [f for f in FEATURES if f != name]) for name in FEATURES[2:]}
    return ways


def _left_out(
    both: dict[str, list[Row]], labels: dict[str, list[bool]], sizes: Sequence[int], used: Sequence[str]
) -> dict[str, Any]:
    """The figures of each set, by weights and a threshold that were fitted to the others."""
    found = {}
    for name, rows in both.items():
        rule = fit([other for key, other in both.items() if key != name] or [rows], sizes, used)
        scores = scores_of(rows, sizes, rule)
        found[name] = _figures(scores.tolist(), (scores >= 0).tolist(), labels[name])
    return found


def _evidence_hits(
    sets: dict[str, list[Row]], sizes: Sequence[int], rule: dict[str, float]
) -> dict[str, Any]:
    """How often a sentence that was marked as evidence lies in the best passage, or in the best three."""
    found = {}
    for name, rows in sets.items():
        hits = {"best": 0, "best three": 0, "random": 0.0}
        count = 0
        for row in rows:
            gold = {line for lines in row.gold for line in lines}
            if not gold:
                continue
            count += 1
            keep = _of_sizes(row, sizes)
            places = [span for span, kept_one in zip(row.lines, keep.tolist(), strict=True) if kept_one]
            scores = torch.stack([weighted(each[keep], rule) for each in row.features]).amax(dim=0)
            order = scores.argsort(descending=True).tolist()
            chosen: list[tuple[int, int]] = []
            for place in order:
                first, last = places[place]
                if all(last < a or first > b for a, b in chosen):
                    chosen.append((first, last))
                if len(chosen) == 3:
                    break
            inside = [any(a <= line <= b for line in gold) for a, b in chosen]
            hits["best"] += inside[0]
            hits["best three"] += any(inside)
            largest = int(row.size[keep].max())
            of_size = [
                span for span, size in zip(row.lines, row.size.tolist(), strict=True) if size == largest
            ]
            hits["random"] += sum(any(a <= line <= b for line in gold) for a, b in of_size) / max(
                1, len(of_size)
            )
        if count:
            found[name] = {"claims": count, **{key: value / count for key, value in hits.items()}}
    return found


def _words(sets: dict[str, list[Row]]) -> dict[str, Any]:
    """Which words lack support: F1 over gold tokens, the rule chosen on one set and measured on another."""
    train, test = (sets.get(name) for name in TOKENS)
    if not train and not test:
        return {}
    train, test = train or test or [], test or train or []
    rules = {
        "check": _best_rule(train, "source", (0.0, 0.25, 0.5, 0.75, 1.0)),
        "alignment with the best passage": _best_rule(train, "passage", (0.0, 0.25, 0.5, 0.75, 1.0)),
        "occlusion over states": _best_rule(train, "occlusion", (0.0,)),
    }
    scored = {way: [_token_scores(row, rule, rule["scope"]) for row in test] for way, rule in rules.items()}
    pairs = scored["check"]
    share = sum(sum(row.tokens[0]["unsupported"]) for row in train) / sum(
        len(row.tokens[0]["unsupported"]) for row in train
    )
    overlap = []
    for row in test:
        source = set(re.findall(r"\w+", row.source.lower()))
        tokens, gold = row.tokens[0]["claim_tokens"], row.tokens[0]["unsupported"]
        said = [float(token.lower() not in source and bool(re.search(r"\w", token))) for token in tokens]
        overlap.append((said, gold))
    flat = [truth for _, gold in pairs for truth in gold]
    positives = sum(flat) / len(flat)
    return {
        "rule": {key: value for key, value in rules["check"].items() if key != "scope"},
        **{way: _f1(pairs, rules[way]["threshold"]) for way, pairs in scored.items()},
        "word overlap": _f1(overlap, 0.5),
        "random": 2 * share * positives / (share + positives),
        "every word": 2 * positives / (1 + positives),
        "claims": len(test),
        "tokens": len(flat),
    }


def _best_rule(rows: Sequence[Row], scope: str, shares: Sequence[float]) -> dict[str, Any]:
    """The weights, the passages and the threshold with the greatest F1."""
    best: tuple[float, dict[str, Any]] = (-1.0, {})
    for share in shares:
        weights = {"words": share, "coverage": 1 - share}
        pairs = [_token_scores(row, weights, scope) for row in rows]
        every = torch.cat([torch.tensor(scores) for scores, _ in pairs])
        for cut in every[every > -1e8].quantile(torch.linspace(0.02, 0.98, 49)).tolist():
            if (f1 := _f1(pairs, cut)) > best[0]:
                best = (f1, {**weights, "threshold": round(cut, 4), "scope": scope})
    return best[1]


def _token_scores(row: Row, rule: dict[str, float], scope: str) -> tuple[list[float], list[bool]]:
    """A score for each gold token of a claim: that of the word in which it lies."""
    given, tokenizer, mine, counts, matches, texts, occluded = row.tokens
    words: list[tuple[tuple[int, int], float]] = []
    at = 0
    for number in mine:
        text, first = texts[number], sum(counts[:number])
        places = token_places(tokenizer, text) or []
        of_claim = torch.stack([layer[first : first + counts[number]] for layer in matches])
        if scope == "source":
            best = of_claim.amax(dim=2)
        else:
            best = of_claim[:, :, int(weighted(row.features[mine.index(number)], RELEVANCE).argmax())]
        offset = row.claim.find(text, at)
        at = offset + len(text)
        if scope == "occlusion":
            words += [((a + offset, b + offset), s) for (a, b), s in occluded[mine.index(number)]]
            continue
        scores = lacking(best, rule).tolist() if len(places) == best.shape[1] else [0.0] * len(places)
        words += [((a + offset, b + offset), s) for (a, b), s in word_scores(text, places, scores)]
    found, place = [], 0
    for token in given["claim_tokens"]:
        start = row.claim.find(token, place)
        if start < 0:
            found.append(-1e9)
            continue
        place = start + len(token)
        inside = [score for (a, b), score in words if a < place and b > start]
        found.append(max(inside) if inside else -1e9)
    return found, list(given["unsupported"])


def _f1(pairs: Sequence[tuple[Sequence[float], Sequence[bool]]], cut: float) -> float:
    said = [score >= cut for scores, _ in pairs for score in scores]
    true = [truth for _, gold in pairs for truth in gold]
    both = sum(a and b for a, b in zip(said, true, strict=True))
    return 2 * both / max(1, sum(said) + sum(true))


# Output ------------------------------------------------------------------------------------------------


def _write_rules(path: Path, rules: dict[str, Any]) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    config["evidence"] = rules
    aside = path.with_name(path.name + ".partial")
    aside.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(aside, path)


def _markdown(results: dict[str, Any]) -> str:
    lines = [
        "# Claims against whole sources",
        "",
        f"Checkpoint `{results['checkpoint']}` on `{results['base']}`, passages of "
        f"{' or '.join(map(str, results['sizes']))} sentences; "
        f"{'all rows' if results['rows'] is None else str(results['rows']) + ' rows of a set at most'}; "
        f"{results['date']}, `{results['command']}`.",
        "",
        "Balanced accuracy at one threshold and AUROC, in per cent. Of each set: weights and threshold (of",
        "the baselines: threshold) from the other sets alone.",
    ]
    ways = ("check", "whole source", "SummaC-ZS", "word overlap")
    for context, measured in results["contexts"].items():
        lines += ["", f"### Sentences encoded {'alone' if context == 'alone' else 'in windows'}", ""]
        lines += ["| Set | Rows | Supported | " + " | ".join(ways) + " |", "|---" * (3 + len(ways)) + "|"]
        for name, entry in measured["sets"].items():
            cells = [f"{100 * entry[way]['balanced']:.1f} / {100 * entry[way]['auroc']:.1f}" for way in ways]
            lines.append(f"| {name} | {entry['rows']} | {entry['supported']} | " + " | ".join(cells) + " |")
        means = [
            " / ".join(
                f"{100 * _mean({name: entry[way] for name, entry in measured['sets'].items()}, figure):.1f}"
                for figure in ("balanced", "auroc")
            )
            for way in ways
        ]
        lines.append("| mean | | | " + " | ".join(means) + " |")
        lines += ["", "| Variant | Balanced accuracy | AUROC |", "|---|---|---|"]
        for way, sets in measured["variants"].items():
            cells = [f"{100 * _mean(sets, figure):.1f}" for figure in ("balanced", "auroc")]
            mark = " (chosen)" if way == measured["chosen"] else ""
            lines.append(f"| {way}{mark} | {' | '.join(cells)} |")
        lines += ["", "| Gold sentence in the evidence | Claims | Best passage | Best three | At random |"]
        lines += ["|---|---|---|---|---|"]
        for name, entry in measured["evidence"].items():
            cells = [f"{100 * entry[key]:.1f}" for key in ("best", "best three", "random")]
            lines.append(f"| {name} | {entry['claims']} | " + " | ".join(cells) + " |")
        if words := measured["words"]:
            lines += ["", "| Unsupported tokens | F1 |", "|---|---|"]
            lines += [
                f"| {way} | {100 * words[way]:.1f} |"
                for way in words
                if way not in ("rule", "claims", "tokens")
            ]
    lines += ["", "Published, balanced accuracy at a fixed threshold, on the test part:", ""]
    for name, figures in results["published"].items():
        lines += [f"- {name}: " + "; ".join(f"{who} {figure}" for who, figure in figures.items())]
    return "\n".join(lines) + "\n"


def _mean(sets: dict[str, Any], figure: str) -> float:
    return float(sum(entry[figure] for entry in sets.values()) / len(sets))


if __name__ == "__main__":
    main()
