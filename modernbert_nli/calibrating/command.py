"""Calibrate a checkpoint: thresholds that keep a target risk, from labelled pairs that it has never seen.

    python calibrate.py --model CHECKPOINT --data held_out.jsonl
    python calibrate.py --model CHECKPOINT --data a.jsonl b.csv --target_risk 0.05 --output CALIBRATED
    python calibrate.py --model CHECKPOINT --data held_out.jsonl --group_by genre
    python calibrate.py --model CHECKPOINT --data hundred_pairs.jsonl --measure
    python calibrate.py --model EXPORTED --backend onnx-int8 --data held_out.jsonl

The pairs are judged in every encoding that the heads know. What can be guaranteed goes into the checkpoint's
calibration.json, the threshold into its config.json, and nothing else of it changes:
`nli(pairs, target_risk=0.05)` then abstains so that at most 5 % of the answers given are wrong.
`--target_risk` also sets where the checkpoint abstains unless told otherwise. With `--output` the checkpoint
is copied there, and stays as it is.

A guarantee is for all pairs together: some kinds of them may be judged worse, others better. With
`--group_by` each value of a column gets a guarantee of its own, without it each of several sources:
`nli(pairs, target_risk=0.05, like="fiction")`. The guarantee of these pairs takes the place of what the
checkpoint guaranteed before, also for text of a kind never seen.

First it is said what the risk of the pairs is where the checkpoint abstains now, with its 95 % interval: that
takes fewer pairs than a guarantee, and with `--measure` it is all that is done.

    python calibrate.py --model CHECKPOINT --routes labelled.jsonl --categories categories.json

calibrates the decision of `route` for these categories instead: with `target_risk=0.05` it then declines so
that at most 5 % of the texts routed are routed wrongly. A row of the one file (JSONL, CSV or Parquet) is
{"text": …, "label": …}, the label null, "none" or "oos" meaning that nothing fits; the other holds a
hypothesis by category, or a list of names.

`--backend` judges by the graphs that `export.py` wrote. Those in int8 have a guarantee and a threshold of
their own, beside them: nothing that holds for float32 is changed.

DATA is what `train.py` reads: JSONL, CSV or Parquet files, or Hub datasets, with premise, hypothesis and
label. Neither the heads nor a choice among them may have seen it. No remote code is ever run.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..files import InputError, folder_aside, require_new, write_aside
from ..options import add_options, check_options, parser_of, pipeline_of, run
from ..prediction.pair_files import open_rows
from ..prediction.route_command import read_categories

if TYPE_CHECKING:
    from ..pipeline_modernbert_nli import NliAbstentionPipeline

# torch and the like are loaded by what needs them: a mistyped option is told at once.

COMMAND = "calibrate.py"
FEW_PAIRS = 1000
MAX_GROUPS = 50  # which are stored with the checkpoint
CALIBRATED = ("calibration", "calibrated_heads", "abstention_threshold")  # what `model.set_calibration` sets
NOT_COVERED = (
    "other text, or the same sources in other shares",
    "each label, or each kind of pair, by itself, but for the groups that are named",
    "the best of several pairs, such as the category that `route` chooses",
    "heads that were fitted to these pairs, or chosen by them",
    "dependence: pairs that share a premise tell less than as many that do not",
)
ROUTES_NOT_COVERED = (
    "other texts, or texts that nothing fits in another share than here",
    "other categories, hypotheses or examples: `route` refuses to guarantee anything for them",
    "each category by itself",
    "`several=True`, where each category is decided on by itself",
    "texts that are declined: some of them may have a category",
    "routes or heads that were fitted to these texts, or chosen by them",
    "dependence: texts of the same person tell less than as many of different ones",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Judge, calibrate, write and report."""
    args = parse_args(argv)
    return run(COMMAND, partial(_calibrate_routes if args.routes else _calibrate_pairs, args))


