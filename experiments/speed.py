"""Speed, memory and what they cost: each case beside what else does the same, in one run on one machine.

    python -m experiments.speed pairs --pairs snli_test_a.jsonl                       MiniLM with its weights
    python -m experiments.speed pairs --pairs snli_test_a.jsonl --geometry base       random weights
    python -m experiments.speed graphs --pairs snli_test_a.jsonl --exported EXPORTED
    python -m experiments.speed service --pairs snli_test_a.jsonl --count 2048 --soak 600

    pairs      pairs one at a time and in batches, beside CrossEncoder, transformers' pipelines, a plain pass
    graphs     the same by ONNX Runtime and OpenVINO; EXPORTED is of `export.py --int8`
    decisions  whether these decide as PyTorch does
    reuse      routes, checks and kept states, beside encoding again
    check      what a check costs as sentences grow in number
    costs      loading, 1,000 to 100,000 pairs, a long pair, two processes
    passages   a claim against an index of 100,000
    service    throughput and latency under 64 clients
    training   both stages, beside a plain pass of the encoder

PAIRS are JSON lines with `premise`, `hypothesis` and `label`: real texts, for their lengths. Ratios are
medians of programs that run in turn, with the least and the most. Writes `experiments/results/CASE.json` and
`.md` (`CASE-GEOMETRY…`). Run nothing else meanwhile.
"""

import argparse
import json
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from modernbert_nli.files import write_aside

from .cases.costs import costs, passages, training
from .cases.pairs import decisions, graphs, pairs
from .cases.reuse import check, reuse
from .cases.service import service
from .setup import GEOMETRIES, ROOT, Setup
from .timing import Row, markdown

RESULTS = ROOT / "experiments" / "results"
CASES: dict[str, Callable[[Setup], list[Row]]] = {
    case.__name__: case
    for case in (pairs, graphs, decisions, reuse, check, costs, passages, service, training)
}


def main() -> None:
    """Measure a case and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("case", choices=list(CASES))
    add("--pairs", type=Path, nargs="+", required=True, dest="files", metavar="PAIRS")
    add("--geometry", default="minilm", choices=["minilm", *GEOMETRIES])
    add("--count", type=int, default=600, help="pairs to measure with (default: %(default)s)")
    add("--repetitions", type=int, default=5, help="default: %(default)s")
    add("--device", default="cpu", help="default: %(default)s")
    add("--dtype", default="float32", choices=["float32", "bfloat16"], help="of all bases")
    add("--exported", type=Path, help="what export.py has written: for graphs and decisions")
    add("--soak", type=float, default=0, metavar="SECONDS", help="for service")
    add("--peak_tflops", type=float, help="of the chip in this precision: what share of it pairs reach")
    args = vars(parser.parse_args())
    disable_progress_bar()
    set_verbosity_error()
    case, setup = args.pop("case"), Setup(**args)
    try:
        rows = CASES[case](setup)
    except ValueError as error:
        parser.error(str(error))
    public = [Path(word).name for word in sys.argv[1:]]
    results = {
        "date": date.today().isoformat(),
        "command": " ".join(["python -m experiments.speed", *public]),
        "pairs": min(setup.count, len(setup.rows)),
        "device": torch.cuda.get_device_name(setup.device) if setup.device != "cpu" else "CPU",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rows": rows,
    }
    name = case + f"-{setup.geometry}" * (setup.geometry != "minilm") + "-gpu" * (setup.device != "cpu")
    made = (
        f"{results['pairs']:,} pairs, {results['device']}, {results['threads']} threads, torch "
        f"{results['torch']}, {results['date']}, `{results['command']}`."
    )
    write_aside(RESULTS / f"{name}.json", json.dumps(results, indent=2) + "\n")
    write_aside(RESULTS / f"{name}.md", f"{markdown(rows)}\n\n{made}\n")
    print(markdown(rows))


if __name__ == "__main__":
    main()
