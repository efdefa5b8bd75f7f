"""The same decisions on a Ray cluster: files of pairs, or a step of a Ray Data pipeline of one's own.

    import ray
    from modernbert_nli.prediction.ray_engine import NliBatch

    pairs = ray.data.read_parquet("s3://bucket/pairs/")
    decided = pairs.map_batches(NliBatch, batch_format="pyarrow", batch_size=256, concurrency=8, num_gpus=1)

Ray reads, schedules, limits what waits in memory, and starts again what a lost worker had; each row is in the
output once. What a row gets is what `predict.py` gives it, errors included.
"""

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ..files import InputError
from ..loading import load_pipeline
from ..repository import PACKAGE, ROOT, is_clone
from .rows import CHECK, JUDGE

READS = {".parquet": "read_parquet", ".jsonl": "read_json", ".json": "read_json", ".csv": "read_csv"}
ROWS = 1024  # of a batch that a worker gets: sorted by length, judged 32 at a time
LEFT_OUT = [".git", ".venv", "build", "runs", "docs", "tests", "experiments"]  # workers need none of these


class NliBatch:
    """Batches of rows to batches of rows with decisions, for `map_batches` with `batch_format="pyarrow"`.

    Args:
        model, base, revision (`str`, *optional*): Of the checkpoint, as for `predict.py`.
        work (`"judge"`, `"check"` or `"route"`, *optional*, defaults to `"judge"`): What is done with a row.
        premise_column, hypothesis_column (`str`, *optional*): The columns read: `premise` and `hypothesis`;
            for `"check"` `source` and `answer`; for `"route"` `text` alone.
        categories (`Mapping[str, str]` or `Sequence[str]`, *optional*): For `"route"`.
        threshold (`float`, *optional*): Abstain from this uncertainty upwards.
        batch_size (`int`, *optional*, defaults to 32): Pairs that the model judges at once.
        device (`str`, *optional*): Defaults to the GPU that Ray gives, or the CPU.
    """

    def __init__(
        self,
        model: str | None = None,
        base: str | None = None,
        revision: str | None = None,
        work: str = "judge",
        premise_column: str | None = None,
        hypothesis_column: str | None = None,
        categories: Mapping[str, str] | Sequence[str] | None = None,
        threshold: float | None = None,
        batch_size: int = 32,
        device: str | None = None,
    ):
        if work not in ("judge", "check", "route"):
            raise ValueError(f"`work` is 'judge', 'check' or 'route', not {work!r}.")
        if (work == "route") != (categories is not None):
            raise ValueError("`categories` go with `work='route'`, which needs them.")
        self.pipe = load_pipeline(model, base, revision, device)
        first, second = {"judge": ("premise", "hypothesis"), "check": ("source", "answer")}.get(
            work, ("text", None)
        )
        self.columns = [name for name in (premise_column or first, hypothesis_column or second) if name]
        self.categories, self.options = categories, {"threshold": threshold, "batch_size": batch_size}
        self._work = {"judge": JUDGE, "check": CHECK}.get(work)

    def __call__(self, table: pa.Table) -> pa.Table:
        """The rows, with what was decided on each."""
        if missing := [name for name in self.columns if name not in table.column_names]:
            raise InputError(f"There is no column {missing[0]!r}, only {', '.join(table.column_names)}.")
        texts = [table[name].to_pylist() for name in self.columns]
        self.pipe.texts.clear()  # or a row's rounding would depend on what the worker had before
        if self._work is None:
            results, types = self._routed(texts[0]), {**ROUTED, "error": pa.string()}
        else:
            pairs = list(zip(*texts, strict=True))
            results = self._work.do(self.pipe, pairs, [None] * len(pairs), **self.options)
            types = self._work.columns(self.pipe)
        for name, type_ in types.items():
            free = name if name not in table.column_names else f"predicted_{name}"
            column = pa.array([result.get(name) for result in results], type_)
            table = table.append_column(free, column)
        return table

    def _routed(self, texts: list[Any]) -> list[dict[str, Any]]:
        from ..tokenization import PairError, check_text

        found = []
        for text in texts:
            try:
                check_text(text, "text", 0)
                (result,) = self.pipe.route([text], self.categories, threshold=self.options["threshold"])
                found.append({**{key: result[key] for key in ROUTED}, "error": None})
            except PairError as error:
                found.append({"error": error.reason})
        return found


ROUTED = {
    "category": pa.string(),
    "confidence": pa.float64(),
    "uncertainty": pa.float64(),
    "reason": pa.string(),
}


