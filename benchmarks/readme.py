"""Render the figures of README.md from the results of the quick start checkpoint.

python benchmarks/readme.py          write them
python benchmarks/readme.py --check  say whether they are up to date (exit status 1 if not)
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from train_quickstart import table  # noqa: E402

README = ROOT / "README.md"
RESULTS = ROOT / "checkpoints" / "quickstart" / "results.json"
_BLOCK = re.compile(r"(<!-- figures: .*? -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def rendered(readme: str) -> str:
    """The README with its figures as the results file has them."""
    results = json.loads(RESULTS.read_text())
    base, pairs = results["base"], results["pairs"]
    text = "\n".join(
        [
            table(results),
            "",
            f"Base `{base['name']}` at `{base['revision']}`, {results['parameters']:,} parameters of heads. "
            f"Fitted to {pairs['fitted']:,} pairs ({', '.join(results['train'])}), "
            f"{pairs['held_out']:,} held out; "
            f"the threshold lets {results['target_risk']:.0%} of those accepted be wrong. "
            f"Mean ± standard deviation over {len(results['seeds'])} seeds, of which the checkpoint is seed "
            f"{results['seed']}; {results['date']}.",
            f"Written by `{results['command']}`.",
        ]
    )
    return _BLOCK.sub(lambda found: f"{found[1]}{text}\n{found[2]}", readme)


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
