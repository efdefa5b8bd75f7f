"""The page of a checkpoint, from its own files and the results files beside it. No figure is typed by hand.

What is missing leaves a visible gap, "**missing: …**", and is listed, so that nobody publishes it unseen.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from safetensors import safe_open
from safetensors.torch import load_file

from ..calibrating.command import NOT_COVERED
from ..calibration import CALIBRATION
from ..configuration_modernbert_nli import ModernBertNliConfig
from ..fingerprint import heads_digest, stale
from ..loading import stored_config
from ..repository import PACKAGE, ROOT

# Installed, its template is part of the package; in the repository it stands by itself.
HERE = PACKAGE / "model_card"
if not HERE.is_dir():
    HERE = ROOT / "model_card"
LICENCE = "apache-2.0"
TASK = "text-classification"  # the Hub knows no task of text pairs, and this one loads with it
TAGS = (
    "custom_code",
    "natural-language-inference",
    "nli",
    "selective-prediction",
    "abstention",
    "calibration",
)
GROUP_TARGETS = (0.05, 0.1, 0.2)  # target risks at which each group's coverage is shown
SELECTIVE = ("coverage", "selective_accuracy", "aurc")  # beside accuracy, in the model-index and in the table
# Modules of a checkpoint that run before anything is called, and those that a pair needs besides: what is
# really executed, by tests/test_house.py.
ON_LOADING = (
    *("configuration_modernbert_nli", "modeling_modernbert_nli", "checkpoint"),
    *("encoder", "fingerprint", "heads", "tokenization"),
)
FOR_A_PAIR = (
    *("pipeline_modernbert_nli", "guards", "kept_texts", "separate", "pairwise", "states"),
    *("sentences", "markup"),
)


@dataclass(frozen=True)
class Page:
    """A rendered card, and what it lacks."""

    text: str
    gaps: list[str]


@dataclass(frozen=True)
class Evaluation:
    """The results of `evaluate_nli.py`, and which of them are this checkpoint's."""

    results: Mapping[str, Any]
    own: str | None  # name of this checkpoint among its models

    @classmethod
    def read(cls, folder: Path, checkpoint: str, base: Mapping[str, Any]) -> "Evaluation | None":
        """Of a folder of results; None where it has none.

        Args:
            folder (`Path`): With evaluation.json.
            checkpoint (`str`): Name of the checkpoint's folder.
            base (`Mapping`): Its base, `name` and `revision`.

        Raises:
            ValueError: evaluation.json is not what `evaluate_nli.py` writes.
        """
        path = folder / "evaluation.json"
        if not path.is_file():
            return None
        try:
            results = json.loads(path.read_text(encoding="utf-8"))
            own = [
                name
                for name, model in results["models"].items()
                if model["kind"] == "heads"
                and model["base"] == dict(base)
                and checkpoint in (name, *(Path(path).name for path in model["checkpoint"].split(",")))
            ]
            found = cls(results, own[0] if own else None)
            _ = peers(found), evaluation_results(found, None), _provenance(results)  # whether all is there
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is not what evaluate_nli.py writes ({error!r}): run it again."
            ) from error
        return found