def judge_files(
    pattern: str,
    output: str,
    address: str | None = None,
    workers: int | None = None,
    gpus: float = 0,
    batch: type[NliBatch] = NliBatch,
    **options: Any,
) -> tuple[list[str], list[str]]:
    """Judge files, each into a folder of Parquet files of its own, in the order of its rows.

    A folder is there only when it is whole: a second run passes over those that are, and makes the others.

    Args:
        pattern (`str`): Files, a folder of them, or a pattern such as `pairs/*.parquet`; also on object
            stores that fsspec knows, such as `s3://bucket/pairs/*.parquet`.
        output (`str`): A folder, there too.
        address (`str`, *optional*): Of a cluster, `"auto"` for the one that this machine is in; by default
            Ray is started here.
        workers (`int`, *optional*): How many hold a model; by default as many as the cluster has room for.
        gpus (`float`): Of each worker.
        batch (`type`): What judges.
        options: Of `NliBatch`.

    Returns:
        Files that were judged, and those that had been.

    Raises:
        InputError: Ray is not installed, or there is no file of a known kind.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError('`--engine ray` needs Ray: run `pip install ".[ray]"`.') from error
    files, to = _files(pattern), _Place(output)
    started = not ray.is_initialized()
    if started:
        environment = _code()
        ray.init(address=address, runtime_env=environment, log_to_driver=False)
    judged, known = [], []
    try:
        ray.data.DataContext.get_current().execution_options.preserve_order = True
        count = workers or _room(ray.cluster_resources(), gpus)
        for path in files:
            target = posixpath.join(to.path, posixpath.splitext(posixpath.basename(path))[0])
            if to.fs.exists(target):
                known.append(path)
                continue
            aside = f"{target}.partial"
            if to.fs.exists(aside):
                to.fs.rm(aside, recursive=True)
            read = getattr(ray.data, READS[posixpath.splitext(path)[1].lower()])
            decided = read(path).map_batches(
                batch,
                fn_constructor_kwargs=options,
                batch_format="pyarrow",
                batch_size=ROWS,
                concurrency=count,
                num_gpus=gpus,
            )
            decided.write_parquet(to.url(aside))
            to.fs.mv(aside, target, recursive=True)
            judged.append(path)
    finally:
        if started:
            ray.shutdown()
    return judged, known


def _code() -> dict[str, Any]:
    """What workers need that are on other machines: this package, and its checkpoint."""
    if is_clone():  # in which that lies beside the package
        return {"working_dir": str(ROOT), "excludes": LEFT_OUT}
    return {"py_modules": [str(PACKAGE)]}


def _room(resources: Mapping[str, float], gpus: float) -> int:
    """How many workers a cluster has room for, beside what reads and writes."""
    free = resources.get("GPU", 0) / gpus if gpus else resources.get("CPU", 1) - 1
    return max(1, int(free))


class _Place:
    """A folder, wherever it is."""

    def __init__(self, url: str):
        import fsspec

        self.fs, self.path = fsspec.url_to_fs(url)
        self.fs.makedirs(self.path, exist_ok=True)

    def url(self, path: str) -> str:
        local = self.fs.protocol in ("file", ("file", "local"))
        return path if local else self.fs.unstrip_protocol(path)


def _files(pattern: str) -> list[str]:
    """All that a pattern names, in their order.

    Raises:
        InputError: there is none, one is of no known kind, or two have one name.
    """
    import fsspec

    fs, path = fsspec.url_to_fs(pattern)
    if fs.isdir(path):
        found = [name for name in fs.ls(path, detail=False) if _kind(name) in READS]
    else:
        found = fs.glob(path)
    if not found:
        raise InputError(f"{pattern} names no file that ends in {', '.join(READS)}.")
    if odd := [name for name in found if _kind(name) not in READS]:
        raise InputError(f"{odd[0]} is of no known kind: its name must end in {', '.join(READS)}.")
    stems = [posixpath.splitext(posixpath.basename(name))[0] for name in found]
    if twice := [name for name, stem in zip(found, stems, strict=True) if stems.count(stem) > 1]:
        raise InputError(f"{' and '.join(twice[:2])} would have one output: rename one.")
    local = fs.protocol in ("file", ("file", "local"))
    return sorted(found if local else map(fs.unstrip_protocol, found))


def _kind(name: str) -> str:
    return posixpath.splitext(name)[1].lower()
