"""ONNX graphs: do they decide as PyTorch does, and how fast are they beside CrossEncoder?

    python benchmarks/onnx_graphs.py --exported runs/exported --pairs snli_test_a.jsonl mnli_matched_a.jsonl
    python benchmarks/onnx_graphs.py --exported runs/exported --pairs snli_test_a.jsonl --speed
    python benchmarks/onnx_graphs.py --modernbert --pairs snli_test_a.jsonl --speed

`export.py --int8` wrote EXPORTED, and `calibrate.py --backend onnx-int8` gave its int8 graphs their promise.
PAIRS are JSONL files with `premise`, `hypothesis` and `label`, of which 5,000 are taken, evenly. Without
`--speed`: how often label and abstention agree, and accuracy, in `benchmarks/results/onnx.json`. With it:
pairs a second, one pair's latency, memory, in `onnx-speed.json`. `--modernbert` takes the geometry of
ModernBERT-base with random weights, which it exports first (`onnx-speed-modernbert.json`).

The peer is a classifier of pairs on the same base in CrossEncoder's own loop; by ONNX Runtime and OpenVINO it
runs a graph as its `backend="onnx"` and `"openvino"` do, without optimum, which these need, and the dynamic
quantisation that it offers as int8. Run `--speed` while nothing else runs.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, ModernBertConfig
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from timing import alternate, ratio, timed  # noqa: E402

from modernbert_nli import embedded  # noqa: E402
from modernbert_nli.configuration_modernbert_nli import LABELS, ModernBertNliConfig  # noqa: E402
from modernbert_nli.exporting.command import write_graphs  # noqa: E402
from modernbert_nli.exporting.graphs import OPSET, quiet  # noqa: E402
from modernbert_nli.files import write_aside  # noqa: E402
from modernbert_nli.loading import load_pipeline  # noqa: E402
from modernbert_nli.modeling_modernbert_nli import ModernBertNliModel  # noqa: E402
from modernbert_nli.onnx_backend import BACKENDS, FOLDER  # noqa: E402

COUNT, BATCH_SIZE, REPETITIONS = 5000, 32, 5
RESULTS = ROOT / "benchmarks" / "results"
SPEED_PAIRS, SINGLE_PAIRS, IN_A_ROW = 600, 200, 25
BF16 = "torch bf16"  # a way to run it, beside the backends
PRECISION = {
    "torch": "float32",
    BF16: "bfloat16",
    "onnx": "float32",
    "openvino": "float32",
    "onnx-int8": "int8",
}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--exported", type=Path)
    parser.add_argument("--modernbert", action="store_true")
    parser.add_argument("--pairs", type=Path, nargs="+", required=True)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    args = parser.parse_args()
    if bool(args.exported) == args.modernbert or (args.modernbert and not args.speed):
        parser.error("give --exported FOLDER, or --modernbert with --speed")
    disable_progress_bar()
    set_verbosity_error()
    with tempfile.TemporaryDirectory() as place:
        if args.modernbert:
            folder, base = modernbert(Path(place))
        else:
            folder, base = args.exported, str(embedded.base_folder())
        if args.speed:
            name = "onnx-speed-modernbert" if args.modernbert else "onnx-speed"
            pairs = [row[:2] for row in read(args.pairs, min(args.count, SPEED_PAIRS))]
            found = speed(folder, base, pairs, Path(place), args.repetitions)
        else:
            name, found = "onnx", decisions(folder, base, read(args.pairs, args.count))
    results = {
        "date": date.today().isoformat(),
        "command": f"python benchmarks/onnx_graphs.py --pairs {' '.join(path.name for path in args.pairs)}"
        + " --speed" * args.speed
        + (f" --count {args.count}" if args.count != COUNT else "")
        + (f" --repetitions {args.repetitions}" if args.repetitions != REPETITIONS else "")
        + (" --modernbert" if args.modernbert else " --exported EXPORTED"),
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        **found,
    }
    write_aside(RESULTS / f"{name}.json", json.dumps(results, indent=2) + "\n")
    print((speed_table if args.speed else decisions_table)(results))


def decisions_table(results: dict[str, Any]) -> str:
    """A row for each encoding and backend."""
    shares = ("label agrees", "label and abstention agree", "accuracy", "coverage")
    lines = [
        "| Encoding | Backend | Label agrees | Label and abstention agree | Accuracy | Coverage | "
        "Largest difference of a probability |",
        "|---" * 7 + "|",
    ]
    for encoding, rows in results["encodings"].items():
        for backend, row in rows.items():
            cells = [encoding, f"`{backend}`", *(f"{row[key]:.2%}" for key in shares)]
            lines.append(f"| {' | '.join(cells)} | {row['largest difference of a probability']:.1e} |")
    return "\n".join(
        [
            *lines,
            "",
            f"{results['pairs']:,} pairs, abstaining from {results['threshold']:.3f}; {_made(results)}",
        ]
    )


def speed_table(results: dict[str, Any]) -> str:
    """A row for each way to run ours: pairs in batches, one pair, beside CrossEncoder in the same run."""
    lines = [
        "| Ours | Pairs a second | One pair, ms: median, p99 | CrossEncoder on | Batches: its time / ours | "
        "One pair: its time / ours |",
        "|---" * 6 + "|",
    ]
    for name, row in results["rows"].items():
        own = [
            f"{row['pairs a second']:.0f}",
            f"{row['one pair, median ms']:.1f}, {row['one pair, p99 ms']:.1f}",
        ]
        for names, ratios in results["ratios"].items():
            peer, _, ours = names.partition(" / ")
            if ours == name:
                found = (_ratio(ratios[key]) for key in ("pairs", "one pair"))
                cells = [name.removeprefix("ours, "), *own, peer.removeprefix("CrossEncoder, "), *found]
                lines.append(f"| {' | '.join(cells)} |")
    memory = ", ".join(f"`{name}` {size:.0f}" for name, size in results["peak MB of a process"].items())
    note = f"{results['pairs']:,} pairs; peak memory of a process that judges 64 pairs, MB: {memory}. "
    return "\n".join([*lines, "", note + _made(results)])


def _ratio(row: dict[str, float]) -> str:
    return f"{row['ratio']:.2f}"


def _made(results: dict[str, Any]) -> str:
    return (
        f"{results['threads']} threads, torch {results['torch']}, {results['date']}, `{results['command']}`."
    )


def read(paths: list[Path], count: int) -> list[tuple[str, str, str]]:
    """Premises, hypotheses and labels, as many of each file."""
    rows = []
    for path in paths:
        own = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        share = count // len(paths)
        rows += own[:: max(1, len(own) // share)][:share]
    return [(row["premise"], row["hypothesis"], row["label"]) for row in rows]


def decisions(folder: Path, base: str, rows: list[tuple[str, str, str]]) -> dict[str, Any]:
    """Agreement with PyTorch by backend and encoding, all at the threshold of float32."""
    from tqdm import tqdm

    pairs, labels = [row[:2] for row in rows], [row[2] for row in rows]
    judged: dict[str, dict[str, list[dict[str, Any]]]] = {}
    threshold = load_pipeline(str(folder), base, device="cpu").threshold
    found: dict[str, Any] = {"pairs": len(rows), "threshold": threshold, "encodings": {}}
    for backend in BACKENDS:
        pipe = load_pipeline(str(folder), base, backend=backend, device="cpu")
        for encoding in pipe.model.config.encoder_layers:
            stream = tqdm(
                pipe(iter(pairs), encoding=encoding, threshold=threshold),
                f"{backend}, {encoding}",
                len(pairs),
                disable=None,
            )
            judged.setdefault(encoding, {})[backend] = list(stream)
    for encoding, by_backend in judged.items():
        reference = by_backend["torch"]
        found["encodings"][encoding] = {
            backend: {
                "label agrees": _share(
                    a["label"] == b["label"] for a, b in zip(results, reference, strict=True)
                ),
                "label and abstention agree": _share(
                    (a["label"], a["abstain"]) == (b["label"], b["abstain"])
                    for a, b in zip(results, reference, strict=True)
                ),
                "accuracy": _share(a["label"] == label for a, label in zip(results, labels, strict=True)),
                "coverage": _share(not a["abstain"] for a in results),
                "largest difference of a probability": max(
                    abs(a["probs"][label] - b["probs"][label])
                    for a, b in zip(results, reference, strict=True)
                    for label in a["probs"]
                ),
            }
            for backend, results in by_backend.items()
        }
    return found


def _share(which: Any) -> float:
    return statistics.fmean(map(float, which))


def modernbert(place: Path) -> tuple[Path, str]:
    """The geometry of ModernBERT-base with random weights: a folder of it exported, and one of the base."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(embedded.base_folder())
    special = {"pad_token_id": tokenizer.pad_token_id, "sep_token_id": tokenizer.sep_token_id}
    encoder = AutoModel.from_config(ModernBertConfig(cls_token_id=tokenizer.cls_token_id, **special))
    base, folder = place / "base", place / "exported"
    encoder.save_pretrained(base)
    tokenizer.save_pretrained(base)
    arguments = {"head_type": "alignment", "encoding": "separate"}
    config = ModernBertNliConfig.from_base("answerdotai/ModernBERT-base", None, str(base), **arguments)
    model = ModernBertNliModel.from_base(config, encoder=encoder).eval()
    model._tokenizer = tokenizer
    model.save_pretrained(folder)
    write_graphs(model, folder / FOLDER, int8=True)
    return folder, str(base)


