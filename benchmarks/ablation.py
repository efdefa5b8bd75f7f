"""What each part of the head is worth: variants of it trained on the same pairs, over the same seeds.

    python benchmarks/ablation.py --train snli_validation.jsonl --eval snli_test_a.jsonl

One head serves both encodings, unless the variant says otherwise. Stage 1 alone is run, on all pairs.
Finished runs under `runs/ablation` are not repeated. Prints a table, accuracy beside the difference to the
reference with a paired bootstrap interval, and writes it to `benchmarks/results/ablation.json` and `.md`.
"""

import argparse
import hashlib
import json
import statistics
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import set_seed
from transformers.utils.logging import set_verbosity_error

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from variants import VARIANTS, Variant  # noqa: E402

from modernbert_nli import embedded  # noqa: E402
from modernbert_nli.configuration_modernbert_nli import ModernBertNliConfig  # noqa: E402
from modernbert_nli.heads import HEADS  # noqa: E402
from modernbert_nli.modeling_modernbert_nli import ModernBertNliModel  # noqa: E402
from modernbert_nli.training.arguments import HeadArguments, StageArguments  # noqa: E402
from modernbert_nli.training.cache import Precision, cache_states  # noqa: E402
from modernbert_nli.training.data import Pairs, load_pairs  # noqa: E402
from modernbert_nli.training.metrics import bootstrap_difference, wrong  # noqa: E402
from modernbert_nli.training.report import head_parameters  # noqa: E402
from modernbert_nli.training.states import PairStates  # noqa: E402
from modernbert_nli.training.trainers import NliTrainer, predict  # noqa: E402

STATES = ROOT / "runs" / "states"
Right = dict[str, np.ndarray]  # by "set, encoding": which pairs of the set were judged right


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", nargs="+", required=True, help="files of pairs to learn from")
    parser.add_argument("--eval", nargs="+", required=True, help="files of pairs to measure on")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--epochs", type=float, default=5.0)
    parser.add_argument("--bf16", action="store_true", help="train the heads in bfloat16")
    parser.add_argument("--name", default="ablation", help="of the results")
    args = parser.parse_args()
    set_verbosity_error()

    train, evaluation = map(load_pairs, args.train), list(map(load_pairs, args.eval))
    training = {"num_train_epochs": args.epochs, "bf16": args.bf16}
    pairs = _together(list(train))
    right = {
        name: [_run(name, pairs, evaluation, seed, training) for seed in args.seeds] for name in args.variants
    }
    results = {
        "date": date.today().isoformat(),
        "command": "python benchmarks/ablation.py --train "
        + " ".join(Path(file).name for file in args.train)
        + " --eval "
        + " ".join(Path(file).name for file in args.eval)
        + " --bf16" * args.bf16,
        "base": {"name": embedded.BASE, "revision": embedded.BASE_REVISION},
        "pairs": len(pairs),
        "seeds": args.seeds,
        "training": training,
        "variants": {name: _row(name, right) for name in args.variants},
    }
    folder = ROOT / "benchmarks" / "results"
    folder.mkdir(exist_ok=True)
    (folder / f"{args.name}.json").write_text(json.dumps(results, indent=2) + "\n")
    (folder / f"{args.name}.md").write_text(table(results) + "\n")
    print(table(results))


def _together(parts: list[Pairs]) -> Pairs:
    return Pairs(
        "+".join(part.name for part in parts),
        [text for part in parts for text in part.premises],
        [text for part in parts for text in part.hypotheses],
        np.concatenate([part.labels for part in parts]),
    )


def _run(name: str, pairs: Pairs, evaluation: list[Pairs], seed: int, training: dict[str, Any]) -> Right:
    variant = VARIANTS[name]
    identity = [str(variant), seed, training, pairs.name, len(pairs), [part.name for part in evaluation]]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
    path = ROOT / "runs" / "ablation" / f"{name}-{seed}-{digest}.npz"
    if not path.exists():
        right = _trained(variant, pairs, evaluation, seed, training)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".new.npz")
        np.savez(aside, **right)  # type: ignore[arg-type]
        aside.replace(path)
    return dict(np.load(path))


def _trained(
    variant: Variant, pairs: Pairs, evaluation: list[Pairs], seed: int, training: dict[str, Any]
) -> Right:
    set_seed(seed)
    model = new_heads(variant)
    fitted = cache_states(model, pairs, STATES, precision=variant.precision)
    if variant.swap_contradictions:
        contradictions = pairs.take(np.flatnonzero(pairs.labels == 2))
        contradictions.premises, contradictions.hypotheses = (
            contradictions.hypotheses,
            contradictions.premises,
        )
        contradictions.name += "_swapped"
        fitted = PairStates.concatenate([fitted, cache_states(model, contradictions, STATES)])
    trainer = fit(model, fitted, seed, training)
    return right_answers(trainer, model, evaluation, variant.precision)


