"""Claims against whole sources: how often the verdict of `nli.check` is right, and where its evidence lies.

    python -m modernbert_nli.calibrating.documents --data DOCUMENTS         # measures
    python -m modernbert_nli.calibrating.documents --data DOCUMENTS --fit   # and writes the weights
    python -m modernbert_nli.calibrating.documents --data DOCUMENTS --contexts window --output FOLDER

DOCUMENTS is a folder of JSONL files with `source`, `claim` and `label` (supported, not supported). To each
set are added, the same every time: false claims, made of its supported ones by changing a number, a date, a
negation, a word or a name (`made_claims.py`); unrelated ones, claims against the source of another row; and
what is not mentioned, supported claims against their source without the sentences that are nearest to them.
The few weights that are fitted (`evidence` of config.json, see `documents.py`) are fitted in every run;
what is reported of a set comes from weights and a threshold of the other sets alone. How many sentences a
passage has, among `--sizes` (20: about as many as fit one window), and which features count is chosen by the
mean balanced accuracy so found. `--fit` writes what all sets give into the checkpoint's config.json. States
of the frozen base are kept in `--cache`: after new heads, only these run again. `--rows N` takes as many of
each set, by source.

Writes `experiments/results/documents.json` and `documents.md`.
"""

import argparse
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from ..coverage import lacking, word_scores
from ..documents import (
    FEATURES,
    RULES,
    Candidates,
    Claims,
    Comparison,
    Passage,
    decide,
    weighted,
)
from ..loading import load_pipeline
from ..passages import Block, Reader, Sentence, kept, token_places
from ..repository import ROOT
from ..separate import states_source
from ..states import TokenStates
from .made_claims import draw, false_claims

if TYPE_CHECKING:
    from ..modeling_modernbert_nli import ModernBertNliModel
    from ..pipeline_modernbert_nli import NliAbstentionPipeline

RESULTS = ROOT / "experiments" / "results"
TOKENS = ("wice_tokens_train", "wice_tokens_dev")  # chosen on the first, measured on the second
PUBLISHED = {  # by others, on the test part where the development part is here
    "WiCE test, in LLM-AggreFact": {
        "FactCG-DeBERTa-L": 74.2,
        "MiniCheck FT5 / RoBERTa / DeBERTa": "72.2 / 67.6 / 69.4",
        "AlignScore-L": 66.0,
        "SummaC-ZS": 62.8,
    }
}
CANDIDATES = [8, 4, 3]  # of each size, nearest passages that meet the heads
# Which features may count for support and for contradiction.
SUPPORT = ("entailment", "contradiction", "cosine", "content")
CONTRADICTION = ("contradiction", "cosine", "coverage", "words", "content")
MADE = {"false": 200, "unrelated": 100, "not mentioned": 100}  # of each set, at most
# How much made claims count in the fit, beside 1 for the rows of a set: of support, and of contradiction.
WEIGHTS = {"false": (0.2, 1.0), "unrelated": (0.1, 0.6), "not mentioned": (0.0, 0.6), "name": (0.0, 0.0)}
ABSTAIN_FROM = 0.45  # the uncertainty
SUPPORTED = 2.0  # that of supported rows, which are not contradicted
_AT_ONCE = 32  # texts whose parts are encoded together, like lengths in a batch
STEPS, RATE, DECAY = 250, 0.05, 3e-3  # of the fit


@dataclass
class Row:
    """A claim and its source: what the nearest passages say for each sentence of the claim.

    `kind`: "natural", as the set has it, or how it was made.
    """

    source: str
    claim: str
    texts: list[str]  # its sentences
    kind: str
    supported: bool
    found: list[Candidates]  # for each sentence
    windows: list[tuple[int, int]]  # first and last line of every passage of the greatest size
    gold: list[list[int]] = field(default_factory=list)
    tokens: Any = None  # what is needed for words
    baselines: dict[str, float] = field(default_factory=dict)


@dataclass
class Question:
    """What a source is asked: the sentences of a claim, and their states."""

    texts: list[str]
    states: list[torch.Tensor]
    kind: str
    supported: bool = False
    row: dict[str, Any] = field(default_factory=dict)


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
        "command": "python -m modernbert_nli.calibrating.documents --data DOCUMENTS"
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