def speed(
    folder: Path, base: str, pairs: list[tuple[str, str]], place: Path, repetitions: int
) -> dict[str, Any]:
    """Pairs a second, seconds of one pair and memory, ours and the peer's, in one run."""
    peers = crossencoders(base, place)
    programs: dict[str, Callable[[list[tuple[str, str]]], Any]] = {
        f"CrossEncoder, {backend}": predict for backend, predict in peers.items()
    }
    encodings: list[str] = []
    for backend in PRECISION:
        pipe = _pipeline(folder, base, backend)
        encodings = list(pipe.model.config.encoder_layers)
        for encoding in encodings:
            programs[f"ours, {backend}, {encoding}"] = partial(fresh, pipe, encoding)
    seconds = alternate({name: partial(run, pairs) for name, run in programs.items()}, repetitions)
    latencies: dict[str, list[float]] = {name: [] for name in programs}
    singles = pairs[:SINGLE_PAIRS]
    for start in range(0, len(singles), IN_A_ROW):  # a runtime's threads still spin when the next one begins
        for name, run in programs.items():
            run(singles[start : start + 1])
            for pair in singles[start : start + IN_A_ROW]:
                latencies[name].append(timed(partial(run, [pair])))
    rows = {
        name: {
            "pairs a second": len(pairs) / statistics.median(seconds[name]),
            "one pair, median ms": 1000 * statistics.median(latencies[name]),
            "one pair, p99 ms": 1000 * statistics.quantiles(latencies[name], n=100)[98],
        }
        for name in programs
    }
    ratios = {}
    for backend in PRECISION:
        for encoding in encodings:
            ours = f"ours, {backend}, {encoding}"
            same = [name for name in peers if PRECISION[name] == PRECISION[backend]]
            for peer in dict.fromkeys(["torch", *same]):
                theirs = f"CrossEncoder, {peer}"
                ratios[f"{theirs} / {ours}"] = {
                    "pairs": ratio(seconds[theirs], seconds[ours]),
                    "one pair": ratio(latencies[theirs], latencies[ours]),
                }
    memory = {backend: peak_memory(folder, base, backend) for backend in BACKENDS}
    return {"pairs": len(pairs), "rows": rows, "ratios": ratios, "peak MB of a process": memory}


