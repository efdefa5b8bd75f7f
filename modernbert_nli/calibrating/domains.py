"""What can be guaranteed for a kind of text that the heads have not seen: fit to domains left out in turn.

    python -m modernbert_nli.calibrating.domains --data DATA
        measure
    python -m modernbert_nli.calibrating.domains --data DATA --fit CHECKPOINT
        and write what is guaranteed into CHECKPOINT

DATA holds `train/`, `breadth/` and `eval/`. Heads are trained without each fold of domains, and judge these:
see `left_out.py`. Of everything a part is enough: `--shares` of the weights at home, and of those elsewhere.
What follows from these judgements, and holds of it, says `over_domains.py`. Writes, for each encoding,
`experiments/results/guarantee-domains-further-ENCODING.json` and `.md`; with `--fit` also what a target risk
then means for another domain, into the calibration of a checkpoint that learnt from the mix `further`.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils.logging import set_verbosity_error

from ..evaluation.contestants import Heads, contestants, parse_model
from ..files import write_aside
from ..training.arguments import HeadArguments
from ..training.calibration import DELTA
from ..training.metrics import wrong
from .command import CALIBRATED, write
from .left_out import GOING_ON, ROOT, Data, Recipe, domains, judgements
from .over_domains import Domains, domain_guarantee, left_out

MIX = "further"  # what the quick start learns from
RESULTS = ROOT / "experiments" / "results"
KINDS = {"domains": "for new kinds of text", "pairs": "for pairs"}


def main() -> None:
    """Train what is missing, measure, and fit if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with train/, breadth/ and eval/")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument(
        "--shares", nargs=2, type=float, default=[0.3, 0.5], help="of the weights (default: 0.3 0.5)"
    )
    parser.add_argument("--epochs", type=float, default=1.0, help="default: %(default)s")
    parser.add_argument("--fit", type=Path, metavar="CHECKPOINT", help="whose calibration is to be changed")
    args = parser.parse_args()
    set_verbosity_error()

    data = Data(args.data, HeadArguments(base_dtype="bfloat16"))
    recipe = Recipe(MIX, args.shares[0], args.shares[1], args.epochs, GOING_ON)
    seeds = [judgements(recipe, seed, data).left_out for seed in args.seeds]
    guarantees = {}
    for encoding in next(iter(seeds[0].values())):
        judged = {name: sample(seeds, names, encoding) for name, names in domains().items()}
        guarantees[encoding] = domain_guarantee(judged)
        report(judged, guarantees[encoding], encoding)
    if args.fit:
        store(guarantees, args.fit)


def sample(
    seeds: Sequence[Mapping[str, Any]], names: Sequence[str], encoding: str
) -> tuple[np.ndarray, np.ndarray]:
    """Errors and uncertainty of a domain's files; judgements of all seeds are one sample."""
    said = [of_seed[name][encoding] for of_seed in seeds for name in names]
    errors = np.concatenate([wrong(one["logits"], one["labels"]) for one in said])
    return errors, np.concatenate([one["uncertainty"] for one in said])


def report(judged: Domains, guarantee: dict[str, Any], encoding: str) -> None:
    """Write what is guaranteed, and what each domain gets under the guarantee of the others."""
    results = {
        "date": date.today().isoformat(),
        "command": "python -m modernbert_nli.calibrating.domains --data DATA",
        "delta": DELTA,
        "guarantee": guarantee,
        "left_out": left_out(judged),
    }
    path = RESULTS / f"guarantee-domains-{MIX}-{encoding}.json"
    write_aside(path, json.dumps(results, indent=2) + "\n")
    write_aside(path.with_suffix(".md"), table(results) + "\n")
    print(f"{encoding} encoding\n\n{table(results)}\n")


def store(guarantees: dict[str, Any], checkpoint: Path) -> None:
    """Put the guarantee for another domain beside that for pairs like calibration's.

    Raises:
        ValueError: the checkpoint's uncertainty is another than that of these heads, which is MaxProb's.
    """
    (heads,) = contestants(parse_model(str(checkpoint)))
    assert isinstance(heads, Heads)
    model = heads.pipe.model
    if model.config.abstention_weight:
        raise ValueError(
            f"{checkpoint} does not abstain by MaxProb: this guarantee is not for its uncertainty."
        )
    calibration = {
        encoding: {**entry, "domains": guarantees[encoding]} for encoding, entry in model.calibration.items()
    }
    model.set_calibration(calibration, model.config.abstention_threshold)
    write({name: getattr(model.config, name) for name in CALIBRATED}, str(checkpoint), None, None)


def table(results: dict[str, Any]) -> str:
    """Markdown: domains left out in turn at each target, then each of them."""
    lines = [
        "Left out in turn:",
        "",
        "| Guarantee | Target risk | Broken | Coverage | Worst risk | Which |",
        "|---" * 6 + "|",
    ]
    for kind, rows in results["left_out"].items():
        for row in rows:
            cells = [f"{row['target_risk']:.1%}", "nothing guaranteed", "", "", ""]
            if row["guaranteed"]:
                shown = (row["broken"], row["coverage"], row["worst_risk"])
                cells[1:] = [*map(_percent, shown), ", ".join(row["which"])]
            lines.append(f"| {KINDS[kind]} | {' | '.join(cells)} |")
    guarantee = results["guarantee"]
    if guarantee["at"] is not None:
        lines += ["", f"At a target of {guarantee['at']:.1%}:", ""]
        lines += ["| Domain | Pairs | Risk of all | Coverage | Risk |", "|---" * 5 + "|"]
        for row in guarantee["each"]:
            shares = " | ".join(_percent(row[key]) for key in ("error", "coverage", "risk"))
            lines.append(f"| {row['name']} | {row['pairs']:,} | {shares} |")
    note = f"{guarantee['n']} domains left out; {results['delta']:.0%} may break a guarantee."
    return "\n".join([*lines, "", note, "", f"{results['date']}, `{results['command']}`."])


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


if __name__ == "__main__":
    main()