def _judged(pipe: "NliAbstentionPipeline", path: Path, context: str, args: argparse.Namespace) -> list[Row]:
    """The rows of a set and what is made of them, each claim against its source."""
    rows = [json.loads(line) for line in path.open(encoding="utf-8")]
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
    first, first_claim = _starts(sources, split), _starts(claims, split)
    order = {text: number for number, text in enumerate(sources)}
    asked: dict[str, list[Question]] = {}
    natural = []
    for row in _sample(rows, args.rows):
        spans, at = split[row["claim"]], first_claim[row["claim"]]
        texts = [row["claim"][start:end] for start, end in spans]
        of_claim = [states["claims"].text(at + place) for place in range(len(spans))]
        natural.append(Question(texts, of_claim, "natural", row["label"] == "supported", row))
        asked.setdefault(row["source"], []).append(natural[-1])
    for source, question in _made(model, natural):
        asked.setdefault(source, []).append(question)
    found: list[Row] = []
    removed = 0
    for source, group in tqdm(asked.items(), path.stem, leave=False):
        every = range(len(split[source]))
        new = _met(pipe, source, split[source], states["sources"], first[source], every, group, args)
        for question, met in zip(group, new, strict=True):
            if question.kind == "natural":
                pairs = TokenStates.gather(question.states, states["claims"].source)
                whole = model.classify(states["whole"][order[source]], pairs).logits.softmax(dim=-1)
                met.baselines = {
                    "whole source": float(whole[:, model.config.label2id["entailment"]].mean()),
                    "word overlap": _overlap(met.claim, source),
                }
            if removed < MADE["not mentioned"] and (rest := _others(question, met, split[source])):
                removed += 1
                less = [Question(question.texts[:1], question.states[:1], "not mentioned")]
                new = [
                    *new,
                    *_met(pipe, source, split[source], states["sources"], first[source], rest, less, args),
                ]
        found += new
    return found


def _made(model: "ModernBertNliModel", natural: Sequence[Question]) -> list[tuple[str, Question]]:
    """Sources, and false and unrelated claims for them."""
    claims = [question.row["claim"] for question in natural]
    wrong = [
        (question.row["source"], text, kind)
        for question in natural
        if question.supported
        for sentence in question.texts
        for kind, text in false_claims(sentence, claims).items()
    ]
    wrong = sorted(wrong, key=lambda one: draw(one[1], 2**32))[: MADE["false"]]
    states = model.encode([text for _, text, _ in wrong])
    made = [
        (source, Question([text], [states.text(row)], kind)) for row, (source, text, kind) in enumerate(wrong)
    ]
    some = sorted(natural, key=lambda one: draw(one.row["claim"] + one.row["source"], 2**32))
    for question in some[: MADE["unrelated"]]:
        other = natural[draw(question.row["claim"], len(natural))].row["source"]
        if other != question.row["source"]:
            made.append((other, Question(question.texts[:1], question.states[:1], "unrelated")))
    return made


def _others(question: Question, row: Row, spans: Sequence[tuple[int, int]]) -> list[int]:
    """Of a long source that supports a claim, all but the three nearest sentences; for every third claim."""
    if question.kind != "natural" or not question.supported or len(spans) < 6 or draw(row.claim, 3):
        return []
    gone = [passage.span for passage in row.found[0].nearest[0][:3]]
    return [number for number, span in enumerate(spans) if span not in gone]


def _met(
    pipe: "NliAbstentionPipeline",
    source: str,
    spans: Sequence[tuple[int, int]],
    states: TokenStates,
    first: int,
    keep: Sequence[int],
    group: Sequence[Question],
    args: argparse.Namespace,
) -> list[Row]:
    """Questions against some of the sentences of a source."""
    block = Block([Sentence(0, spans[row]) for row in keep], states[[first + row for row in keep]])
    texts = [text for question in group for text in question.texts]
    of_claims = TokenStates.gather([one for question in group for one in question.states], states.source)
    rules = {**RULES, "sizes": args.sizes, "candidates": CANDIDATES[: len(args.sizes)]}
    comparison = Comparison(pipe, Claims(texts, [(0, 0)] * len(texts), of_claims), rules, {0: source})
    comparison.add(block)
    lines = [(source.count("\n", 0, spans[row][0]), source.count("\n", 0, spans[row][1])) for row in keep]
    largest = min(args.sizes[-1], len(keep))
    windows = [(lines[at][0], lines[at + largest - 1][1]) for at in range(len(keep) - largest + 1)]
    rows, at = [], 0
    for question in group:
        found = comparison.found[0][at : at + len(question.texts)]
        at += len(question.texts)
        row = question.row
        tokens = (row, pipe.model.tokenizer) if "unsupported" in row else None
        gold = row.get("supporting_sentences") or []
        claim = row.get("claim", question.texts[0])
        place = (source, claim, question.texts, question.kind, question.supported)
        rows.append(Row(*place, found, windows, gold, tokens))
    return rows


