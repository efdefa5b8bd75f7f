"""Calibrate a checkpoint: thresholds that keep a target risk, from labelled pairs that it has never seen.

    python calibrate.py --model CHECKPOINT --data held_out.jsonl
    python calibrate.py --model CHECKPOINT --data a.jsonl b.csv --target_risk 0.05 --output CALIBRATED

The pairs are judged in every encoding that the heads know. What can be promised goes into the checkpoint's
config.json, and nothing else of it changes: `nli(pairs, target_risk=0.05)` then abstains so that at most 5 %
of the answers given are wrong. `--target_risk` also sets where the checkpoint abstains unless told
otherwise. With `--output` the checkpoint is copied there, and stays as it is.

    python calibrate.py --model CHECKPOINT --routes labelled.jsonl --categories categories.json

calibrates the decision of `route` for these categories instead: with `target_risk=0.05` it then declines so
that at most 5 % of the texts routed are routed wrongly. A line of the one file is {"text": …, "label": …}, a
label that is no category meaning that nothing fits; the other holds a hypothesis by category, or a list of
names.

DATA is what `train.py` reads: JSONL, CSV or Parquet files, or Hub datasets, with premise, hypothesis and
label. Neither the heads nor a choice among them may have seen it. No remote code is ever run.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from configuration_modernbert_nli import LABELS
from pair_files import InputError
from training.resume import folder_aside, write_aside

# torch and the like are loaded by what needs them: a mistyped option is told at once.

FEW_PAIRS = 1000
NOT_COVERED = (
    "other text, or the same sources in other shares: `nli.drift(results)` compares with these pairs",
    "each label, or each kind of pair, by itself",
    "the best of several pairs, such as the category that `route` chooses",
    "heads that were fitted to these pairs, or chosen by them",
    "dependence: pairs that share a premise tell less than as many that do not",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Judge, calibrate, write and report."""
    args = parse_args(argv)
    from calibration_modernbert_nli import promised_threshold
    from predict import load_pipeline

    try:
        _check_output(args.model, args.output)
        if args.routes:
            return _calibrate_routes(args)
        pairs = load(args.data)
        if (count := len(pairs["labels"])) < FEW_PAIRS:
            print(f"Only {count} pairs: more of them promise lower risks.", file=sys.stderr)
        pipe = load_pipeline(args.model, args.base, args.revision, args.device)
        calibration = calibrate(pipe, pairs, args.delta, args.batch_size)
        print(report(calibration))
        threshold = promised_threshold(calibration, pipe.model.config.encoding, args.target_risk)
        changes = {"calibration": calibration, "abstention_threshold": threshold}
        folder = write(changes, args.model, args.revision, args.output)
        print(f"\n{folder}: calibrated. It abstains from an uncertainty of {threshold:.3g} upwards.")
        return 0
    except (InputError, OSError, ValueError) as error:
        print(f"calibrate.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Calibrate a checkpoint.", allow_abbrev=False)
    add = parser.add_argument
    add("--model", required=True, help="checkpoint: folder, or repository id with --output")
    add("--data", nargs="+", help="labelled pairs, as for train.py")
    add("--routes", type=Path, help="JSONL file of labelled texts: calibrates routes instead of pairs")
    add("--categories", type=Path, help="JSON file of their categories")
    add("--delta", type=float, default=0.1, help="probability that a promise fails (default: %(default)s)")
    add("--target_risk", type=float, default=0.1, help="share of wrong answers (default: %(default)s)")
    add("--base", help="folder or repository id to take the checkpoint's base encoder from")
    add("--revision", help="commit or branch of the checkpoint's repository")
    add("--output", type=Path, help="new folder for the calibrated checkpoint (default: in place)")
    add("--batch_size", type=int, default=32, help="default: %(default)s")
    add("--device", help="such as cpu or cuda:1 (default: an accelerator if there is one)")
    args = parser.parse_args(argv)
    for name in ("delta", "target_risk"):
        if not 0 < getattr(args, name) < 1:
            parser.error(f"--{name} lies between 0 and 1, not {getattr(args, name)}")
    if bool(args.data) == bool(args.routes) or bool(args.routes) != bool(args.categories):
        parser.error("give --data for pairs, or --routes and --categories for routes")
    if args.batch_size < 1:
        parser.error(f"--batch_size must be at least 1, not {args.batch_size}")
    return args


def load(sources: Sequence[str]) -> dict[str, list[Any]]:
    """Premises, hypotheses and labels of all sources together, and the names of these.

    Raises:
        ValueError: a source that cannot be read, or that does not tell neutral from contradiction.
    """
    from training.data import load_pairs

    together: dict[str, list[Any]] = {"premises": [], "hypotheses": [], "labels": [], "names": []}
    for source in sources:
        pairs = load_pairs(source)
        if (pairs.labels >= len(LABELS)).any():
            raise ValueError(
                f"{source} is labelled entailment or not entailment, so that it does not show which of three "
                "labels are wrong. Calibrate on pairs with three labels."
            )
        together["premises"] += pairs.premises
        together["hypotheses"] += pairs.hypotheses
        together["labels"] += [LABELS[label] for label in pairs.labels]
        together["names"].append(pairs.name)
    return together


