"""Export a checkpoint as ONNX graphs, which run without PyTorch and make the same decisions.

    python export.py --model checkpoints/quickstart --output runs/exported
    python export.py --model checkpoints/quickstart --output runs/exported --int8

FOLDER is then a checkpoint with its heads, tokenizer, threshold and guarantee, that needs its base no more,
with the graphs in FOLDER/onnx: `encoder` and `heads` for texts encoded alone, `pair` for pairs in one
sequence, as far as the heads know these encodings. What goes in and comes out:
`modernbert_nli/exporting/graphs.py`.

`--int8` adds graphs whose weights of the base have 8 bits. What the checkpoint guarantees of its risk is not
theirs: `python calibrate.py --model FOLDER --backend onnx-int8 --data PAIRS` gives them a guarantee.

    import modernbert_nli

    nli = modernbert_nli.load("runs/exported", backend="onnx-int8")

ONNX and its exporter are needed: `pip install ".[onnx]"`.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import folder_aside, require_new, write_aside
from ..options import add_options, check_options, parser_of, run

if TYPE_CHECKING:
    from ..modeling_modernbert_nli import ModernBertNliModel

# torch and the like are loaded by what needs them: a mistyped option is told at once.

COMMAND = "export.py"


def main(argv: Sequence[str] | None = None) -> int:
    """Load, export, report."""
    args = parse_args(argv)
    return run(COMMAND, lambda: print(export(args)))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    usage = "python export.py --model CHECKPOINT --output FOLDER [--int8] [option ...]"
    parser = parser_of(COMMAND, usage, __doc__)
    add = parser.add_argument
    add_options(add, "model", required=True)
    add("--output", type=Path, required=True, metavar="FOLDER", help="new folder for it and its graphs")
    add("--int8", action="store_true", help="add graphs whose weights have 8 bits")
    add_options(add, "base", "revision")
    args = parser.parse_args(argv)
    check_options(parser, args)
    return args


def export(args: argparse.Namespace) -> str:
    """Write the folder, all at once: what is in it."""
    from ..loading import load_pipeline
    from ..onnx_backend import FOLDER
    from .card import section

    output: Path = args.output
    require_new(output)
    model = load_pipeline(args.model, args.base, args.revision, device="cpu").model
    with folder_aside(output) as aside:
        model.save_pretrained(aside)
        if (results := Path(args.model) / "results.json").is_file():  # what the model card tells
            shutil.copyfile(results, aside / results.name)
        write_graphs(model, aside / FOLDER, args.int8)
        write_aside(aside / FOLDER / "README.md", section(aside))
    rows = [f"  {path.stat().st_size:>11,}  {path.name}" for path in sorted((output / FOLDER).iterdir())]
    return "\n".join([f"{output}: a checkpoint, and in its folder {FOLDER} (bytes, file):", *rows])


def write_graphs(model: "ModernBertNliModel", folder: Path, int8: bool) -> None:
    """Write the graphs of a model into a new folder, with `int8` both precisions.

    Args:
        model (`ModernBertNliModel`): On a CPU, on its base.

    Raises:
        ImportError: the exporter is not installed.
        ValueError: the model runs graphs already, or is too large for one file.
    """
    from tqdm import tqdm

    from ..onnx_backend import OnnxEncoder, graph_file
    from .graphs import export_graph, graphs_of
    from .quantize import KINDS, quantize

    if isinstance(model.encoder, OnnxEncoder):
        raise ValueError("This model runs graphs already: load its checkpoint without `backend`.")
    folder.mkdir(parents=True)
    graphs = graphs_of(model.eval())
    steps = [(kind, precision) for kind in graphs for precision in ((False, True) if int8 else (False,))]
    steps = [(kind, quantized) for kind, quantized in steps if not quantized or kind in KINDS]
    for kind, quantized in (bar := tqdm(steps, unit="graph", disable=None)):
        bar.set_description(graph_file(kind, quantized))
        if quantized:
            quantize(folder / graph_file(kind, False), folder / graph_file(kind, True))
        else:
            export_graph(model, kind, graphs[kind], folder / graph_file(kind, False))