def _cached(
    pipe: "NliAbstentionPipeline",
    texts: Sequence[str],
    split: dict[str, list[tuple[int, int]]],
    context: str,
    cache: Path,
) -> TokenStates:
    """States of the parts of some texts, from the disk where they are there."""
    source = states_source(pipe.model)
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


def _given(spans: list[tuple[int, int]], _text: str) -> list[tuple[int, int]]:
    """A splitter that has split already."""
    return spans


def _windows(pipe: "NliAbstentionPipeline", text: str, spans: Sequence[tuple[int, int]]) -> TokenStates:
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
        read = kept(pipe.model, whole, [text[start:end]], partial(_given, inside))
        parts.append(read.blocks[0].states)
        at = stop
    lengths = torch.cat([part.lengths for part in parts if part is not None])
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(dim=0)])
    return TokenStates(
        torch.cat([p.states for p in parts if p is not None]), offsets, states_source(pipe.model)
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
    """Passages of many rows, one after the other, and what each row counts."""

    features: torch.Tensor  # (passages, FEATURES)
    single: torch.Tensor  # whether each is one sentence, which alone contradicts
    sentence: torch.Tensor  # whose each passage is
    row: torch.Tensor  # whose each sentence is
    targets: torch.Tensor  # (2, rows): supported, contradicted
    weights: torch.Tensor  # (2, rows): sets and their classes count alike

    @classmethod
    def of(cls, sets: Sequence[Sequence[Row]], sizes: Sequence[int], every: Sequence[int]) -> "Batch":
        features, single, sentence = [], [], []
        owner: list[int] = []
        targets: list[tuple[float, float]] = []
        weights: list[tuple[float, float]] = []
        for rows in sets:
            groups = Counter((_group(row), row.supported) for row in rows)
            for row in rows:
                for found in row.found:
                    passages = _of_sizes(found, sizes, every)
                    features.append(torch.tensor([one.features for one in passages]))
                    single.append(torch.tensor([one.size == passages[0].size for one in passages]))
                    sentence.append(torch.full((len(passages),), len(owner)))
                    owner.append(len(targets))
                group = _group(row)
                share = 1 / groups[group, row.supported]
                targets.append((float(row.supported), float(group == "false")))
                if group == "natural":
                    weights.append((share, SUPPORTED * share * row.supported))
                else:
                    few = min(1.0, groups[group, row.supported] / 50)
                    weights.append((WEIGHTS[group][0] * few * share, WEIGHTS[group][1] * few * share))
        of_both = torch.tensor(weights).T
        return cls(
            torch.cat(features),
            torch.cat(single),
            torch.cat(sentence),
            torch.tensor(owner),
            torch.tensor(targets).T,
            of_both / of_both.sum(dim=1, keepdim=True).clamp(min=1e-9),
        )

    def scores(self, rules: dict[str, Any]) -> torch.Tensor:
        """Of rows, log-odds of support (that of the worst sentence) and of contradiction, `(2, rows)`."""
        names = ("support", "contradiction")
        said = [self.features @ rules[name][:-1] + rules[name][-1] for name in names]
        said[1] = said[1].masked_fill(~self.single, -1e9)
        nothing = torch.full((len(self.row),), -1e9)
        both = torch.stack([nothing.scatter_reduce(0, self.sentence, one, "amax") for one in said])
        both = both - rules["against"][:, None] * torch.nn.functional.softplus(both.flip(0))
        rows = self.targets.shape[1]
        return torch.stack(
            [
                torch.full((rows,), 1e9).scatter_reduce(0, self.row, both[0], "amin"),
                torch.full((rows,), -1e9).scatter_reduce(0, self.row, both[1], "amax"),
            ]
        )


def _group(row: Row) -> str:
    return row.kind if row.kind in ("natural", "unrelated", "not mentioned", "name") else "false"


def _of_sizes(found: Candidates, sizes: Sequence[int], every: Sequence[int]) -> list[Passage]:
    """Those that there would be with some of the sizes; of a short source, the largest that it has."""
    wanted = [
        one for size, of_size in zip(every, found.nearest, strict=True) if size in sizes for one in of_size
    ]
    return wanted or next(of_size for of_size in reversed(found.nearest) if of_size)


def fit(
    sets: Sequence[Sequence[Row]], sizes: Sequence[int], every: Sequence[int], used: Sequence[str]
) -> dict[str, Any]:
    """Weights of the features, and biases, so that 0 is the threshold of the best mean balanced accuracy."""
    batch = Batch.of(sets, sizes, every)
    mean, deviation = batch.features.mean(dim=0), batch.features.std(dim=0).clamp(min=1e-6)
    masks = [torch.tensor([float(name in names) for name in FEATURES]) for names in (used, CONTRADICTION)]
    start = torch.full((len(FEATURES),), 0.3)
    start[0] = -0.3  # entailment is no sign of contradiction
    scaled = torch.nn.Parameter(torch.stack([start.abs() * masks[0], start * masks[1]]))
    biases, opposed = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))

    def rules() -> dict[str, torch.Tensor]:
        real = [one * mask / deviation for one, mask in zip(scaled, masks, strict=True)]
        constants = [bias - (one * mean).sum() for bias, one in zip(biases, real, strict=True)]
        both = [torch.cat([one, constant[None]]) for one, constant in zip(real, constants, strict=True)]
        return {
            "support": both[0],
            "contradiction": both[1],
            "against": torch.nn.functional.softplus(opposed),
        }

    optimiser = torch.optim.Adam([scaled, biases, opposed], lr=RATE)
    for _ in range(STEPS):
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            batch.scores(rules()), batch.targets, batch.weights, reduction="sum"
        )
        (loss + DECAY * (scaled**2).sum()).backward()
        optimiser.step()
    with torch.no_grad():
        found = rules()
        natural = [[row for row in rows if row.kind == "natural"] for rows in sets]
        of_sets = [Batch.of([rows], sizes, every).scores(found)[0] for rows in natural]
        cut = _best_cut(of_sets, [[row.supported for row in rows] for rows in natural])
    named: dict[str, Any] = {}
    for name, chosen in (("support", used), ("contradiction", CONTRADICTION)):
        columns = zip(FEATURES, found[name].tolist(), strict=False)
        named[name] = {feature: round(weight, 5) for feature, weight in columns if feature in chosen}
        named[name]["bias"] = round(float(found[name][-1]) - cut * (name == "support"), 5)
    opposed_by = dict(zip(("support", "contradiction"), found["against"].tolist(), strict=True))
    named["against"] = {name: round(weight, 5) for name, weight in opposed_by.items()}
    return named