def _pipeline(folder: Path, base: str, backend: str) -> Any:
    if backend != BF16:
        return load_pipeline(str(folder), base, backend=backend, device="cpu")
    options: dict[str, Any] = {"base_model_name_or_path": base, "dtype": torch.bfloat16}
    return ModernBertNliModel.from_pretrained(str(folder), **options).as_pipeline(device="cpu")


def fresh(pipe: Any, encoding: str, pairs: list[tuple[str, str]]) -> Any:
    """Judge pairs that are new: no text is known from before."""
    pipe.texts.clear()
    return pipe(pairs, encoding=encoding, batch_size=BATCH_SIZE)


def crossencoders(base: str, place: Path) -> dict[str, Callable[[list[tuple[str, str]]], Any]]:
    """CrossEncoder on PyTorch, and the graphs of the same classifier in the same loop."""
    import onnxruntime
    import openvino
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from sentence_transformers import CrossEncoder

    labels = {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}
    torch.manual_seed(0)
    classifier = AutoModelForSequenceClassification.from_pretrained(base, **labels).eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    classifier.save_pretrained(place / "classifier")
    tokenizer.save_pretrained(place / "classifier")
    peer = CrossEncoder(str(place / "classifier"), device="cpu")
    half = CrossEncoder(str(place / "classifier"), device="cpu", model_kwargs={"torch_dtype": torch.bfloat16})
    example = dict(tokenizer([("a b c", "d"), ("a", "b c d e")], padding=True, return_tensors="pt"))
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in example]
    if classifier.config.model_type == "modernbert":
        names = names[:2]
    dims = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    with torch.no_grad(), quiet():
        torch.onnx.export(
            classifier,
            kwargs={name: example[name] for name in names},
            f=str(place / "peer.onnx"),
            input_names=names,
            output_names=["logits"],
            dynamic_shapes=dict.fromkeys(names, dims),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
        )
        quantize_dynamic(place / "peer.onnx", place / "peer_int8.onnx", weight_type=QuantType.QInt8)

    def in_batches(run: Callable[[dict[str, Any]], Any]) -> Callable[[list[tuple[str, str]]], Any]:
        def predict(pairs: list[tuple[str, str]]) -> Any:
            order = sorted(range(len(pairs)), key=lambda row: -len(pairs[row][0]) - len(pairs[row][1]))
            logits = []
            for start in range(0, len(order), BATCH_SIZE):
                batch = [pairs[row] for row in order[start : start + BATCH_SIZE]]
                tokens = tokenizer(batch, padding=True, truncation=True, return_tensors="np")
                logits.append(torch.from_numpy(run({name: tokens[name] for name in names})))
            return torch.cat(logits).softmax(dim=-1)[torch.tensor(order).argsort()].tolist()

        return predict

    def by_onnxruntime(path: Path) -> Callable[[dict[str, Any]], Any]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda given: session.run(None, given)[0]

    def by_openvino(path: Path) -> Callable[[dict[str, Any]], Any]:
        threads = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
        latency = {"PERFORMANCE_HINT": "LATENCY"}  # as optimum-intel has it
        compiled = openvino.Core().compile_model(path, "CPU", {**threads, **latency})
        return lambda given: compiled(given)[0]

    options: dict[str, Any] = {"batch_size": BATCH_SIZE, "show_progress_bar": False}
    return {
        "torch": lambda pairs: peer.predict(pairs, **options),
        BF16: lambda pairs: half.predict(pairs, **options),
        "onnx": in_batches(by_onnxruntime(place / "peer.onnx")),
        "openvino": in_batches(by_openvino(place / "peer.onnx")),
        "onnx-int8": in_batches(by_onnxruntime(place / "peer_int8.onnx")),
    }


def peak_memory(folder: Path, base: str, backend: str) -> float:
    """MB that a process has had at most which loads our model and judges 64 pairs."""
    code = (
        "import re, sys; from modernbert_nli.loading import load_pipeline; "
        "pipe = load_pipeline(sys.argv[1], sys.argv[2], backend=sys.argv[3], device='cpu'); "
        "pipe([(f'It rains for the {row}th time.', 'The ground is wet.') for row in range(64)]); "
        r"print(int(re.search(r'VmHWM:\s+(\d+)', open('/proc/self/status').read())[1]) / 1024)"
    )
    command = [sys.executable, "-c", code, str(folder.resolve()), base, backend]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    main()