def calibrate(pipe: Any, pairs: dict[str, list[Any]], delta: float, batch_size: int = 32) -> dict[str, Any]:
    """The `calibration` for a pipeline's configuration, by each encoding that its heads know.

    Args:
        pipe (`NliAbstentionPipeline`): See `predict.load_pipeline`.
        pairs (`dict`): See `load`.
        delta (`float`): Probability that a promise fails.

    Raises:
        ValueError: the model has other labels, a pair cannot be judged, or there are too few.
    """
    from tqdm import tqdm

    from training.calibration import calibration_of

    config = pipe.model.config
    if set(config.id2label.values()) != set(LABELS):
        raise ValueError(f"The labels of the pairs are {LABELS}, those of the model {config.id2label}.")
    texts = list(zip(pairs["premises"], pairs["hypotheses"], strict=True))
    calibration = {}
    for encoding in config.encoder_layers:
        judged = pipe(iter(texts), encoding=encoding, batch_size=batch_size)
        results = list(tqdm(judged, total=len(texts), desc=encoding, unit="pair", disable=None))
        answers = [result["label"] for result in results]
        errors = np.array(answers) != np.array(pairs["labels"])
        uncertainty = np.array([result["uncertainty"] for result in results])
        calibration[encoding] = calibration_of(errors, uncertainty, answers, pairs["names"], delta)
    return calibration


def write(changes: dict[str, Any], model: str, revision: str | None, output: Path | None) -> Path:
    """Put what was calibrated into the checkpoint, or into a copy of it, all at once. Returns its folder."""
    folder = Path(model)
    if output is None:
        _write_config(folder, changes)
        return folder
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(model, revision=revision))
    with folder_aside(output) as aside:
        shutil.copytree(folder, aside, dirs_exist_ok=True)  # what links point to, not the links
        _write_config(aside, changes)
    return output


def report(calibration: dict[str, Any], what: str = "pairs") -> str:
    """What is promised, and what is not."""
    lines = []
    for encoding, entry in calibration.items():
        lines.append(f"{encoding} encoding, {entry['n']:,} {what}")
        lines.append("target risk  threshold  coverage  risk measured")
        for row in entry["table"]:
            shown = "cannot be promised"
            if row["threshold"] is not None:
                shown = f"{row['threshold']:>9.3f}  {row['coverage']:>8.1%}  {row['risk']:>13.1%}"
            lines.append(f"{row['target_risk']:>11.1%}  {shown}")
        lines.append("")
    lines.append(
        f"Each row is promised by itself, with probability {1 - entry['delta']:.0%} over the draw of pairs:\n"
        "below its threshold at most the target share of the answers is wrong in the long run, on pairs\n"
        f"drawn independently from where these came ({', '.join(entry['data'])}). Not covered:\n"
        + "\n".join(f"- {what}" for what in NOT_COVERED)
    )
    return "\n".join(lines)


def _calibrate_routes(args: argparse.Namespace) -> int:
    from calibration_modernbert_nli import promised_threshold
    from predict import load_pipeline
    from routing_modernbert_nli import UNFITTED

    texts, labels, categories = load_routes(args.routes, args.categories)
    pipe = load_pipeline(args.model, args.base, args.revision, args.device)
    calibration = calibrate_routes(pipe, texts, labels, categories, args.routes.name, args.delta)
    encoding = pipe.encoding
    print(report({encoding: calibration}, "routes"))
    threshold = promised_threshold({encoding: calibration}, encoding, args.target_risk)
    routing = pipe.model.config.routing or {}
    entry = {**routing.get(encoding, UNFITTED), "threshold": threshold, "calibration": calibration}
    folder = write({"routing": {**routing, encoding: entry}}, args.model, args.revision, args.output)
    print(f"\n{folder}: routes calibrated. They are declined from an uncertainty of {threshold:.3g} upwards.")
    return 0


def load_routes(texts: Path, categories: Path) -> tuple[list[str], list[str], Any]:
    """Texts, their labels, and the categories.

    Raises:
        InputError: a file that is missing or of another form; the line is named.
    """
    try:
        known = json.loads(categories.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{categories} is no JSON file of categories: {error}") from error
    rows = []
    for number, line in enumerate(texts.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            rows.append((str(row["text"]), str(row["label"])))
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f'{texts}, line {number}: expected {{"text": …, "label": …}} ({error}).'
            ) from error
    if not rows:
        raise InputError(f"{texts} holds no texts.")
    return [text for text, _ in rows], [label for _, label in rows], known


def calibrate_routes(
    pipe: Any, texts: list[str], labels: list[str], categories: Any, name: str, delta: float
) -> dict[str, Any]:
    """What goes into `calibration` of the `routing` of a pipeline's encoding.

    Raises:
        ValueError: categories or texts that cannot be meant, or too few texts.
    """
    from routing_modernbert_nli import as_categories
    from training.calibration import calibration_of

    known = as_categories(categories)
    routes = pipe.route(texts, categories)
    best = [routed["ranking"][0][0] for routed in routes]
    errors = np.array(best) != np.array(labels)
    uncertainty = np.array([routed["uncertainty"] for routed in routes])
    calibration = calibration_of(errors, uncertainty, best, [name], delta)
    return {**calibration, "categories": known.digest(), "of": len(known.names)}


def _check_output(model: str, output: Path | None) -> None:
    if output is None and not Path(model).is_dir():
        raise InputError(f"{model!r} is no folder: say by --output where its calibrated copy goes.")
    if output is not None and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output} exists and is not empty: name a new folder, or calibrate in place.")


def _write_config(folder: Path, changes: dict[str, Any]) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config.update(changes)
    write_aside(path, json.dumps(config, indent=2, sort_keys=True) + "\n")  # as transformers writes it


if __name__ == "__main__":
    sys.exit(main())
