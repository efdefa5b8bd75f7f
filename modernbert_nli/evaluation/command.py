"""Evaluate NLI models on sets of labelled pairs: tables, pictures, and all figures as JSON.

    python evaluate_nli.py --models checkpoints/quickstart --sets test.jsonl --output_dir runs/evaluation
    python evaluate_nli.py --models checkpoints/quickstart tasksource/ModernBERT-large-nli \\
        --sets mnli mnli_mismatched snli anli_r1 anli_r2 anli_r3 wanli lingnli finecat hans --speed \\
        --output_dir runs/evaluation
    python evaluate_nli.py --models ours=runs/seed-1,runs/seed-2 answerdotai/ModernBERT-Large-Instruct \\
        'cross-encoder/nli-MiniLM2-L6-H768?kind=cross-encoder' --sets snli \\
        --output_dir runs/evaluation

A model is `[name=]checkpoint[,checkpoint...][?option=value&...]`, several checkpoints being its seeds:

    a checkpoint of this project            judged in each of its encodings, the published design among them
    a classifier of pairs                   what AutoModelForSequenceClassification loads
    a masked language model                 its answer is read at [MASK]: see `modernbert_nli/cloze.py`
    ?kind=cross-encoder                     a classifier, through sentence_transformers.CrossEncoder
    ?labels=contradiction,entailment,neutral    its classes in its own order, where its configuration errs
    ?base=FOLDER, ?revision=COMMIT          where the base of heads is; the model's commit

A set is a file, a Hub dataset or a known name, with options: see `modernbert_nli/training/sources.py`. A
known name means the split to measure on. No remote code is run. What was judged is kept in `--predictions`:
an interrupted evaluation goes on, and a finished one is drawn again without judging anything.
"""

import argparse
import json
import platform
import re
import shlex
import sys
from collections.abc import Sequence
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..files import write_aside
from ..options import add_options, check_options, parser_of, run

# torch and the like are loaded by what needs them: a mistyped option is told at once.

COMMAND = "evaluate_nli.py"
_VERSIONS = ("torch", "transformers", "sentence-transformers", "numpy")


def main(argv: Sequence[str] | None = None) -> int:
    """Judge, measure, write."""
    argv = sys.argv[1:] if argv is None else list(argv)
    args = parse_args(argv)
    return run(
        COMMAND,
        partial(_evaluate, args, public_command(COMMAND, argv)),
        interrupted="Interrupted: the same command continues after the sets that are done.",
    )


