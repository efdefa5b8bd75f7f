"""Pairs, one at a time and in batches: beside CrossEncoder and transformers' pipelines, and by graphs."""

import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder
from transformers import pipeline

from modernbert_nli.encoder import BACKENDS
from modernbert_nli.exporting.command import write_graphs
from modernbert_nli.exporting.graphs import OPSET, quiet
from modernbert_nli.onnx_backend import FOLDER
from modernbert_nli.published_heads import predict_with_abstention

from ..setup import BATCH_SIZE, ROOT, WORK, Setup, in_batches, judge, window_of
from ..timing import Pairs, Row, Scorer, scored

BF16 = "torch bf16"  # a way to run it, beside the backends
PRECISION = {
    "torch": "float32",
    BF16: "bfloat16",
    "onnx": "float32",
    "openvino": "float32",
    "onnx-int8": "int8",
}


def pairs(setup: Setup) -> list[Row]:
    """Ours in each encoding, a plain pass of the base, and what else judges pairs by PyTorch."""
    nli, classifier = setup.pipeline(), setup.folder("classifier")
    dtype = {"dtype": getattr(torch, setup.dtype)}
    peer = CrossEncoder(classifier, device=setup.device, model_kwargs=dtype)
    options: Any = {"model": classifier, "device": setup.device, **dtype}
    classify, zero_shot = (
        pipeline(task, **options) for task in ("text-classification", "zero-shot-classification")
    )
    window = window_of(nli)

    @torch.inference_mode()
    def plain(some: Pairs) -> None:
        for batch in in_batches(nli.tokenizer, some, window):
            nli.model.encoder(**batch.to(setup.device)).last_hidden_state[:, 0].cpu()

    own: dict[str, Scorer] = {
        f"ours, {encoding}": partial(judge, nli, encoding=encoding)
        for encoding in nli.model.config.encoder_layers
    }
    programs: dict[str, Scorer] = {
        **own,
        "a plain pass of the base": plain,
        "CrossEncoder.predict": lambda some: peer.predict(
            some, batch_size=BATCH_SIZE, show_progress_bar=False
        ),
        "pipeline('text-classification')": lambda some: classify(
            [{"text": premise, "text_pair": hypothesis} for premise, hypothesis in some],
            batch_size=BATCH_SIZE,
        ),
        "pipeline('zero-shot-classification')": lambda some: [
            zero_shot(premise, [hypothesis], hypothesis_template="{}") for premise, hypothesis in some
        ],
        "the published loader, a pair at a time": lambda some: [
            predict_with_abstention(nli.model, nli.tokenizer, *pair) for pair in some
        ],
    }
    against = {
        name: {"plain": "a plain pass of the base", "CrossEncoder": "CrossEncoder.predict"} for name in own
    }
    rows = scored(programs, setup.pairs, setup.repetitions, against)
    if setup.peak_tflops:
        # Two operations a token and weight of the matrices; attention itself comes on top.
        matrices = [weight for weight in nli.model.encoder.parameters() if weight.ndim > 1]
        weights = sum(map(torch.numel, matrices)) - nli.model.encoder.get_input_embeddings().weight.numel()
        batches = in_batches(nli.tokenizer, setup.pairs, window)
        tokens = sum(int(batch["attention_mask"].sum()) for batch in batches) / len(setup.pairs)
        for row in rows:
            row["share of the peak"] = 2 * weights * tokens * row["pairs a second"] / 1e12 / setup.peak_tflops
    return rows


def graphs(setup: Setup) -> list[Row]:
    """Ours by PyTorch and by graphs, each beside a CrossEncoder by PyTorch and by what is as precise."""
    if setup.exported is None:  # heads with random weights on such a base
        setup.exported = WORK / f"{setup.geometry}-exported"
        nli = setup.pipeline()
        nli.save_pretrained(setup.exported)
        write_graphs(nli.model, setup.exported / FOLDER, int8=True)
    programs = {f"CrossEncoder, {backend}": run for backend, run in crossencoders(setup).items()}
    against, memory = {}, {}
    for backend, precision in PRECISION.items():
        nli = setup.pipeline(dtype="bfloat16") if backend == BF16 else setup.pipeline(backend)
        alike = {
            "CrossEncoder, torch": "CrossEncoder, torch",
            f"CrossEncoder, {precision}": f"CrossEncoder, {backend}",
        }
        for encoding in nli.model.config.encoder_layers:
            name = f"ours, {backend}, {encoding}"
            programs[name], against[name] = partial(judge, nli, encoding=encoding), alike
            memory[name] = None if backend == BF16 else peak_memory(setup, backend)
    rows = scored(programs, setup.pairs, setup.repetitions, against)
    return [{**row, "MB at most": memory.get(row["Program"])} for row in rows]