def render(
    folder: Path,
    repo_id: str,
    revision: str,
    evaluation: Evaluation | None,
    examples: Sequence[Mapping[str, Any]],
) -> Page:
    """The README.md of a repository.

    Args:
        folder (`Path`): All other files that the repository will have.
        repo_id (`str`), revision (`str`): Where the snippets load it from.
        evaluation (`Evaluation`, *optional*): Of this checkpoint and of others.
        examples (`Sequence[Mapping]`): Each with `premise`, `hypothesis` and the pipeline's `decision`.
    """
    gaps: list[str] = []

    def missing(what: str) -> str:
        gaps.append(what)
        return f"**missing: {what}**"

    config = stored_config(folder)
    results = _training_results(folder / "results.json")
    base = {"name": config["base_model_name_or_path"], "revision": config["base_model_revision"]}
    data = training_data(results) if results else []
    outdated = _outdated(folder)
    index = evaluation_results(evaluation, config["encoding"]) if evaluation else []
    owner, _, name = repo_id.rpartition("/")
    metadata = ModelCardData(
        library_name="transformers",
        pipeline_tag=TASK,
        base_model=base["name"],
        base_model_relation="adapter",
        license=LICENCE,
        language=sorted({row["language"] for row in data if row["language"]}) or None,
        datasets=list(dict.fromkeys(row["id"] for row in data if row["id"])) or None,
        metrics=sorted({result.metric_type for result in index} & {"accuracy", "f1"}) or None,
        tags=list(TAGS),
        model_name=name,
        eval_results=index or None,
        widget=[_widget(example) for example in examples],
    )
    environment = Environment(
        loader=FileSystemLoader(HERE), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(percent=_percent, share=_share, cell=_cell, rounded=_rounded)
    text = environment.get_template("template.md").render(
        card_data=metadata.to_yaml(),
        missing=missing,
        repo_id=repo_id,
        revision=revision,
        owner=owner,
        name=name,
        base=base,
        parameters=_parameters(folder / "model.safetensors"),
        hidden_size=config["encoder_config"]["hidden_size"],
        window=config["encoder_config"].get("max_position_embeddings"),
        labels=[config["id2label"][key] for key in sorted(config["id2label"], key=int)],
        head_type=config["head_type"],
        by_max_prob=config.get("abstention_weight") == 0,
        tells=config.get("familiarity") is not None,
        threshold=config["abstention_threshold"],
        examples=examples,
        pictures=sorted(path.name for path in folder.glob("*.png")),
        peers=peers(evaluation) if evaluation else None,
        selective=selective(results) if results and results["evaluation"] else None,
        guarantee=None if outdated else guarantee(config),
        limits=NOT_COVERED,
        data=data,
        results={**results, "versions": _versions(results.get("versions", {}))} if results else None,
        evaluation=_provenance(evaluation.results) if evaluation else None,
        code=shipped_code(folder, adapter=bool(config.get("adapter"))),
    )
    if outdated:
        gaps.append(f"the guarantee of a risk: its calibration {outdated}")
    if not index:
        gaps.append("the model-index: no result of this checkpoint on a set of the Hub in evaluation.json")
    return Page(str(ModelCard(text)), gaps)


def shipped_code(folder: Path, adapter: bool = False) -> list[dict[str, Any]]:
    """Each file of Python in a folder, what runs first coming first: its name, `runs`, size and SHA-256.

    Args:
        folder (`Path`): What is to be published.
        adapter (`bool`, *optional*, defaults to `False`): Whether its base has a low-rank update.
    """
    by_stem = {path.stem: path for path in sorted(folder.glob("*.py")) if path.name != "handler.py"}
    first = {*ON_LOADING, "lora"} if adapter else {*ON_LOADING}
    stages = {
        "on loading": first,
        "for a pair": {*FOR_A_PAIR},
        "when called": by_stem.keys() - first - {*FOR_A_PAIR},
    }
    return [
        {"name": path.name, "runs": runs, "bytes": len(code), "sha256": hashlib.sha256(code).hexdigest()}
        for runs, stems in stages.items()
        for stem, path in by_stem.items()
        if stem in stems
        for code in [path.read_bytes()]
    ]


def training_data(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is known of each source of results.json: `title`, `id`, `licence`, `language`, `pairs`."""
    known = yaml.safe_load((HERE / "datasets.yaml").read_text(encoding="utf-8"))
    by_name = {name: entry for entry in known for name in entry["names"]}
    rows = []
    learnt = {"": results["train"], ", abstention head alone": results.get("abstention_data", {})}
    for stage, sources in learnt.items():
        for name, pairs in sources.items():
            entry = by_name.get(name, {"id": None, "licence": "not stated", "language": None})
            title = f"{entry['title']} (`{name}`)" if name in by_name else f"`{name}`, local data"
            rows.append({**entry, "title": title + stage, "pairs": pairs})
    return rows


def evaluation_results(evaluation: Evaluation, encoding: str | None) -> list[EvalResult]:
    """The model-index: this checkpoint, with one encoding (or any), on those sets that the Hub has."""
    found = []
    for row in evaluation.results["results"]:
        dataset = evaluation.results["sets"][row["set"]]["dataset"]
        if row["model"] != evaluation.own or dataset is None or encoding not in (None, row["encoding"]):
            continue
        where = {f"dataset_{key}": dataset[key] for key in ("name", "config", "split", "revision")}
        figures = {
            "accuracy": ("Accuracy", row["accuracy"]),
            "f1": ("F1, macro average", row["f1_macro"]),
            **{figure: (_words(figure), (row["selective"] or {}).get(figure)) for figure in SELECTIVE},
        }
        found += [
            EvalResult(
                task_type=TASK,
                task_name="Natural language inference",
                dataset_type=dataset["id"],
                metric_type=metric,
                metric_name=name,
                metric_value=round(value["mean"], 4),
                **where,
            )
            for metric, (name, value) in figures.items()
            if value is not None
        ]
    return found


def peers(evaluation: Evaluation) -> dict[str, Any]:
    """The table of all models, the most accurate first; those that lack a set come after the others."""
    sets = evaluation.results["sets"]
    models = evaluation.results["models"]
    by_row: dict[tuple[str, str | None], dict[str, Mapping[str, float]]] = {}
    for row in evaluation.results["results"]:
        by_row.setdefault((row["model"], row["encoding"]), {})[row["set"]] = row["accuracy"]

    def rank(item: tuple[Any, dict[str, Mapping[str, float]]]) -> tuple[bool, float]:
        means = [accuracy["mean"] for accuracy in item[1].values()]
        return len(means) < len(sets), -sum(means) / len(means)

    rows = []
    for (name, encoding), accuracies in sorted(by_row.items(), key=rank):
        model = models[name]
        title = "**this model**" if name == evaluation.own else name
        count = model["trained_parameters"]
        rows.append(
            {
                "title": f"{title}, {encoding}" if encoding else title,
                "fine_tuned": model["fine_tuned"],
                "parameters": "–" if count is None else f"{count:,}",
                "accuracies": [_with_interval(accuracies.get(name)) for name in sets],
            }
        )
    gaps = []
    if evaluation.own is None:
        gaps.append("this model in the table: its checkpoint is not among the models of evaluation.json")
    if not any(models[name]["fine_tuned"] for name, _ in by_row):
        gaps.append("a fully fine-tuned model in the table: evaluation.json has none")
    titles = [f"{name} ({about['pairs']:,} pairs)" for name, about in sets.items()]
    seeds = len(models[evaluation.own]["seeds"]) if evaluation.own else 0
    return {"sets": titles, "rows": rows, "seeds": seeds, "gaps": gaps}


def selective(results: Mapping[str, Any]) -> dict[str, Any]:
    """The table of accuracy with coverage: over seeds, where the results are."""
    over_seeds = results.get("over_seeds")
    rows = []
    for name, encodings in results["evaluation"].items():
        for encoding, measured in encodings.items():
            figures = over_seeds[name][encoding] if over_seeds else measured
            shown = {
                figure: _figure(figure, figures[figure])
                for figure in ("accuracy", *SELECTIVE, "aurc_max_prob")
            }
            rows.append({"set": name, "pairs": measured["pairs"], "encoding": encoding, **shown})
    return {"rows": rows, "seeds": len(results.get("seeds", ())), "seed": results["seed"]}


def guarantee(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The calibration of the default encoding; None where the checkpoint guarantees nothing."""
    entry = (config.get("calibration") or {}).get(config["encoding"])
    if not entry:
        return None
    domains = entry.get("domains")
    kept, kept_over_domains = (_kept(guarantee["table"]) for guarantee in (entry, domains or {"table": []}))
    if not kept and not kept_over_domains:
        return None
    first = kept_over_domains or kept
    at = [row for row in first if math.isclose(row["threshold"], config["abstention_threshold"])]
    like = f', like="{CALIBRATION}"' if domains else ""
    return {
        "rows": entry["table"],
        "example": f"{_example(kept)}{like}" if kept else None,
        "row": at[0]["target_risk"] if at else None,
        "encoding": config["encoding"],
        "groups": [
            {"name": name, "pairs": group["n"], "coverages": _coverages(group["table"])}
            for name, group in entry.get("groups", {}).items()
        ],
        "group_targets": GROUP_TARGETS,
        "domains": domains and {**domains, "example": _example(kept_over_domains)},
        **{key: entry[key] for key in ("n", "delta", "method")},
    }


def _kept(table: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in table if row["threshold"] is not None]


def _example(kept: Sequence[Mapping[str, Any]]) -> float | None:
    return kept[len(kept) // 2]["target_risk"] if kept else None


def _coverages(table: Sequence[Mapping[str, Any]]) -> list[float | None]:
    by_target = {row["target_risk"]: row["coverage"] for row in table}
    return [by_target.get(target) for target in GROUP_TARGETS]


def _training_results(path: Path) -> dict[str, Any] | None:
    """What train.py wrote; None where it is not there."""
    if not path.is_file():
        return None
    results = json.loads(path.read_text(encoding="utf-8"))
    needed = {"train", "pairs", "evaluation", "command", "date", "seed"}
    if not isinstance(results, dict) or not needed <= results.keys():
        raise ValueError(f"{path.name} is not what train.py writes: it needs {', '.join(sorted(needed))}.")
    return results


def _widget(example: Mapping[str, Any]) -> dict[str, Any]:
    probabilities = example["decision"]["probs"].items()
    output = [{"label": label, "score": round(score, 3)} for label, score in probabilities]
    return {
        "example_title": example["hypothesis"],
        "text": example["premise"],
        "text_pair": example["hypothesis"],
        "output": output,
    }


def _outdated(folder: Path) -> str | None:
    """What is wrong with the calibration for the heads that lie beside it."""
    config = ModernBertNliConfig.from_pretrained(folder)
    return stale(config, heads_digest(load_file(folder / "model.safetensors"), config))


def _parameters(path: Path) -> int:
    with safe_open(path, "pt") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def _provenance(results: Mapping[str, Any]) -> dict[str, str]:
    """Where the figures of an evaluation come from."""
    return {**{key: results[key] for key in ("command", "date")}, "versions": _versions(results["versions"])}


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _with_interval(accuracy: Mapping[str, float] | None) -> str:
    if accuracy is None:
        return "–"
    return f"{accuracy['mean']:.1%} ({100 * accuracy['low']:.1f} to {100 * accuracy['high']:.1f})"


def _figure(name: str, value: Any) -> str:
    """A mean with its standard deviation, or one value; null where nothing was answered."""
    if value is None:
        return "–"
    mean, sd = (value["mean"], value["sd"]) if isinstance(value, Mapping) else (value, None)
    if name.startswith("aurc"):
        return f"{mean:.4f}" if sd is None else f"{mean:.4f} ± {sd:.4f}"
    return f"{mean:.1%}" if sd is None else f"{mean:.1%} ± {100 * sd:.1f}"


def _words(name: str) -> str:
    return "AURC" if name == "aurc" else name.replace("_", " ").capitalize()


def _percent(share: float, digits: int = 1) -> str:
    return f"{share:.{digits}%}"


def _share(share: float | None) -> str:
    """In percent; of nothing there is none."""
    return "–" if share is None else _percent(share)


def _cell(text: str) -> str:
    """Text that stays in its cell of a table."""
    return " ".join(text.replace("|", "\\|").split())


def _rounded(value: Any) -> Any:
    """Numbers as a reader wants them, at any depth."""
    if isinstance(value, Mapping):
        return {key: _rounded(inner) for key, inner in value.items()}
    return round(value, 3) if isinstance(value, float) else value
