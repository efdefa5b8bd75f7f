"""Results to Markdown: `markdown(results)` is `evaluation.md`, its parts are what other pages show."""

from typing import Any

_UNITS = {"accuracy": True, "f1_macro": True, "coverage": True, "selective_accuracy": True, "ece": True}
_SELECTIVE = {
    "aurc": "AURC",
    "aurc_max_prob": "AURC of MaxProb",
    "error_auroc": "AUROC of errors",
    "coverage_at_5_risk": "Coverage at 5% risk",
    "coverage_at_10_risk": "Coverage at 10% risk",
    "coverage": "Coverage",
    "selective_accuracy": "Selective accuracy",
    "ece": "ECE",
    "brier": "Brier",
}
_WITHHELD = {
    "accuracy": "Accuracy of all answers",
    "coverage": "Coverage",
    "selective_accuracy": "Accuracy of those given",
    "abstention_precision": "Precision",
    "abstention_recall": "Recall",
    "abstention_f1": "F1",
}


def markdown(results: dict[str, Any]) -> str:
    """All tables, with what was measured and by what."""
    parts = [
        "# Evaluation",
        f"{results['date']}, `{results['command']}`, {results['threads']} threads, "
        + ", ".join(f"{name} {version}" for name, version in results["versions"].items())
        + ".",
        "## Accuracy",
        quality(results),
        "## F1, macro",
        quality(results, "f1_macro"),
        "Micro-averaged F1 is the accuracy: each pair has one label and gets one answer.",
        "## Abstention",
        "AURC: area under the risk-coverage curve, lower is better. Coverage: share of pairs answered; "
        "selective accuracy: of those. A model without an abstention of its own is ranked by "
        "1 - its largest probability (MaxProb).",
        selective(results),
        "### At the checkpoint's threshold",
        "Of the pairs withheld, precision is the share that the model would have got wrong; recall is the "
        "share of its errors that are withheld. Neither means anything without the coverage.",
        withheld(results),
        "## By class",
        by_class(results),
    ]
    if results["speed"]:
        parts += ["## Speed", speed(results)]
    parts += ["## Models and sets", models(results), sets(results), _intervals()]
    return "\n\n".join(parts) + "\n"


def quality(results: dict[str, Any], figure: str = "accuracy") -> str:
    """A row for each model and encoding, a column for each set."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for row in results["results"]:
        cells = rows.setdefault((row["model"], row["encoding"] or "joint"), {})
        cells[row["set"]] = cell(row[figure])
    names = list(results["sets"])
    body = [
        [model, encoding, *(cells.get(name, "") for name in names)]
        for (model, encoding), cells in rows.items()
    ]
    return table(["Model", "Encoding", *names], body)


def selective(results: dict[str, Any]) -> str:
    """A row for each model, encoding and set."""
    body = []
    for row in results["results"]:
        figures = row["selective"]
        shown = [
            cell(figures[key], percent=not key.startswith(("aurc", "brier", "error"))) for key in _SELECTIVE
        ]
        body.append([row["model"], row["encoding"] or "joint", row["set"], figures["score"], *shown])
    return table(["Model", "Encoding", "Set", "Score", *_SELECTIVE.values()], body)


def withheld(results: dict[str, Any]) -> str:
    """What models with a threshold gain by it, and what it costs: a row for each encoding and set."""
    body = []
    for row in results["results"]:
        figures = {"accuracy": row["accuracy"], **row["selective"]}
        if figures["coverage"] is not None:
            shown = [cell(figures[key]) for key in _WITHHELD]
            body.append([row["model"], row["encoding"] or "joint", row["set"], *shown])
    return table(["Model", "Encoding", "Set", *_WITHHELD.values()], body)


def by_class(results: dict[str, Any]) -> str:
    """Precision, recall and F1 of each label."""
    body = []
    for row in results["results"]:
        for label, scores in row["per_class"].items():
            shown = [f"{scores[key]:.1%}" for key in ("precision", "recall", "f1")]
            body.append([row["model"], row["encoding"] or "joint", row["set"], label, *shown])
    return table(["Model", "Encoding", "Set", "Label", "Precision", "Recall", "F1"], body)


def speed(results: dict[str, Any]) -> str:
    """A row for each model and batch size measured."""
    body = []
    for row in results["speed"] or []:
        gpu = "" if row["peak_gpu_bytes"] is None else f"{row['peak_gpu_bytes'] / 1e6:,.0f} MB"
        body.append(
            [
                row["model"],
                row["encoding"] or "joint",
                str(row["batch_size"]),
                f"{row['pairs_per_second']:,.0f}",
                f"{row['tokens_per_second']:,.0f}",
                f"{row['peak_rss_bytes'] / 1e6:,.0f} MB",
                gpu,
            ]
        )
    return table(["Model", "Encoding", "Batch", "Pairs/s", "Tokens/s", "Peak memory", "of the GPU"], body)


def models(results: dict[str, Any]) -> str:
    """What was measured."""
    body = []
    for name, model in results["models"].items():
        base = model["base"]
        trained = "" if model["trained_parameters"] is None else f"{model['trained_parameters']:,}"
        body.append(
            [
                name,
                model["kind"],
                f"{base['name']} at {base['revision']}" if base else "",
                trained,
                "whole encoder" if model["fine_tuned"] else "",
                ", ".join(map(str, model["seeds"])),
            ]
        )
    return table(["Model", "Kind", "Base", "Trained parameters", "Fine-tuned", "Seeds"], body)


def sets(results: dict[str, Any]) -> str:
    """What was measured on."""
    body = []
    for name, measured in results["sets"].items():
        data = measured["dataset"]
        where = f"{data['id']}, {data['split']}" if data else "a file"
        body.append([name, f"{measured['pairs']:,}", where])
    return table(["Set", "Pairs", "From"], body)


def cell(figure: dict[str, Any] | None, percent: bool = True) -> str:
    """Mean ± deviation over seeds [interval over pairs]."""
    if figure is None:
        return ""
    scale, digits = (100, 1) if percent else (1, 4)
    mean, low, high = (f"{scale * figure[key]:.{digits}f}" for key in ("mean", "low", "high"))
    sd = "" if figure["sd"] is None else f" ± {scale * figure['sd']:.{digits}f}"
    return f"{mean}{sd} [{low}, {high}]"


def table(heads: list[str], body: list[list[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in body])


def _intervals() -> str:
    return (
        "Shares in per cent. Mean ± standard deviation over seeds, where there are several; in brackets the "
        "95 % interval of the mean over pairs drawn anew (percentile bootstrap)."
    )
