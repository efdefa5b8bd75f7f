"""The section of a model card that says which graphs there are, and how they are used."""

from pathlib import Path

from ..onnx_backend import FOLDER, INT8_GUARANTEE

HEADING = "## Without PyTorch: ONNX"

_PURPOSE = {
    "encoder": "a text's tokens to the states that the heads read of it, float16",
    "heads": "the states of a premise and of a hypothesis to `logits`, `abstention_logits`, `uncertainty`",
    "pair": "a pair in one sequence to the same three (joint encoding)",
}
_INT8 = (
    "What is guaranteed of the risk in `config.json` holds for float32. The int8 graphs have what",
    f"`{FOLDER}/{INT8_GUARANTEE}` says, where it is there, and guarantee nothing otherwise.",
)


def section(checkpoint: Path, name: str = "FOLDER") -> str:
    """Markdown, from the files that are there.

    Args:
        checkpoint (`Path`): Folder that has the folder of graphs.
        name (`str`, *optional*): What a reader loads it by: folder or repository id.
    """
    import onnx

    rows = []
    paths = sorted((checkpoint / FOLDER).glob("*.onnx"))
    for path in paths:
        model = onnx.load(path, load_external_data=False)
        kind, _, precision = path.stem.partition("_")
        opset = next(entry.version for entry in model.opset_import if not entry.domain)
        inputs = ", ".join(f"`{node.name}`" for node in model.graph.input)
        size = f"{path.stat().st_size / 1e6:.1f} MB"
        cells = (f"`{FOLDER}/{path.name}`", precision or "float32", size, opset, inputs, _PURPOSE[kind])
        rows.append(f"| {' | '.join(map(str, cells))} |")
    int8 = any(path.stem.endswith("_int8") for path in paths)
    backends = ["onnx", "onnx-int8"] if int8 else ["onnx"]
    choices = " or ".join(f'`"{backend}"`' for backend in backends)
    return "\n".join(
        [
            HEADING,
            "",
            "| File | Precision | Size | Opset | Inputs | What it does |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            "All dimensions of batch and tokens are dynamic. The pipeline runs these graphs by ONNX Runtime",
            f"(backend {choices}), and needs the base no more:",
            "",
            "```python",
            "from transformers import pipeline",
            "",
            "nli = pipeline(",
            f'    model="{name}", trust_remote_code=True, model_kwargs={{"backend": "{backends[-1]}"}}',
            ")",
            "```",
            *([] if not int8 else ["", *_INT8]),
            "",
        ]
    )