def _calibrate_pairs(args: argparse.Namespace) -> None:
    from ..calibration import guaranteed_threshold

    if not args.measure:
        _check_output(args.model, args.output)
    pairs = load(args.data, args.group_by)
    pipe = pipeline_of(args)
    own = pipe.model.config.encoding
    judged = judge(pipe, pairs, [own] if args.measure else None, args.batch_size)
    print(risk_now(judged[own], pipe.threshold))
    if args.measure:
        return
    if (count := len(pairs["labels"])) < FEW_PAIRS:
        print(f"Only {count} pairs: more of them guarantee lower risks.", file=sys.stderr)
    calibration = calibrate(judged, pairs, args.delta)
    print(f"\n{report(calibration)}")
    if "domains" in (pipe.model.config.calibration or {}).get(own, {}):
        print("\nThe guarantee for text of a kind never seen is given up for that of these pairs.")
    threshold = guaranteed_threshold(calibration, pipe.model.config.encoding, args.target_risk)
    pipe.model.set_calibration(calibration, threshold)
    changes = {name: getattr(pipe.model.config, name) for name in CALIBRATED}
    folder = write(changes, args.model, args.revision, args.output, args.backend == "onnx-int8")
    print(f"\n{folder}: calibrated. It abstains from an uncertainty of {threshold:.3g} upwards.")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    usage = "python calibrate.py --model CHECKPOINT --data FILE [FILE ...] [option ...]"
    parser = parser_of(COMMAND, usage, __doc__)
    add = parser.add_argument_group("what is calibrated, on what").add_argument
    add_options(add, "model", required=True)
    add("--data", nargs="+", help="labelled pairs, as for train.py")
    add("--routes", type=Path, help="file of labelled texts: calibrates routes instead of pairs")
    add("--categories", type=Path, help="JSON file of their categories")
    add = parser.add_argument_group("what is guaranteed").add_argument
    add("--delta", type=float, default=0.1, help="probability that a guarantee fails (default: %(default)s)")
    add("--target_risk", type=float, default=0.1, help="share of wrong answers (default: %(default)s)")
    add("--group_by", metavar="COLUMN", help="guarantee by each of its values too (default: by each of DATA)")
    add("--measure", action="store_true", help="only say the risk where the checkpoint abstains now")
    add = parser.add_argument_group("the checkpoint, and how it is run").add_argument
    add("--output", type=Path, help="new folder for the calibrated checkpoint (default: in place)")
    add_options(add, "base", "revision", "batch_size", "device", "backend")
    args = parser.parse_args(argv)
    for name in ("delta", "target_risk"):
        if not 0 < getattr(args, name) < 1:
            parser.error(f"--{name} lies between 0 and 1, not {getattr(args, name)}")
    if bool(args.data) == bool(args.routes) or bool(args.routes) != bool(args.categories):
        parser.error("give --data for pairs, or --routes and --categories for routes")
    if args.routes and args.backend:
        parser.error("--backend goes with --data")
    check_options(parser, args)
    return args


def load(sources: Sequence[str], group_by: str | None = None) -> dict[str, list[Any]]:
    """Premises, hypotheses, labels and groups of all sources together, and the names of these.

    Raises:
        ValueError: a source that cannot be read, or that does not tell neutral from contradiction; a column
            whose values are too many to be groups.
    """
    from ..configuration_modernbert_nli import LABELS
    from ..training.data import load_pairs

    columns = ("premises", "hypotheses", "labels", "groups", "names")
    together: dict[str, list[Any]] = {name: [] for name in columns}
    for source in sources:
        pairs = load_pairs(source, group_by=group_by)
        if (pairs.labels >= len(LABELS)).any():
            raise ValueError(
                f"{source} is labelled entailment or not entailment, so that it does not show which of three "
                "labels are wrong. Calibrate on pairs with three labels."
            )
        together["premises"] += pairs.premises
        together["hypotheses"] += pairs.hypotheses
        together["labels"] += [LABELS[label] for label in pairs.labels]
        together["groups"] += pairs.groups or [pairs.name] * len(pairs)
        together["names"].append(pairs.name)
    if (count := len(set(together["groups"]))) > MAX_GROUPS:
        raise ValueError(
            f"{len(together['labels']):,} pairs in {count:,} groups: {MAX_GROUPS} are the most that are kept "
            "apart. Group by a column of fewer values."
        )
    return together


class CalibrationPairs(NamedTuple):
    """The answers to pairs in an encoding, which of them are wrong, and how uncertain they are, (n,) each."""

    answers: list[str]
    errors: np.ndarray
    uncertainty: np.ndarray