def peak_memory(setup: Setup, backend: str) -> float:
    """MB that a process has had at most which loads ours, and nothing else, and judges 64 pairs."""
    code = (
        "import resource, sys; from modernbert_nli.loading import load_pipeline; "
        "pipe = load_pipeline(sys.argv[1], sys.argv[2], backend=sys.argv[3], device='cpu'); "
        "pipe([(f'It rains for the {row}th time.', 'The ground is wet.') for row in range(64)]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    command = [sys.executable, "-c", code, str(setup.exported), setup.folder("base"), backend]
    return float(
        subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()[-1]
    )


def crossencoders(setup: Setup) -> dict[str, Scorer]:
    """CrossEncoder on PyTorch, and graphs of the same classifier in the same loop.

    As its `backend="onnx"` and `"openvino"` run them, without optimum, which these need; with the dynamic
    quantisation that it offers as int8.
    """
    import onnxruntime
    import openvino
    from onnxruntime.quantization import QuantType, quantize_dynamic

    folder = Path(setup.folder("classifier"))
    classifier, tokenizer = setup.classifier()
    example = dict(tokenizer([("a b c", "d"), ("a", "b c d e")], padding=True, return_tensors="pt"))
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in example]
    names = names[:2] if classifier.config.model_type == "modernbert" else names
    dims = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    with torch.no_grad(), quiet():
        torch.onnx.export(
            classifier,
            kwargs={name: example[name] for name in names},
            f=str(folder / "peer.onnx"),
            input_names=names,
            output_names=["logits"],
            dynamic_shapes=dict.fromkeys(names, dims),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
        )
        quantize_dynamic(folder / "peer.onnx", folder / "peer_int8.onnx", weight_type=QuantType.QInt8)

    def loop(run: Callable[[dict[str, Any]], Any]) -> Scorer:
        def predict(some: Pairs) -> list[list[float]]:
            order = sorted(range(len(some)), key=lambda row: -len(some[row][0]) - len(some[row][1]))
            logits = []
            for start in range(0, len(order), BATCH_SIZE):
                batch = [some[row] for row in order[start : start + BATCH_SIZE]]
                tokens = tokenizer(batch, padding=True, truncation=True, return_tensors="np")
                logits.append(torch.from_numpy(run({name: tokens[name] for name in names})))
            return torch.cat(logits).softmax(dim=-1)[torch.tensor(order).argsort()].tolist()

        return predict

    def by_onnxruntime(path: Path) -> Scorer:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return loop(lambda given: session.run(None, given)[0])

    threads = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    hints = {"PERFORMANCE_HINT": "LATENCY"}  # as optimum-intel has it
    compiled = openvino.Core().compile_model(folder / "peer.onnx", "CPU", {**threads, **hints})
    options: Any = {"batch_size": BATCH_SIZE, "show_progress_bar": False}
    half = {"dtype": torch.bfloat16}
    peers = {
        "torch": CrossEncoder(str(folder), device="cpu"),
        BF16: CrossEncoder(str(folder), device="cpu", model_kwargs=half),
    }
    return {
        "torch": lambda some: peers["torch"].predict(some, **options),
        BF16: lambda some: peers[BF16].predict(some, **options),
        "onnx": by_onnxruntime(folder / "peer.onnx"),
        "openvino": loop(lambda given: compiled(given)[0]),
        "onnx-int8": by_onnxruntime(folder / "peer_int8.onnx"),
    }


def decisions(setup: Setup) -> list[Row]:
    """Whether graphs decide as PyTorch does, by backend and encoding, all at the threshold of float32."""
    if setup.exported is None:
        raise ValueError("give --exported FOLDER, which export.py has written")
    labels = [row["label"] for row in setup.some]
    threshold = setup.pipeline("torch").threshold
    reference: dict[str, list[dict[str, Any]]] = {}
    rows: list[Row] = []
    for backend in BACKENDS:
        nli = setup.pipeline(backend)
        for encoding in nli.model.config.encoder_layers:
            found = nli(setup.pairs, encoding=encoding, threshold=threshold)
            both = list(zip(found, reference.setdefault(encoding, found), strict=True))
            shares = {
                "label agrees": [a["label"] == b["label"] for a, b in both],
                "label and abstention agree": [
                    (a["label"], a["abstain"]) == (b["label"], b["abstain"]) for a, b in both
                ],
                "accuracy": [a["label"] == label for a, label in zip(found, labels, strict=True)],
                "coverage": [not a["abstain"] for a in found],
            }
            row: Row = {"Encoding": encoding, "Backend": backend}
            row |= {name: f"{statistics.fmean(of):.2%}" for name, of in shares.items()}
            apart = max(abs(a["probs"][name] - b["probs"][name]) for a, b in both for name in a["probs"])
            rows.append({**row, "largest difference of a probability": apart})
    return rows