def scores_of(
    rows: Sequence[Row], sizes: Sequence[int], every: Sequence[int], rules: dict[str, Any]
) -> torch.Tensor:
    """Log-odds of support and of contradiction of each row, `(2, rows)`."""
    tensors = {
        name: torch.tensor([rules[name].get(key, 0.0) for key in (*FEATURES, "bias")])
        for name in ("support", "contradiction")
    }
    tensors["against"] = torch.tensor([rules["against"]["support"], rules["against"]["contradiction"]])
    return Batch.of([rows], sizes, every).scores(tensors)


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


def _measure(
    pipe: "NliAbstentionPipeline", sets: dict[str, list[Row]], args: argparse.Namespace
) -> dict[str, Any]:
    natural = {name: [row for row in rows if row.kind == "natural"] for name, rows in sets.items()}
    both = {name: rows for name, rows in natural.items() if len({row.supported for row in rows}) == 2}
    fitted = {name: sets[name] for name in both}
    labels = {name: [row.supported for row in rows] for name, rows in both.items()}
    ways = _ways(args.sizes)
    variants = {way: _left_out(fitted, *ways[way], args.sizes) for way in tqdm(ways, "variants")}
    chosen = max(ways, key=lambda way: _mean(variants[way], "balanced"))
    sizes, used = ways[chosen]
    table: dict[str, Any] = {}
    for name, rows in both.items():
        entry: dict[str, Any] = {"rows": len(rows), "supported": sum(labels[name])}
        entry["check"] = {key: variants[chosen][name][key] for key in ("balanced", "auroc")}
        for baseline in rows[0].baselines:
            columns = {key: [row.baselines[baseline] for row in value] for key, value in both.items()}
            rest = [key for key in both if key != name] or [name]
            cut = _best_cut([torch.tensor(columns[key]) for key in rest], [labels[key] for key in rest])
            said = [value >= cut for value in columns[name]]
            entry[baseline] = _figures(columns[name], said, labels[name])
        table[name] = entry
    rules = {**RULES, **fit(list(fitted.values()), sizes, args.sizes, used), "sizes": list(sizes)}
    rules["candidates"] = [CANDIDATES[args.sizes.index(size)] for size in sizes]
    rules["abstain_from"] = ABSTAIN_FROM
    words = _words(natural)
    if words:
        rules["unsupported"] = words.pop("rule")
    return {
        "sets": table,
        "shipped": {
            name: _measured(rows, sizes, args.sizes, rules, labels[name]) for name, rows in both.items()
        },
        "chosen": chosen,
        "variants": {
            way: {name: {key: one[key] for key in ("balanced", "auroc")} for name, one in of_sets.items()}
            for way, of_sets in variants.items()
        },
        "verdicts": {
            name: _verdicts(pipe, rows, sizes, args.sizes, variants[chosen][name].pop("rules"))
            for name, rows in fitted.items()
        },
        "evidence": _evidence_hits(natural, sizes, args.sizes, rules),
        "words": words,
        "rules": rules,
    }