def fit(
    model: ModernBertNliModel, fitted: PairStates, seed: int, training: dict[str, Any], **losses: float
) -> NliTrainer:
    """Stage 1 alone, without a file of it being kept."""
    arguments = StageArguments(
        output_dir=str(ROOT / "runs" / "ablation" / "trainer"),
        seed=seed,
        eval_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        **training,
    )
    trainer = NliTrainer(model=model, args=arguments, train_dataset=fitted, **losses)
    trainer.train()
    return trainer


def right_answers(
    trainer: NliTrainer,
    model: ModernBertNliModel,
    evaluation: list[Pairs],
    precision: Precision | None = None,
) -> Right:
    """By set and encoding, which pairs are judged right."""
    right = {}
    for part in evaluation:
        states = cache_states(model, part, STATES, precision=precision)
        for encoding in states.encoded:
            figures = predict(trainer, states.only(encoding))
            right[f"{part.name}, {encoding}"] = ~wrong(figures["logits"], figures["labels"])
    return right


def new_heads(variant: Variant) -> ModernBertNliModel:
    """Heads of a variant on the embedded base."""
    settings = {
        "head_type": "alignment",
        "encoding": "joint",
        "head_dropout": HeadArguments.head_dropout,
        **variant.config,
    }
    if list(settings.get("encoder_layers", {"joint": []})) == ["separate"]:
        settings["encoding"] = "separate"
    known, HEADS["alignment"] = HEADS["alignment"], variant.head
    try:
        config = ModernBertNliConfig.from_base(
            embedded.BASE, embedded.BASE_REVISION, str(embedded.base_folder()), **settings
        )
        return ModernBertNliModel.from_base(config)
    finally:
        HEADS["alignment"] = known


def _row(name: str, right: dict[str, list[Right]]) -> dict[str, Any]:
    parameters = head_parameters(new_heads(VARIANTS[name]))
    reference = right.get("reference") if name != "reference" else None
    figures = {measured: compare(measured, right[name], reference) for measured in right[name][0]}
    return {"what": VARIANTS[name].what, "parameters": parameters, "accuracy": figures}


def compare(measured: str, runs: list[Right], reference: list[Right] | None) -> dict[str, Any]:
    """Accuracy over the seeds, and beside a reference its difference with the paired interval."""
    ours = np.stack([run[measured] for run in runs])
    by_seed = ours.mean(axis=1).tolist()
    figures: dict[str, Any] = {"mean": statistics.mean(by_seed), "by_seed": by_seed}
    if len(by_seed) > 1:
        figures["sd"] = statistics.stdev(by_seed)
    if reference is not None and measured in reference[0]:
        theirs = np.stack([run[measured] for run in reference])
        figures["difference"] = float(ours.mean() - theirs.mean())
        figures["interval"] = bootstrap_difference(ours, theirs)
    return figures


def table(results: dict[str, Any]) -> str:
    """Markdown: a row for each variant, a column for each set and encoding."""
    columns = list(dict.fromkeys(key for row in results["variants"].values() for key in row["accuracy"]))
    lines = ["| Variant | Parameters | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for row in results["variants"].values():
        cells = [cell(row["accuracy"].get(column)) for column in columns]
        lines.append(f"| {row['what']} | {row['parameters']:,} | " + " | ".join(cells) + " |")
    seeds = len(results["seeds"])
    lines += [
        "",
        f"Accuracy, mean ± standard deviation of {seeds} seeds; in brackets the difference to the first row, "
        f"with its 95 % interval (paired bootstrap over seeds and pairs). {results['pairs']:,} pairs, "
        f"{results['training']['num_train_epochs']:g} epochs, base `{results['base']['name']}`; "
        f"{results['date']}, `{results['command']}`.",
    ]
    return "\n".join(lines)


def cell(figures: dict[str, Any] | None) -> str:
    """Mean ± standard deviation (difference: interval), in percent."""
    if figures is None:
        return "–"
    text = f"{figures['mean']:.1%} ± {100 * figures.get('sd', 0):.1f}"
    if "interval" in figures:
        low, high = figures["interval"]
        text += f" ({100 * figures['difference']:+.1f}: {100 * low:+.1f} to {100 * high:+.1f})"
    return text


if __name__ == "__main__":
    main()
