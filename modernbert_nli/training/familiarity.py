r"""Teach a checkpoint which text its encoder reads, and measure it on languages and kinds of text left out.

    python -m modernbert_nli.training.familiarity --model CHECKPOINT --data TRAIN BREADTH \
        --measure DOCUMENTS ROUTING EVAL

Learns from English (`readable.py`: the JSONL files in the folders of `--data`, and what is made) and from
other languages, source code and noise (`unreadable.py`, whose languages come from the message catalogues of
Django: `pip install django`, or `--messages FOLDER`). The files in the folders of `--measure` are measured
alone. Of a base that reads other languages too, name them: `--reads de fr` counts them as readable. Texts are
encoded by the frozen base alone and in pairs, as the checkpoint's encodings ask for.

What is reported of a kind comes from weights and a threshold that saw neither it nor, of a language, its
relatives: kinds are dealt into folds anew for each seed. Writes the weights and the threshold into
the checkpoint, and what was measured to `experiments/results/familiarity.json`, `.md` and `-summary.md`.
"""

import argparse
import json
import random
import statistics
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm import tqdm
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_NAME

from ..files import write_aside
from ..guards import verbatim, veto, wordless
from ..heads import HYPOTHESIS, PREMISE, Familiarity
from ..repository import ROOT
from ..tokenization import max_pair_length
from .readable import Pair, paired, readable
from .unreadable import english, group_of, installed, unreadable

if TYPE_CHECKING:
    from ..modeling_modernbert_nli import ModernBertNliModel
    from ..pipeline_modernbert_nli import NliAbstentionPipeline

RESULTS = ROOT / "experiments" / "results"
FOLDS = 5
ALLOWED = 0.005  # share of readable text, a mean over kinds left out, that the threshold calls unreadable
DECAY = 1e-2  # of the weights of what is normalised: less fits kinds of English that it has seen too closely
SHARES = {"readable": 0.5, "language": 0.3, "code": 0.12, "noise": 0.08}  # of all in the fit
_AT_ONCE = 48  # texts or pairs


@dataclass
class Kind:
    """Pairs of one kind of text, and what is known of them.

    Args:
        name (`str`): Of the set, or `language:…`, `code:…`, `noise:…`, `made:…`.
        learns (`bool`): Whether it may be learnt from.
        pairs (`list[Pair]`): The texts.
        sides (`dict[str, torch.Tensor]`): By encoding, `statistics` of premises and hypotheses,
            `(pairs, 2, 2 * hidden_size)`.
        undecided (`np.ndarray` of shape `(pairs,)`): Whether it is so where both texts are read.
        wordless (`np.ndarray` of shape `(pairs,)`): Whether the tokenizer alone tells that one is unreadable.
    """

    name: str
    learns: bool
    pairs: list[Pair]
    sides: dict[str, torch.Tensor]
    undecided: np.ndarray
    wordless: np.ndarray

    @property
    def family(self) -> str:
        """One of `SHARES`."""
        return family_of(self.name)


def family_of(name: str) -> str:
    """Which of `SHARES` a kind belongs to."""
    family = name.partition(":")[0]
    return family if family in SHARES else "readable"