def _measured(
    rows: Sequence[Row],
    sizes: Sequence[int],
    every: Sequence[int],
    rules: dict[str, Any],
    true: Sequence[bool],
) -> dict[str, float]:
    scores = scores_of(rows, sizes, every, rules)[0]
    return _figures(scores.tolist(), (scores >= 0).tolist(), true)


def _verdicts(
    pipe: "NliAbstentionPipeline",
    rows: Sequence[Row],
    sizes: Sequence[int],
    every: Sequence[int],
    rules: dict[str, Any],
) -> dict[str, dict[str, float]]:
    """By kind of rows, how often which verdict is given, of the worst sentence of each."""
    found: dict[str, Counter[str]] = {}
    rules = {**RULES, **rules, "abstain_from": ABSTAIN_FROM}
    ranks = ("contradicted", "not supported", "uncertain", "supported")
    for row in rows:
        said = []
        for text, one in zip(row.texts, row.found, strict=True):
            passages = _of_sizes(one, sizes, every)
            met = Candidates([[p for p in passages if p.size == size] for size in range(len(every))])
            said.append(decide(text, met, rules, ABSTAIN_FROM, pipe.tokenizer, pipe.model.tells)[0])
        kind = row.kind if row.kind != "natural" else "supported" if row.supported else "not supported"
        counts = found.setdefault(kind, Counter())
        counts[min((one["verdict"] for one in said), key=ranks.index)] += 1
        counts["conflict"] += any(one["conflict"] for one in said)
        counts["rows"] += 1
    return {
        kind: {key: count if key == "rows" else count / counts["rows"] for key, count in counts.items()}
        for kind, counts in found.items()
    }


def _figures(scores: Sequence[float], said: Sequence[bool], true: Sequence[bool]) -> dict[str, float]:
    return {"balanced": balanced(said, true), "auroc": auroc(scores, true)}


def _ways(sizes: Sequence[int]) -> dict[str, tuple[Sequence[int], Sequence[str]]]:
    """Granularities with the usual features of support, and all granularities with others."""
    ways: dict[str, tuple[Sequence[int], Sequence[str]]] = {
        f"{size} alone": ([size], SUPPORT) for size in sizes
    }
    ways |= {f"{sizes[0]} and {size}": ([sizes[0], size], SUPPORT) for size in sizes[1:]}
    if len(sizes) > 2:
        ways["all sizes"] = (sizes, SUPPORT)
    ways |= {"heads alone": (sizes, FEATURES[:2]), "no heads": (sizes, FEATURES[2:])}
    ways |= {f"without {name}": (sizes, [f for f in SUPPORT if f != name]) for name in SUPPORT[1:]}
    ways |= {f"with {name}": (sizes, [*SUPPORT, name]) for name in FEATURES if name not in SUPPORT}
    return ways


def _left_out(
    sets: dict[str, list[Row]], sizes: Sequence[int], used: Sequence[str], every: Sequence[int]
) -> dict[str, Any]:
    """The figures of each set, by weights and a threshold that were fitted to the others."""
    found = {}
    for name, rows in sets.items():
        rules = fit([other for key, other in sets.items() if key != name] or [rows], sizes, every, used)
        natural = [row for row in rows if row.kind == "natural"]
        figures: dict[str, Any] = _measured(natural, sizes, every, rules, [row.supported for row in natural])
        found[name] = {**figures, "rules": rules}
    return found