def _evaluate(args: argparse.Namespace, command: str) -> None:
    from .tables import markdown, quality

    results = {"date": date.today().isoformat(), "command": command, **evaluate(args)}
    write_aside(args.output_dir / "evaluation.json", json.dumps(results, indent=2) + "\n")
    write_aside(args.output_dir / "evaluation.md", markdown(results))
    print(quality(results))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    usage = "python evaluate_nli.py --models MODEL [...] --sets SET [...] --output_dir FOLDER [option ...]"
    parser = parser_of(COMMAND, usage, __doc__)
    add = parser.add_argument
    add("--models", nargs="+", required=True, metavar="MODEL", help="what to evaluate")
    add("--sets", nargs="+", required=True, metavar="SET", help="what to evaluate on")
    add("--output_dir", type=Path, required=True, help="folder for evaluation.json, .md and the pictures")
    add("--predictions", type=Path, default=Path("runs/evaluation"), help="default: %(default)s")
    add_options(add, "batch_size", "device")
    add("--tables_only", nargs="+", default=[], metavar="NAME", help="models that the pictures leave out")
    add("--speed", action="store_true", help="measure throughput and memory too: run nothing else meanwhile")
    add("--speed_pairs", type=int, default=512, help="of the first set (default: %(default)s)")
    args = parser.parse_args(argv)
    check_options(parser, args)
    if args.speed_pairs < 1:
        parser.error(f"--speed_pairs must be at least 1, not {args.speed_pairs}")
    return args


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    """All results but date and command; the pictures are drawn.

    Raises:
        OSError: a model or a set cannot be reached.
        ValueError: a model or a set that cannot be used.
        ImportError: matplotlib is missing.
    """
    import torch
    from transformers.utils.logging import disable_progress_bar

    from ..training.data import load_pairs
    from ..training.plot_style import require_matplotlib
    from ..training.sources import parse_source, to_measure_on
    from .contestants import contestants, parse_model, public_name
    from .measure import results_of
    from .pictures import draw
    from .predictions import Predictions, predictions_of
    from .speed import speed_of

    require_matplotlib()  # told before hours of work, not after
    disable_progress_bar()
    models = [parse_model(text) for text in args.models]
    sources = [to_measure_on(text) for text in args.sets]
    _require_names([model.name for model in models], "models")
    if unknown := set(args.tables_only) - {model.name for model in models}:
        raise ValueError(f"`--tables_only {unknown.pop()}` is none of the models by its name.")
    if len(args.tables_only) == len(models):
        raise ValueError("`--tables_only` leaves no model for the pictures.")
    _require_names([parse_source(source).name for source in sources], "sets")
    seeds = {model.name: list(contestants(model, args.device)) for model in models}
    sets = {parse_source(source).name: load_pairs(source) for source in sources}
    args.output_dir.mkdir(parents=True, exist_ok=True)

    results: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in _VERSIONS if _there(name)},
        },
        "sets": {
            name: {"pairs": len(sets[name]), "dataset": parse_source(source).hub}
            for name, source in zip(sets, sources, strict=True)
        },
        "models": {},
        "results": [],
        "speed": [] if args.speed else None,
    }
    drawn, temperatures = {}, {}
    for model in models:
        own = seeds[model.name]
        runs: dict[tuple[str | None, str], list[Predictions]] = {}
        for seed in own:
            for encoding in seed.encodings:
                for name, pairs in sets.items():
                    judged = predictions_of(seed, pairs, encoding, args.predictions, args.batch_size)
                    runs.setdefault((encoding, name), []).append(judged)
            seed.unload()
        first = own[0]
        for (encoding, name), of_seeds in runs.items():
            row = {"model": model.name, "set": name, "encoding": encoding}
            results["results"].append({**row, **results_of(of_seeds)})
            shown = f"{model.name}, {encoding}" if encoding else model.name
            if model.name not in args.tables_only:
                drawn[shown, name] = of_seeds[0]
            if "temperature" in first.noted:
                temperatures[shown] = first.noted["temperature"]
        results["models"][model.name] = {
            "kind": first.kind,
            "base": first.base,
            "checkpoint": ",".join(map(public_name, model.checkpoints)),
            "trained_parameters": next(iter(runs.values()))[0].trained_parameters,
            "fine_tuned": first.fine_tuned,
            "seeds": [seed.noted["seed"] for seed in own if "seed" in seed.noted],
        }
    draw(drawn, temperatures, args.output_dir)
    if args.speed:
        pairs = next(iter(sets.values()))
        texts = list(zip(pairs.premises, pairs.hypotheses, strict=True))[: args.speed_pairs]
        for model in models:
            for encoding in seeds[model.name][0].encodings:
                results["speed"] += speed_of(model.text, encoding, texts, args.device)
    return results


def _require_names(names: list[str], what: str) -> None:
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(
            f"Two {what} are called {sorted(twice)[0]!r}, and results are kept by name: write `name=` before "
            "a model, or `?name=` after a set."
        )


def _there(name: str) -> bool:
    try:
        return bool(version(name))
    except ImportError:
        return False


def public_command(program: str, argv: Sequence[str]) -> str:
    """A command as results name it: without the folders of this machine."""
    words = (re.sub(r"(?<![^=,])(?:/|\.\./)[^,?&=]*/", "", word) for word in argv)
    return shlex.join(["python", program, *words])