def main(argv: list[str] | None = None) -> None:
    """Fit, measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="the checkpoint, a folder")
    parser.add_argument("--base", help="a local copy of its base")
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="folders of JSONL files in English"
    )
    parser.add_argument("--measure", type=Path, nargs="*", default=[], help="the same, measured alone")
    parser.add_argument("--messages", type=Path, help="folder of Django, by default the one installed")
    parser.add_argument(
        "--reads",
        nargs="*",
        default=[],
        metavar="LANGUAGE",
        help="beside English, as of a base of many: de fr",
    )
    parser.add_argument(
        "--without", nargs="*", default=[], metavar="KIND", help="not to learn from, measured alone: code:css"
    )
    parser.add_argument(
        "--layer", type=int, help="by default the deepest that all encodings read, but the last"
    )
    parser.add_argument(
        "--pairs",
        type=int,
        default=120,
        help="of each kind of English, twice as many as of others (default: %(default)s)",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--output", type=Path, default=RESULTS / "familiarity.json")
    args = parser.parse_args(argv)

    from ..loading import load_pipeline

    pipe = load_pipeline(str(args.model), args.base, device="cpu")
    config = pipe.model.config
    pipe.model.familiarity = config.familiarity = None  # what is left undecided without
    layer = args.layer or shared_layer(config.encoder_layers, config.encoder_config.num_hidden_layers)
    if layer is None:
        raise SystemExit(
            f"These heads read {config.encoder_layers}: no layer below the last in every encoding."
        )
    kinds = list(_kinds(pipe, layer, args))
    runs = [cross_validated(kinds, seed) for seed in args.seeds]
    threshold = statistics.median(run["threshold"] for run in runs)
    learnt = [kind for kind in kinds if kind.learns]
    head = fit(learnt)
    write(args.model, head, layer, threshold)
    results = {
        "date": date.today().isoformat(),
        "command": "python -m modernbert_nli.training.familiarity --model CHECKPOINT --data TRAIN BREADTH "
        f"--measure DOCUMENTS ROUTING EVAL --pairs {args.pairs} --seeds {' '.join(map(str, args.seeds))}",
        "base": {"name": config.base_model_name_or_path, "revision": config.base_model_revision},
        "layer": layer,
        "threshold": threshold,
        "seeds": args.seeds,
        "learnt": {kind.name: len(kind.pairs) for kind in learnt},
        "measured": {kind.name: len(kind.pairs) for kind in kinds if not kind.learns},
        "kinds": {kind.name: figures(kind, [run["unread"][kind.name] for run in runs]) for kind in kinds},
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write_aside(args.output, json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    write_aside(args.output.with_suffix(".md"), table(results))
    write_aside(args.output.with_name(f"{args.output.stem}-summary.md"), summary(results))
    print(table(results))


def _kinds(pipe: "NliAbstentionPipeline", layer: int, args: argparse.Namespace) -> Iterator[Kind]:
    """All kinds, encoded and judged as the checkpoint does now."""
    messages = args.messages or installed("django")
    seed = args.seeds[0]
    learnt = readable(args.pairs, seed, _files(args.data))
    learnt["made:catalogues"] = paired(english(2 * args.pairs, seed, messages))
    sentences = [text for pairs in learnt.values() for pair in pairs for text in pair if len(text) > 40]
    odd = unreadable(args.pairs, seed, messages, sentences)
    learnt |= {_as_read(name, args.reads): pairs for name, texts in odd.items() if (pairs := paired(texts))}
    measured = {path.stem: path for path in _files(args.measure) if path.stem not in learnt}
    others = readable(args.pairs, seed, list(measured.values()))
    everything = learnt | {name: others[name] for name in measured if name in others}
    for name, pairs in tqdm(everything.items(), unit="kind", disable=None):
        sides, undecided = encoded(pipe, pairs, layer)
        unknown = np.array([wordless(pair[0], pair[1], pipe.tokenizer) for pair in pairs])
        yield Kind(name, name in learnt and name not in args.without, pairs, sides, undecided, unknown)


def _as_read(kind: str, languages: Collection[str]) -> str:
    """The name of a kind: a language that the base reads is readable text."""
    family, _, name = kind.partition(":")
    return f"reads:{name}" if family == "language" and name in languages else kind


def _files(folders: Sequence[Path]) -> list[Path]:
    return [path for folder in folders for path in sorted(folder.glob("*.jsonl"))]


@torch.no_grad()
def encoded(
    pipe: "NliAbstentionPipeline", pairs: Sequence[Pair], layer: int
) -> tuple[dict[str, torch.Tensor], np.ndarray]:
    """What `Kind` has of pairs: `sides`, and which of them are `undecided`."""
    model, sides = pipe.model, {}
    layers = model.config.encoder_layers
    if "joint" in layers:
        sides["joint"] = _in_one_sequence(model, pairs, layers["joint"].index(layer))
    if "separate" not in layers:
        said = pipe.judge_pairs([(one, other) for one, other in pairs], "joint")
        return sides, _undecided(pipe, pairs, [(row["label"], row["abstain"]) for row in said])
    states = model.encode([text for pair in pairs for text in pair])
    sides["separate"] = _alone(states, layers["separate"].index(layer)).unflatten(0, (len(pairs), 2))
    rows = torch.arange(len(states)).unflatten(0, (len(pairs), 2))
    said = pipe.decide(model.classify(states, states, rows), pipe.threshold)
    return sides, _undecided(pipe, pairs, [(row["label"], row["abstain"]) for row in said])


def _alone(states: Any, place: int) -> torch.Tensor:
    texts = (states.text(row)[None, :, place] for row in range(len(states)))
    return torch.cat([Familiarity.statistics(text, torch.ones(text.shape[:2])) for text in texts])


def _in_one_sequence(model: "ModernBertNliModel", pairs: Sequence[Pair], place: int) -> torch.Tensor:
    parts: dict[int, torch.Tensor] = {}
    window = max_pair_length(model.config.encoder_config, model.tokenizer)
    order = sorted(range(len(pairs)), key=lambda row: len(pairs[row][0]) + len(pairs[row][1]))
    for start in range(0, len(order), _AT_ONCE):
        rows = order[start : start + _AT_ONCE]
        premises, hypotheses = zip(*(pairs[row] for row in rows), strict=True)
        inputs = model.tokenizer(
            *(list(premises), list(hypotheses)),
            padding=True,
            truncation=True,  # of either side: some code is one long line
            max_length=window,
            split_special_tokens=True,
            return_tensors="pt",
        )
        states = model.encoder_states(dict(inputs), "joint")[:, place]
        segments = model.segments(inputs["input_ids"], inputs["attention_mask"])
        sides = [Familiarity.statistics(states, segments == side) for side in (PREMISE, HYPOTHESIS)]
        parts |= dict(zip(rows, torch.stack(sides, dim=1), strict=True))
    return torch.stack([parts[row] for row in range(len(pairs))])


def _undecided(
    pipe: "NliAbstentionPipeline", pairs: Sequence[Pair], said: Sequence[tuple[str, bool]]
) -> np.ndarray:
    """As the pipeline does where both texts are read, by the label and the doubt of heads."""
    rows = zip(pairs, said, strict=True)
    return np.array(
        [
            not verbatim(*pair) and (doubt or veto(*pair, label, pipe.tokenizer, told=True) is not None)
            for pair, (label, doubt) in rows
        ]
    )


def fit(kinds: Sequence[Kind]) -> Familiarity:
    """Logistic regression on what `statistics` gives, each kind by its share in `SHARES`.

    A kind counts in all encodings alike, and in each all of its texts. The result reads statistics as they
    are: their mean and scale are part of its weights.
    """
    rows, known, weights = [], [], []
    for kind in kinds:
        of_family = sum(other.family == kind.family for other in kinds)
        for sides in kind.sides.values():
            texts = sides.flatten(0, 1).float()
            rows.append(texts)
            known.append(torch.full((len(texts),), float(kind.family == "readable")))
            share = SHARES[kind.family] / of_family / len(kind.sides) / len(texts)
            weights.append(torch.full((len(texts),), share))
    found, target, weight = torch.cat(rows), torch.cat(known), torch.cat(weights)
    weight = weight / weight.sum()
    mean, scale = found.mean(dim=0), found.std(dim=0) + 1e-3
    found = (found - mean) / scale
    output = nn.Linear(found.shape[1], 1)
    nn.init.zeros_(output.weight)
    nn.init.zeros_(output.bias)
    steps = torch.optim.LBFGS(output.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        steps.zero_grad()
        logits = output(found).squeeze(-1)
        wrong = nn.functional.binary_cross_entropy_with_logits(logits, target, weight, reduction="sum")
        (whole := wrong + DECAY * output.weight.square().sum()).backward()
        return whole

    steps.step(loss)
    head = Familiarity(found.shape[1] // 2)
    with torch.no_grad():
        head.output.weight.copy_(output.weight / scale)
        head.output.bias.copy_(output.bias - (output.weight / scale) @ mean)
    return head.eval()


@torch.no_grad()
def cross_validated(kinds: Sequence[Kind], seed: int) -> dict[str, Any]:
    """Scores of each kind by a head that saw nothing of its group, and the threshold that follows.

    Returns:
        `dict`: `threshold`, from all folds; and in `unread`, by kind and encoding, whether either text of a
        pair is, by a threshold from the other folds, `(pairs,)`.
    """
    fold_of = dealt(sorted({group_of(kind.name) for kind in kinds if kind.learns}), seed)
    scores: dict[str, dict[str, torch.Tensor]] = {}
    folds: dict[str, int] = {}
    for fold in range(FOLDS):
        out = {kind.name for kind in kinds if fold_of.get(group_of(kind.name)) == fold}
        with torch.enable_grad():
            head = fit([kind for kind in kinds if kind.learns and kind.name not in out])
        # What is never learnt from is measured by one head of all: any will do.
        out |= {kind.name for kind in kinds if not kind.learns and fold == 0}
        for kind in kinds:
            if kind.name in out:
                folds[kind.name] = fold
                scores[kind.name] = {one: head.of_statistics(sides) for one, sides in kind.sides.items()}
    read = {kind.name for kind in kinds if kind.learns and kind.family == "readable"}
    found = {}
    for kind in kinds:
        others = [scores[name] for name in sorted(read) if folds[name] != folds[kind.name]]
        limit = threshold_of(others)
        found[kind.name] = {
            one: (score < limit).any(dim=1).numpy() for one, score in scores[kind.name].items()
        }
    return {"threshold": threshold_of([scores[name] for name in sorted(read)]), "unread": found}


def dealt(groups: Sequence[str], seed: int) -> dict[str, int]:
    """The fold of each group; of each sort of text as many in every fold."""
    draw = random.Random(seed)
    folds: dict[str, int] = {}
    for family in SHARES:
        some = [name for name in groups if family_of(name) == family]
        draw.shuffle(some)
        folds |= {name: place % FOLDS for place, name in enumerate(some)}
    return folds


def threshold_of(scores: Collection[dict[str, torch.Tensor]]) -> float:
    """The score below which `ALLOWED` of readable texts lie, every kind counting alike."""
    every, weights = [], []
    for kind in scores:
        texts = torch.cat([score.flatten() for score in kind.values()])
        every.append(texts)
        weights.append(torch.full_like(texts, 1 / len(texts) / len(scores)))
    found, order = torch.cat(every).sort()
    share = torch.cat(weights)[order].cumsum(dim=0)
    return float(found[int((share <= ALLOWED).sum())])


def figures(kind: Kind, runs: Sequence[dict[str, np.ndarray]]) -> dict[str, Any]:
    """Shares of a kind's pairs, of each seed's judgement: see the table."""
    found: dict[str, Any] = {
        "pairs": len(kind.pairs),
        "undecided before": float((kind.undecided | kind.wordless).mean()),
        "told by its words": float(kind.wordless.mean()),
    }
    for encoding in runs[0]:
        unread = [run[encoding] for run in runs]
        after = [float((kind.undecided | row).mean()) for row in unread]
        flagged = [float(row.mean()) for row in unread]
        found[encoding] = {
            "unread": {"mean": statistics.mean(flagged), "sd": _spread(flagged)},
            "undecided": {"mean": statistics.mean(after), "sd": _spread(after)},
        }
    return found


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def write(folder: Path, head: Familiarity, layer: int, threshold: float) -> None:
    """Put it into a checkpoint, and nothing else: weights first, which the configuration then asks for."""
    path = folder / SAFE_WEIGHTS_NAME
    aside = path.with_name(f"{path.name}.new")
    own = {f"familiarity.{name}": value.contiguous() for name, value in head.state_dict().items()}
    save_file({**load_file(path), **own}, aside, {"format": "pt"})
    aside.replace(path)
    config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    config["familiarity"] = {"layer": layer, "threshold": threshold}
    write_aside(folder / CONFIG_NAME, json.dumps(config, indent=2, sort_keys=True) + "\n")


def shared_layer(layers: dict[str, list[int]], depth: int) -> int | None:
    """The deepest layer below the last one that every encoding reads, or `None` where there is none."""
    shared = set.intersection(*map(set, layers.values()))
    return max((layer for layer in shared if layer < depth), default=None)


def table(results: dict[str, Any]) -> str:
    """Markdown: what is left undecided of each kind, before and with it; the worst of each family first."""
    encodings = [name for name in next(iter(results["kinds"].values())) if name in ("separate", "joint")]
    heads = ["Kind", "Pairs", "Undecided before", "Told by its words"]
    heads += [f"{what}, {name}" for name in encodings for what in ("Unread", "Undecided")]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]

    def line(name: str, row: dict[str, Any]) -> str:
        cells = [
            name,
            f"{row['pairs']:,}",
            f"{row['undecided before']:.1%}",
            f"{row['told by its words']:.1%}",
        ]
        cells += [
            f"{row[one][what]['mean']:.1%} ± {100 * row[one][what]['sd']:.1f}"
            for one in encodings
            for what in ("unread", "undecided")
        ]
        return "| " + " | ".join(cells) + " |"

    def order(item: tuple[str, dict[str, Any]]) -> tuple[int, float]:
        name, row = item
        family, shares = family_of(name), row[encodings[0]]
        worst = -shares["unread"]["mean"] if family == "readable" else shares["undecided"]["mean"]
        return list(SHARES).index(family), worst

    rows = sorted(results["kinds"].items(), key=order)
    return "\n".join([*lines, *(line(name, row) for name, row in rows)]) + "\n"


_FAMILIES = {"language": "other languages", "code": "source code", "noise": "noise", "readable": "English"}


def summary(results: dict[str, Any]) -> str:
    """Markdown: shares left undecided by family, a mean over kinds, and the worst kind."""
    encodings = [name for name in next(iter(results["kinds"].values())) if name in ("separate", "joint")]
    heads = ["Text", "Kinds", "Undecided before", *(f"Undecided, {name}" for name in encodings), "Worst kind"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for family, title in _FAMILIES.items():
        rows = {name: row for name, row in results["kinds"].items() if family_of(name) == family}
        if not rows:
            continue
        before = statistics.mean(row["undecided before"] for row in rows.values())
        cells = [title, str(len(rows)), f"{before:.1%}"]
        for one in encodings:
            after = statistics.mean(row[one]["undecided"]["mean"] for row in rows.values())
            cells.append(f"{after:.1%}")

        def gain(name: str, rows: dict[str, Any] = rows) -> float:
            row = rows[name]
            return max(row[one]["undecided"]["mean"] for one in encodings) - row["undecided before"]

        def least(name: str, rows: dict[str, Any] = rows) -> float:
            return min(rows[name][one]["undecided"]["mean"] for one in encodings)

        worst = max(rows, key=gain) if family == "readable" else min(rows, key=least)
        told = f"+{100 * gain(worst):.1f} points" if family == "readable" else f"{least(worst):.1%}"
        lines.append("| " + " | ".join([*cells, f"{worst.partition(':')[2] or worst}, {told}"]) + " |")
    pairs, seeds = sum(row["pairs"] for row in results["kinds"].values()), len(results["seeds"])
    note = (
        f"{pairs:,} pairs of {len(results['kinds'])} kinds, each left out of what judges it; {seeds} seeds, "
        f"base `{results['base']['name']}`, layer {results['layer']}, {results['date']}, "
        f"`{results['command']}`."
    )
    return "\n".join([*lines, "", note]) + "\n"


if __name__ == "__main__":
    main()