def _evidence_hits(
    sets: dict[str, list[Row]], sizes: Sequence[int], every: Sequence[int], rules: dict[str, Any]
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
            scored = [
                (float(weighted(torch.tensor(passage.features), rules["support"])), passage)
                for one in row.found
                for passage in _of_sizes(one, sizes, every)
            ]
            chosen: list[Passage] = []
            for _, passage in sorted(scored, key=lambda pair: -pair[0]):
                if len(chosen) < 3 and not any(passage.overlaps(other) for other in chosen):
                    chosen.append(passage)
            places = [_lines(row.source, *passage.span) for passage in chosen if passage.span]
            inside = [any(a <= line <= b for line in gold) for a, b in places]
            hits["best"] += inside[0]
            hits["best three"] += any(inside)
            random = [any(a <= line <= b for line in gold) for a, b in row.windows]
            hits["random"] += sum(random) / max(1, len(random))
        if count:
            found[name] = {"claims": count, **{key: value / count for key, value in hits.items()}}
    return found


def _words(sets: dict[str, list[Row]]) -> dict[str, Any]:
    """Which words lack support: F1 over gold tokens, the rule chosen on one set and measured on another."""
    train, test = (sets.get(name) for name in TOKENS)
    if not train and not test:
        return {}
    train, test = train or test or [], test or train or []
    rule = _best_rule(train)
    pairs = [_token_scores(row, rule) for row in test]
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
        "rule": rule,
        "check": _f1(pairs, rule["threshold"]),
        "word overlap": _f1(overlap, 0.5),
        "random": 2 * share * positives / (share + positives),
        "every word": 2 * positives / (1 + positives),
        "claims": len(test),
        "tokens": len(flat),
    }


def _best_rule(rows: Sequence[Row]) -> dict[str, float]:
    """The weights and the threshold with the greatest F1."""
    best: tuple[float, dict[str, float]] = (-1.0, {})
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        weights = {"words": share, "coverage": 1 - share}
        pairs = [_token_scores(row, weights) for row in rows]
        every = torch.cat([torch.tensor(scores) for scores, _ in pairs])
        for cut in every[every > -1e8].quantile(torch.linspace(0.02, 0.98, 49)).tolist():
            if (f1 := _f1(pairs, cut)) > best[0]:
                best = (f1, {**weights, "threshold": round(cut, 4)})
    return best[1]


def _token_scores(row: Row, rule: dict[str, float]) -> tuple[list[float], list[bool]]:
    """A score for each gold token of a claim: that of the word in which it lies."""
    given, tokenizer = row.tokens
    words: list[tuple[tuple[int, int], float]] = []
    at = 0
    for text, found in zip(row.texts, row.found, strict=True):
        places = token_places(tokenizer, text) or []
        offset = row.claim.find(text, at)
        at = offset + len(text)
        assert found.matches is not None  # the claim has states
        known = len(places) == found.matches.shape[1]
        scores = lacking(found.matches, rule) if known else [0.0] * len(places)
        words += [((a + offset, b + offset), s) for (a, b), s in word_scores(text, places, scores)]
    tokens, place = [], 0
    for token in given["claim_tokens"]:
        start = row.claim.find(token, place)
        if start < 0:
            tokens.append(-1e9)
            continue
        place = start + len(token)
        inside = [score for (a, b), score in words if a < place and b > start]
        tokens.append(max(inside) if inside else -1e9)
    return tokens, list(given["unsupported"])


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
    ways = ("check", "whole source", "word overlap")
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
        lines += [
            "",
            "Of claims that were made (see the program), by weights of the other sets, mean of the sets:",
            "",
        ]
        lines += [
            "| Claims | Rows | Contradicted | Not supported | Uncertain | Supported | Conflict |",
            "|---" * 7 + "|",
        ]
        kinds = dict.fromkeys(kind for of_set in measured["verdicts"].values() for kind in of_set)
        for kind in kinds:
            some = [of_set[kind] for of_set in measured["verdicts"].values() if kind in of_set]
            shares = [
                f"{100 * sum(one.get(key, 0.0) for one in some) / len(some):.1f}"
                for key in ("contradicted", "not supported", "uncertain", "supported", "conflict")
            ]
            lines.append(f"| {kind} | {sum(one['rows'] for one in some)} | {' | '.join(shares)} |")
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