def judge(
    pipe: "NliAbstentionPipeline",
    pairs: dict[str, list[Any]],
    encodings: Sequence[str] | None = None,
    batch_size: int = 32,
) -> dict[str, CalibrationPairs]:
    """Judge all pairs in each of the encodings, by default in all that the heads know.

    Args:
        pipe (`NliAbstentionPipeline`): See `loading.load_pipeline`.
        pairs (`dict`): See `load`.

    Raises:
        ValueError: the model has other labels, or a pair cannot be judged.
    """
    from tqdm import tqdm

    from ..configuration_modernbert_nli import LABELS

    config = pipe.model.config
    if set(config.id2label.values()) != set(LABELS):
        raise ValueError(f"The labels of the pairs are {LABELS}, those of the model {config.id2label}.")
    texts = list(zip(pairs["premises"], pairs["hypotheses"], strict=True))
    judged = {}
    for encoding in encodings or config.encoder_layers:
        stream = pipe(iter(texts), encoding=encoding, batch_size=batch_size)
        results = list(tqdm(stream, total=len(texts), desc=encoding, unit="pair", disable=None))
        answers = [result["label"] for result in results]
        errors = np.array(answers) != np.array(pairs["labels"])
        judged[encoding] = CalibrationPairs(
            answers, errors, np.array([result["uncertainty"] for result in results])
        )
    return judged


def calibrate(
    judged: dict[str, CalibrationPairs], pairs: dict[str, list[Any]], delta: float
) -> dict[str, Any]:
    """The `calibration` for a configuration, by encoding, from what `judge` found of the pairs.

    Args:
        delta (`float`): Probability that a guarantee fails.

    Raises:
        ValueError: there are too few pairs.
    """
    from ..training.calibration import calibration_of

    return {
        encoding: calibration_of(
            found.errors, found.uncertainty, found.answers, pairs["names"], delta, pairs["groups"]
        )
        for encoding, found in judged.items()
    }


def risk_now(judged: CalibrationPairs, threshold: float) -> str:
    """What the risk of the pairs is at a threshold, in a sentence."""
    from ..training.calibration import measured_risk

    found = measured_risk(judged.errors, judged.uncertainty, threshold)
    start = f"Abstaining from an uncertainty of {threshold:.3g} upwards, as now, it answers"
    if found["risk"] is None:
        return f"{start} none of these {found['pairs']:,} pairs, so that nothing is known of its risk."
    return (
        f"{start} {found['accepted']:,} of these {found['pairs']:,} pairs, {found['wrong']:,} of them wrong: "
        f"a risk of {found['risk']:.1%}, and of pairs drawn like these, with 95% confidence, between "
        f"{found['low']:.1%} and {found['high']:.1%} (Clopper-Pearson)."
    )


def write(
    changes: dict[str, Any], model: str, revision: str | None, output: Path | None, int8: bool = False
) -> Path:
    """Put what was calibrated into the checkpoint, or into a copy of it, all at once. Returns its folder."""
    folder = Path(model)
    write_into = _write_int8 if int8 else _write_config
    if output is None:
        write_into(folder, changes)
        return folder
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(model, revision=revision))
    with folder_aside(output) as aside:
        shutil.copytree(folder, aside, dirs_exist_ok=True)  # what links point to, not the links
        write_into(aside, changes)
    return output


def report(calibration: dict[str, Any], what: str = "pairs", not_covered: Sequence[str] = NOT_COVERED) -> str:
    """What is guaranteed, and what is not."""
    lines = []
    for encoding, entry in calibration.items():
        lines.append(f"{encoding} encoding, {entry['n']:,} {what}")
        lines += [*_rows(entry), ""]
        for name, group in entry.get("groups", {}).items():
            lines.append(f"{encoding} encoding, {name}, {group['n']:,} pairs")
            lines += [*_rows(group), ""]
    lines.append(
        f"Each row is guaranteed by itself, with probability {1 - entry['delta']:.0%} over the draw of "
        f"{what}:\nbelow its threshold at most the target share of the answers is wrong in the long run, on "
        f"{what}\ndrawn independently from where these came ({', '.join(entry['data'])}). Not covered:\n"
        + "\n".join(f"- {left_open}" for left_open in not_covered)
    )
    return "\n".join(lines)


def _rows(guarantee: dict[str, Any]) -> list[str]:
    if all(row["threshold"] is None for row in guarantee["table"]):
        return ["nothing can be guaranteed"]
    lines = ["target risk  threshold  coverage  risk measured"]
    for row in guarantee["table"]:
        shown = "cannot be guaranteed"
        if row["threshold"] is not None:
            shown = f"{row['threshold']:>9.3f}  {row['coverage']:>8.1%}  {row['risk']:>13.1%}"
        lines.append(f"{row['target_risk']:>11.1%}  {shown}")
    return lines


