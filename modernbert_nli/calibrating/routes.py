"""How well `route` chooses and declines, beside the base's cosine, entailment, and what `route` was before.

    python -m modernbert_nli.calibrating.routes --data ROUTING                    # measures
    python -m modernbert_nli.calibrating.routes --data ROUTING --fit CHECKPOINT   # fits it first

ROUTING is a folder with `NAME.jsonl` (`text`, `label`) and `NAME.labels.json` (a hypothesis by label) for
each set; a label that is not in the latter is out of scope. *left out*: the weights of the route were fitted
to all other sets, and are measured on this one. Of sets without texts out of scope a third of the categories
is left out, three times, and the means are shown. `JUNK`, short texts that belong to no desk, tells how much
likeness to such texts is to count.

Writes `experiments/results/routes.json` and `.md`. No seed but those of what is left out; nothing is timed.
"""

import argparse
import json
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from .. import embedded
from ..files import write_aside
from ..fitting import (
    NOTHING,
    LabelledTexts,
    RouteFeatures,
    decided,
    fit_background,
    fit_routing,
    know,
    uncertainty,
)
from ..modeling_modernbert_nli import ModernBertNliModel
from ..repository import ROOT
from ..separate import judge_every, prepare, read

if TYPE_CHECKING:
    from ..pipeline_modernbert_nli import NliAbstentionPipeline

RESULTS = ROOT / "experiments" / "results"

# None of them is in `routing.ANY_TEXT`, whose likeness they weigh.
JUNK = """hello|hi there|hey!|good afternoon|good day|hello hello|hallo|Hi, I'm Anna|what's up
    is anybody here?|qwerty|asdfasdf|jkl|dfkgjh|sdfsdf|zzzz|qqqq wwww|aaa|fjfjfjfj|poiuyt|testing
    test test|foo|lorem ipsum dolor|123|98765|2 2 2|100|12:00|0.5|1000000|31.12.|90210|555 1234
    123456789|!|..|,|--|:-(|&&|???|!!|$$$|_|~|thank you|thanks a lot|thx!|ok thanks|alright|goodbye
    bye bye|yes please|no thanks|good|awesome|oh|hm|well|whatever|right|ok ok|yep
    What is the weather like today?|Tell me something.|Write a song about the sea.
    Who is the president of France?|How old is the universe?|What is 7 times 8?
    Do you have a girlfriend?|I am hungry.|I like football.|The cat sleeps on the sofa.
    Birds are singing in the trees.|Who wrote Hamlet?|What's the time in Tokyo?|Play some music.
    How do volcanoes form?|What should I cook tonight?|Can you sing?|It is hot outside.|Are you human?
    Say something funny.|How deep is the ocean?|What movie should I watch?
    My grandmother grows tomatoes.|He scored in the last minute.|Why is grass green?"""

COSINE, ENTAILMENT, BEFORE, NOW, LEFT_OUT = "cosine", "entailment", "route before", "route", "left out"


def main() -> None:
    """Fit if asked to, measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--fit", type=Path, metavar="CHECKPOINT", help="whose config.json is to be changed")
    args = parser.parse_args()
    folder = args.fit or embedded.CHECKPOINT
    base = str(embedded.base_folder())
    pipe = ModernBertNliModel.from_pretrained(folder, base_model_name_or_path=base).as_pipeline(device="cpu")
    sets = load(args.data)
    facts = {labelled.name: _facts(pipe, labelled) for labelled in tqdm(sets, unit="set", disable=None)}
    known = [facts[labelled.name]["known"] for labelled in sets]
    junk = [facts[labelled.name]["junk"] for labelled in sets]
    if args.fit:
        entry = fit_routing(known, fit_background(known, junk))
        write(args.fit, pipe.encoding, entry, [labelled.name for labelled in sets])
    entry = json.loads((folder / "config.json").read_text())["routing"][pipe.encoding]
    rows = []
    for own in known:
        others = [other for other in known if other.name != own.name]
        background = fit_background(others, [other for other in junk if other.name != own.name])
        rows.append(
            {"set": own.name, **_measured(own, facts[own.name], entry, fit_routing(others, background))}
        )
    results = {
        "date": date.today().isoformat(),
        "command": "python -m modernbert_nli.calibrating.routes --data ROUTING",
        "base": pipe.model.config.base_model_name_or_path,
        "encoding": pipe.encoding,
        "routing": {key: entry[key] for key in entry if key != "calibration"},
        "sets": rows,
    }
    (RESULTS / "routes.json").write_text(json.dumps(results, indent=2) + "\n")
    (RESULTS / "routes.md").write_text(table(results))
    print(table(results))


def load(folder: Path) -> list[LabelledTexts]:
    """All sets of a folder, in the order of their names."""
    sets = []
    for path in sorted(folder.glob("*.labels.json")):
        name = path.name.removesuffix(".labels.json")
        lines = (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        categories = json.loads(path.read_text(encoding="utf-8"))
        sets.append(
            LabelledTexts(name, [row["text"] for row in rows], [row["label"] for row in rows], categories)
        )
    return sets


def write(folder: Path, encoding: str, entry: dict[str, Any], sets: list[str]) -> None:
    """Put an entry into a checkpoint's `routing`; what it was fitted to, `sets`, goes to its results.json."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["routing"] = {**(config.get("routing") or {}), encoding: entry}
    write_aside(path, json.dumps(config, indent=2, sort_keys=True) + "\n")  # as transformers writes it
    path = folder / "results.json"
    if path.is_file():
        results = json.loads(path.read_text(encoding="utf-8"))
        results["routing_data"] = {**results.get("routing_data", {}), encoding: sets}
        write_aside(path, json.dumps(results, indent=2) + "\n")


