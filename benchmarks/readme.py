"""Render the figures of README.md from the results files that the other programs here wrote.

python benchmarks/readme.py          write them
python benchmarks/readme.py --check  say whether they are up to date (exit status 1 if not)
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import finecat  # noqa: E402
import promise  # noqa: E402
import training_cost  # noqa: E402
from train_quickstart import table  # noqa: E402

README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
_BLOCK = re.compile(r"(<!-- (\w+): .*? -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def rendered(readme: str) -> str:
    """The README with its figures as the results files have them."""
    blocks = {
        "quality": lambda: _quality(_read(ROOT / "checkpoints" / "quickstart" / "results.json")),
        "speed": lambda: _speed([_read(path) for path in sorted(RESULTS.glob("speed*.json"))]),
        "training": lambda: _training(_read(RESULTS / "training-cost.json")),
        "finecat": lambda: finecat.table(_read(RESULTS / "finecat.json")),
        "promise": lambda: promise.table(_read(RESULTS / "promise.json")),
    }
    return _BLOCK.sub(lambda found: f"{found[1]}{blocks[found[2]]()}\n{found[3]}", readme)


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def _quality(results: dict[str, Any]) -> str:
    base, pairs = results["base"], results["pairs"]
    return "\n".join(
        [
            table(results),
            "",
            f"Base `{base['name']}` at `{base['revision']}`, {results['parameters']:,} parameters of heads. "
            f"Fitted to {pairs['fitted']:,} pairs ({', '.join(results['train'])}), "
            f"{pairs['held_out']:,} held out for the temperature and stage 2, {pairs['calibration']:,} for "
            f"the promise that at most {results['target_risk']:.0%} of the answers given are wrong. "
            f"Mean ± standard deviation over {len(results['seeds'])} seeds, of which the checkpoint is seed "
            f"{results['seed']}; {results['date']}.",
            f"Written by `{results['command']}`.",
        ]
    )


def _speed(runs: list[dict[str, Any]]) -> str:
    lines = ["| Seconds of one / seconds of the other, on CPU | Ratio | Least to most |", "|---|---|---|"]
    for run in runs:
        for name, row in run["ratios"].items():
            lines.append(f"| {name} | {row['ratio']:.3g} | {row['least']:.3g} to {row['most']:.3g} |")
    made = (f"`{run['command']}` ({run['threads']} threads, {run['date']})" for run in runs)
    return "\n".join([*lines, "", f"Written by {' and '.join(made)}."])


def _training(results: dict[str, Any]) -> str:
    epochs = " + ".join(str(count) for count in results["epochs"].values())
    return "\n".join(
        [
            training_cost.table(results),
            "",
            f"{results['pairs']:,} pairs, {epochs} epochs, a cold cache; plain passes: seconds of the run "
            "over those of one plain, length-sorted pass of the encoder over the same pairs. Memory: what "
            "the process has of its own, beside what it maps of the cache. "
            f"Base `{results['base']['name']}`, {results['threads']} threads, {results['date']}, "
            f"`{results['command']}`.",
        ]
    )


def main() -> int:
    """Write or check."""
    readme = README.read_text()
    new = rendered(readme)
    if "--check" in sys.argv[1:]:
        return int(new != readme)
    README.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