def _calibrate_routes(args: argparse.Namespace) -> None:
    from ..calibration import guaranteed_threshold
    from ..configuration_modernbert_nli import UNFITTED

    if not args.measure:
        _check_output(args.model, args.output)
    texts, labels, categories = load_routes(args.routes, args.categories)
    pipe = pipeline_of(args)
    calibration = calibrate_routes(pipe, texts, labels, categories, args.routes.name, args.delta)
    encoding = pipe.encoding
    print(report({encoding: calibration}, "routes", ROUTES_NOT_COVERED))
    threshold = guaranteed_threshold({encoding: calibration}, encoding, args.target_risk)
    routing = pipe.model.config.routing or {}
    entry = {**routing.get(encoding, UNFITTED), "threshold": threshold, "calibration": calibration}
    folder = write({"routing": {**routing, encoding: entry}}, args.model, args.revision, args.output)
    print(f"\n{folder}: routes calibrated. They are declined from an uncertainty of {threshold:.3g} upwards.")


def load_routes(texts: Path, categories: Path) -> tuple[list[str], list[Any], Any]:
    """Texts, their labels, and the categories.

    Args:
        texts (`Path`): JSONL, a JSON array, CSV or Parquet, as `predict.py` reads them.
        categories (`Path`): JSON: hypotheses by category, or names.

    Raises:
        InputError: a file that is missing or of another form, or a row without a text or with a label that is
            no category; the row is named.
    """
    from ..categories import answers_of, as_categories
    from ..tokenization import PairError, check_text

    known = read_categories(categories)
    names = as_categories(known)
    rows = open_rows(texts)
    found = []
    for number, (values, problem) in enumerate(rows, 1):
        try:
            if problem is None and not {"text", "label"} <= set(values):
                problem = f"there is no {'label' if 'text' in values else 'text'}"
            if problem:
                raise PairError(0, f'expected {{"text": …, "label": …}} ({problem.rstrip(".")}).')
            check_text(values["text"], "text")
            answers_of([values["label"]], names)
        except PairError as error:
            raise InputError(f"{texts}, row {number}: {error.reason}") from None
        found.append((values["text"], values["label"]))
    if not found:
        raise InputError(f"{texts} holds no texts.")
    return [text for text, _ in found], [label for _, label in found], known


def calibrate_routes(
    pipe: "NliAbstentionPipeline",
    texts: list[str],
    labels: list[Any],
    categories: Any,
    name: str,
    delta: float,
) -> dict[str, Any]:
    """What goes into `calibration` of the `routing` of a pipeline's encoding.

    Raises:
        ValueError: categories, texts or labels that cannot be meant, or too few texts.
    """
    from ..categories import answers_of, as_categories
    from ..training.calibration import calibration_of

    known = as_categories(categories)
    routes = pipe.route(texts, categories)
    best = [routed["ranking"][0][0] for routed in routes]
    errors = np.array(answers_of(best, known)) != np.array(answers_of(labels, known))
    uncertainty = np.array([routed["uncertainty"] for routed in routes])
    calibration = calibration_of(errors, uncertainty, best, [name], delta)
    about = {"categories": known.digest(), "of": len(known.names), "heads": pipe.model.heads_digest()}
    return {**calibration, **about}


def _check_output(model: str, output: Path | None) -> None:
    if output is None and not Path(model).is_dir():
        raise InputError(f"{model!r} is no folder: say by --output where its calibrated copy goes.")
    if output is not None:
        require_new(output, "calibrate in place")


def _write_config(folder: Path, changes: dict[str, Any]) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config.update(changes)
    if "calibration" in changes:  # in a file of its own, wherever an earlier version had it
        from ..calibration import FILE, write_calibration

        aside = folder / f"{FILE}.new"
        write_calibration(aside, config.pop("calibration"), config["calibrated_heads"])
        aside.replace(folder / FILE)
    write_aside(path, json.dumps(config, indent=2, sort_keys=True) + "\n")  # as transformers writes it


def _write_int8(folder: Path, changes: dict[str, Any]) -> None:
    from ..calibration import compact
    from ..onnx_backend import FOLDER, INT8_GUARANTEE

    stored = {**changes, "calibration": compact(changes["calibration"])}
    write_aside(folder / FOLDER / INT8_GUARANTEE, json.dumps(stored, separators=(",", ":")) + "\n")