def _facts(pipe: "NliAbstentionPipeline", labelled: LabelledTexts) -> dict[str, Any]:
    """What is known of a set, the plain cosine with its hypotheses, and each pair's entailment."""
    hypotheses = prepare(pipe.model, read(pipe.model, list(labelled.categories.values())))
    names, entailed, doubts, cosines = pipe.model.config.id2label, [], [], []
    step = max(1, 256 // len(labelled.categories))
    index = next(number for number, name in names.items() if name == "entailment")
    for start in range(0, len(labelled.texts), step):
        texts = prepare(pipe.model, read(pipe.model, labelled.texts[start : start + step]))
        output = judge_every(pipe.model, texts, hypotheses)
        entailed.append(output.logits.softmax(dim=-1)[..., index])
        doubts.append(output.uncertainty)
        cosines.append(texts.vectors @ hypotheses.vectors.T)
    junk = [text.strip() for line in JUNK.splitlines() for text in line.split("|")]
    return {
        "known": know(pipe, labelled),
        "junk": know(pipe, labelled._replace(texts=junk, labels=["none"] * len(junk))),
        "entailed": torch.cat(entailed).numpy(),
        "abstained": (torch.cat(doubts) >= pipe.threshold).numpy(),
        "cosine": torch.cat(cosines).numpy(),
    }


def _measured(
    known: RouteFeatures, facts: dict[str, Any], entry: dict[str, Any], others: dict[str, Any]
) -> dict[str, Any]:
    right = known.answers.numpy()
    inside = right != NOTHING
    before = np.where(facts["abstained"], -1.0, facts["entailed"])
    answered = before.max(axis=1) >= 0
    best = {
        COSINE: facts["cosine"].argmax(axis=1),
        ENTAILMENT: facts["entailed"].argmax(axis=1),
        BEFORE: np.where(answered, before.argmax(axis=1), NOTHING - 1),
        NOW: decided(known, entry)[0].numpy(),
        LEFT_OUT: decided(known, others)[0].numpy(),
    }
    row: dict[str, Any] = {
        "texts": len(right),
        "categories": known.features.shape[1],
        "out_of_scope": int((~inside).sum()),
        "accuracy": {name: float((choice[inside] == right[inside]).mean()) for name, choice in best.items()},
    }
    parts = known.with_misfits()
    if parts:
        row["scope"] = {
            COSINE: _scope([_best_of(facts["cosine"], known, part) for part in parts], parts),
            ENTAILMENT: _scope([_best_of(facts["entailed"], known, part) for part in parts], parts),
            NOW: _scope([-uncertainty(part, entry).numpy() for part in parts], parts, -entry["threshold"]),
            LEFT_OUT: _scope(
                [-uncertainty(part, others).numpy() for part in parts], parts, -others["threshold"]
            ),
        }
        if len(parts) == 1 and not inside.all():
            row["scope"][BEFORE] = {
                "declined": float(1 - answered[~inside].mean()),
                "answered": float(answered[inside].mean()),
            }
    for name, weights in ((NOW, entry), (LEFT_OUT, others)):
        passes = uncertainty(facts["junk"], weights).numpy() < weights["threshold"]
        row.setdefault("junk_routed", {})[name] = float(passes.mean())
        sure = uncertainty(known, weights).numpy() < weights["threshold"]
        good = best[name][inside] == right[inside]
        row.setdefault("answered", {})[name] = float(sure[inside].mean())
        row.setdefault("selective_accuracy", {})[name] = float(good[sure[inside]].mean())
    return row


def _best_of(scores: np.ndarray, known: RouteFeatures, part: RouteFeatures) -> np.ndarray:
    """The greatest score of a text, over the categories that a part of a set has kept."""
    if part is known:
        return scores.max(axis=1)
    kept = np.unique(known.answers.numpy()[part.answers.numpy() != NOTHING])
    return scores[:, kept].max(axis=1)


def _scope(
    scores: list[np.ndarray], parts: list[RouteFeatures], limit: float | None = None
) -> dict[str, float]:
    """AUROC of texts in scope against others, and what a limit declines and answers: means over the parts."""
    figures = []
    for score, part in zip(scores, parts, strict=True):
        inside = part.answers.numpy() != NOTHING
        row = {"auroc": _auroc(score[inside], score[~inside])}
        if limit is not None:
            row["declined"] = float((score[~inside] <= limit).mean())
            row["answered"] = float((score[inside] > limit).mean())
        figures.append(row)
    return {key: float(np.mean([row[key] for row in figures])) for key in figures[0]}


def _auroc(greater: np.ndarray, smaller: np.ndarray) -> float:
    """How often the one is greater than the other, ties counting half."""
    ordered = np.sort(smaller)
    below = np.searchsorted(ordered, greater, side="left") + np.searchsorted(ordered, greater, side="right")
    return float(below.mean() / (2 * len(ordered)))


def table(results: dict[str, Any]) -> str:
    """The figures in Markdown."""
    ways = (COSINE, ENTAILMENT, BEFORE, NOW, LEFT_OUT)
    lines = [
        "# Routing",
        "",
        "Share of the texts in scope that get their own category, nothing being declined (but by *route",
        "before*, whose refusals count as wrong). *route*: weights fitted to all sets; *left out*: to the",
        "others.",
        "",
        f"| Set | Texts | Categories | {' | '.join(ways)} | left out - best of cosine and entailment |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    gains = []
    for row in results["sets"]:
        accuracy = row["accuracy"]
        gains.append(accuracy[LEFT_OUT] - max(accuracy[COSINE], accuracy[ENTAILMENT]))
        shown = " | ".join(f"{accuracy[way]:.1%}" for way in ways)
        inside = row["texts"] - row["out_of_scope"]
        lines.append(
            f"| {row['set']} | {inside:,} | {row['categories']} | {shown} | {100 * gains[-1]:+.1f} |"
        )
    means = " | ".join(f"{np.mean([row['accuracy'][way] for row in results['sets']]):.1%}" for way in ways)
    lines += [
        f"| mean | | | {means} | {100 * np.mean(gains):+.1f} |",
        "",
        "Out of scope: AUROC of the texts in scope against the others; at the checkpoint's threshold, the",
        "share of the others that is declined and of the texts in scope that is answered. Sets without such",
        "texts (none of their own): a third of the categories left out, mean of three choices.",
        "",
        "| Set | Own | AUROC: cosine | entailment | route | left out | Declined | left out | Answered "
        "| left out | before: declined | answered |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in results["sets"]:
        if "scope" not in row:
            continue
        scope = row["scope"]
        figures = [f"{scope[way]['auroc']:.3f}" for way in (COSINE, ENTAILMENT, NOW, LEFT_OUT)]
        figures += [f"{scope[way][key]:.1%}" for key in ("declined", "answered") for way in (NOW, LEFT_OUT)]
        before = scope.get(BEFORE, {})
        figures += [f"{before[key]:.1%}" if before else "" for key in ("declined", "answered")]
        lines.append(f"| {row['set']} | {row['out_of_scope'] or 'none'} | {' | '.join(figures)} |")
    shares = ", ".join(f"{row['set']} {row['junk_routed'][LEFT_OUT]:.0%}" for row in results["sets"])
    lines += [
        "",
        "Of short texts that belong to no desk (greetings, keyboard mash, digits, signs, small talk) so many",
        f"are routed, by *left out*: {shares}. Some are requests to a home assistant.",
        "",
        f"Base `{results['base']}`, {results['encoding']} encoding, {results['date']}, "
        f"`{results['command']}`.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
