"""Render what README.md and docs/ show: figures of results files, the outputs of snippets, the overview.

python docs/render/readme.py          write them
python docs/render/readme.py --check  say whether they are up to date (exit status 1 if not)
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

import overview  # noqa: E402
import snippets  # noqa: E402

from modernbert_nli.evaluation import tables  # noqa: E402
from modernbert_nli.training.quickstart import table  # noqa: E402

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
QUICKSTART = ROOT / "checkpoints" / "quickstart" / "results.json"
RESULTS = ROOT / "experiments" / "results"
EVALUATION = ROOT / "docs" / "results" / "evaluation.json"
BEFORE = ROOT / "docs" / "results" / "version-0.1" / "evaluation.json"
# By the name of a block, the table that a program wrote for it.
WRITTEN = {
    "speed": "reuse",
    "training": "training",
    "finecat": "finecat",
    "guarantee": "guarantee",
    "domains": "domains",
    "left_out": "guarantee-domains-further-separate",
    "new_kinds": "guarantee-domains",
    "routing": "routes",
    "documents": "documents",
    "windows": "windows/documents",
    "check_cost": "check",
    "familiarity": "familiarity-summary",
    "onnx": "decisions",
    "onnx_speed": "graphs",
    "onnx_speed_modernbert": "graphs-base",
    "passages": "passages",
    "serving": "service",
    "scores": "abstention",
    "larger_base": "larger-base",
    "ceiling": "ceiling",
    "lora": "lora",
    "adapt": "adapt",
    "peers": "pairs",
    "costs": "costs",
}
_BLOCK = re.compile(r"(<!-- (\w+): (.*?) -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def rendered(page: str) -> str:
    """A page with its figures as the results files have them, or what to run where there are none yet."""
    made: dict[str, Callable[[], str]] = {
        "headline": lambda: _headline(_read(QUICKSTART)),
        "licences": lambda: _licences(_read(QUICKSTART)),
        "quality": lambda: _quality(_read(QUICKSTART)),
        "accuracy": lambda: _measured(_read(EVALUATION)),
        "abstention": lambda: tables.selective(_read(EVALUATION)),
        "design": lambda: _measured(_read(BEFORE)),
        "throughput": lambda: tables.speed(_read(BEFORE)),
    }

    def block(found: re.Match[str]) -> str:
        try:
            figures = made[found[2]]() if found[2] in made else _written(WRITTEN[found[2]])
        except FileNotFoundError:
            figures = f"Not measured yet: run `{found[3]}`."
        return f"{found[1]}{figures}\n{found[4]}"

    return _BLOCK.sub(block, page)


def with_outputs(page: str) -> str:
    """A page whose snippets show what they print now."""
    shown = [output for _, output in snippets.snippets(page) if output is not None]
    return snippets.refreshed(page, snippets.run(page)) if shown else page


def _measured(results: dict[str, Any]) -> str:
    """Accuracy as an evaluation has it, with the models and what wrote it."""
    made = f"{results['date']}, {results['threads']} threads, `{results['command']}`."
    return "\n\n".join([tables.quality(results), tables.models(results), tables.sets(results), made])


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def _written(name: str) -> str:
    """A table as it was written, without the title that it may begin with."""
    return re.sub(r"\A# .*\n", "", (RESULTS / f"{name}.md").read_text()).strip()


def _headline(results: dict[str, Any]) -> str:
    """What matters most, in the encoding that the checkpoint uses unless told otherwise."""
    lines = ["| Set | Pairs | Accuracy | Coverage | Selective accuracy | AURC |", "|---|---|---|---|---|---|"]
    for name, encodings in results["over_seeds"].items():
        figures = encodings[results["encoding"]]
        shares = (f"{figures[key]['mean']:.1%}" for key in ("accuracy", "coverage", "selective_accuracy"))
        pairs = results["evaluation"][name][results["encoding"]]["pairs"]
        lines.append(f"| {name} | {pairs:,} | {' | '.join(shares)} | {figures['aurc']['mean']:.3f} |")
    made = f"Mean over {len(results['seeds'])} seeds, {results['date']}, `{results['command']}`."
    return "\n".join([*lines, "", made])


def _licences(results: dict[str, Any]) -> str:
    """Of what the quick start was trained on."""
    rows = yaml.safe_load((ROOT / "model_card" / "datasets.yaml").read_text())
    licences = {name: f"{row['title']}: {row['licence']}" for row in rows for name in row["names"]}
    known = dict.fromkeys(licences.get(name, name) for name in results["train"])
    return f"What the heads in `checkpoints/quickstart` were trained on, with licences: {'; '.join(known)}."


def _quality(results: dict[str, Any]) -> str:
    base, pairs = results["base"], results["pairs"]
    return "\n".join(
        [
            table(results),
            "",
            f"Base `{base['name']}` at `{base['revision']}`, {results['parameters']:,} parameters of heads. "
            f"Fitted to {pairs['fitted']:,} pairs ({', '.join(results['train'])}), "
            f"{pairs['held_out']:,} held out for the temperature and stage 2, {pairs['calibration']:,} for "
            f"the guarantee that at most {results['target_risk']:.0%} of the answers given are wrong. "
            f"Mean ± standard deviation over {len(results['seeds'])} seeds, of which the checkpoint is seed "
            f"{results['seed']}; {results['date']}.",
            f"Written by `{results['command']}`.",
        ]
    )


def main() -> int:
    """Write or check."""
    before = {path: path.read_text() for path in PAGES}
    after = {path: with_outputs(rendered(page)) for path, page in before.items()}
    before[overview.PICTURE] = overview.PICTURE.read_text() if overview.PICTURE.exists() else ""
    after[overview.PICTURE] = overview.picture()
    changed = [path for path in after if after[path] != before[path]]
    for path in changed:
        print(path.relative_to(ROOT))
        if "--check" not in sys.argv[1:]:
            path.write_text(after[path])
    return int("--check" in sys.argv[1:] and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
