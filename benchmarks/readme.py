"""Render what README.md and docs/ show: figures of results files, the outputs of snippets, the overview.

python benchmarks/readme.py          write them
python benchmarks/readme.py --check  say whether they are up to date (exit status 1 if not)
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import abstention  # noqa: E402
import domains  # noqa: E402
import finecat  # noqa: E402
import onnx_graphs  # noqa: E402
import overview  # noqa: E402
import peer_tables  # noqa: E402
import promise  # noqa: E402
import snippets  # noqa: E402
import training_cost  # noqa: E402
from train_quickstart import table  # noqa: E402

from modernbert_nli.evaluation import tables  # noqa: E402

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
RESULTS = ROOT / "benchmarks" / "results"
EVALUATION = ROOT / "docs" / "results" / "evaluation.json"
BEFORE = ROOT / "docs" / "results" / "version-0.1" / "evaluation.json"
_BLOCK = re.compile(r"(<!-- (\w+): (.*?) -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def rendered(page: str) -> str:
    """A page with its figures as the results files have them, or what to run where there are none yet."""
    blocks = {
        "headline": lambda: _headline(_read(ROOT / "checkpoints" / "quickstart" / "results.json")),
        "licences": lambda: _licences(_read(ROOT / "checkpoints" / "quickstart" / "results.json")),
        "quality": lambda: _quality(_read(ROOT / "checkpoints" / "quickstart" / "results.json")),
        "speed": lambda: _speed([_read(path) for path in sorted(RESULTS.glob("speed*.json"))]),
        "training": lambda: _training(_read(RESULTS / "training-cost.json")),
        "finecat": lambda: finecat.table(_read(RESULTS / "finecat.json")),
        "promise": lambda: promise.table(_read(RESULTS / "promise.json")),
        "accuracy": lambda: _measured(_read(EVALUATION)),
        "abstention": lambda: tables.selective(_read(EVALUATION)),
        "design": lambda: _measured(_read(BEFORE)),
        "domains": lambda: domains.text(_read(RESULTS / "domains.json")),
        "left_out": lambda: (RESULTS / "promise-domains-further-separate.md").read_text().strip(),
        "new_kinds": lambda: (RESULTS / "promise-domains.md").read_text().strip(),
        "routing": lambda: (RESULTS / "routing.md").read_text().partition("\n")[2].strip(),
        "documents": lambda: (RESULTS / "documents.md").read_text().partition("\n")[2].strip(),
        "windows": lambda: (RESULTS / "windows" / "documents.md").read_text().partition("\n")[2].strip(),
        "onnx": lambda: onnx_graphs.decisions_table(_read(RESULTS / "onnx.json")),
        "onnx_speed": lambda: onnx_graphs.speed_table(_read(RESULTS / "onnx-speed.json")),
        "onnx_speed_modernbert": lambda: onnx_graphs.speed_table(
            _read(RESULTS / "onnx-speed-modernbert.json")
        ),
        "passages": lambda: (RESULTS / "passages.md").read_text().strip(),
        "serving": lambda: (RESULTS / "service.md").read_text().strip(),
        "scores": lambda: abstention.table(_read(RESULTS / "abstention.json")),
        "throughput": lambda: tables.speed(_read(BEFORE)),
        "larger_base": lambda: (RESULTS / "larger-base.md").read_text().strip(),
        "ceiling": lambda: (RESULTS / "ceiling.md").read_text().strip(),
        "lora": lambda: (RESULTS / "lora.md").read_text().strip(),
        "adapt": lambda: (RESULTS / "adapt.md").read_text().strip(),
        "peers": lambda: peer_tables.scoring(_peers()),
        "costs": lambda: peer_tables.costs(_peers()),
    }

    def block(found: re.Match[str]) -> str:
        try:
            figures = blocks[found[2]]()
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


def _peers() -> dict[str, dict[str, Any]]:
    """By name of the file."""
    found = {path.stem: _read(path) for path in sorted(RESULTS.glob("peers*.json"))}
    if not found:
        raise FileNotFoundError(RESULTS / "peers.json")
    return found


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


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
    rows = yaml.safe_load((ROOT / "modernbert_nli" / "model_card" / "datasets.yaml").read_text())
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
