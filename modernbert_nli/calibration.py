"""What a checkpoint guarantees: a threshold for each target risk, and if new text differs from calibration's.

`config.calibration` is what `training/calibration.py` measured on held-out pairs, by encoding:

    {"separate": {"method": …, "delta": 0.1, "n": 4000, "data": ["snli_validation"], "date": "2026-11-21",
                  "table": [{"target_risk": 0.05, "threshold": 0.21, "coverage": 0.48, "risk": 0.04}, …],
                  "quantiles": [0.01, …, 0.69], "labels": {"entailment": 0.34, …}}}

A row guarantees, as in selective risk control, that of the answers accepted below its threshold at most the
share `target_risk` is wrong in the long run, with probability 1 - `delta` over the draw of the calibration
pairs. Its threshold is null where that could not be guaranteed; `coverage` and `risk` are what was measured
there. `quantiles` are 101 of the uncertainty, from the least to the greatest; `labels` are the shares of the
labels that were answered.

That is for pairs drawn as those were. Two more guarantees may stand beside it:

    "groups": {"snli": {"n": 900, "table": […]}, …}     for pairs drawn as those of a group, with `delta`
    "domains": {"method": …, "delta": 0.1, "n": 20, "date": "2026-11-24",
                "table": [{"target_risk": 0.2, "threshold": 0.1, "coverage": 0.3, "risk": 0.08,
                           "worst_risk": 0.24, "broken": 0.05}, …],
                "at": 0.2, "each": [{"name": "climate", "pairs": 900, "error": 0.4, "coverage": 0.2,
                                     "risk": 0.1}, …]}

The latter is for text of a kind never seen: a row guarantees that the risk is at most `target_risk` in a new
domain, with probability 1 - `delta` over its draw, by `n` domains that the heads were left ignorant of (see
`calibrating/over_domains.py`). `coverage` is the mean over these, `risk` the median, `worst_risk` the
greatest, `broken` the share of them whose risk was greater than the target; `each` has them one by one at the
target `at`, beside `error`, the risk of answering everything. It is what a target risk means, where there is
one.

A guarantee belongs to the heads that it was measured of, which `calibrated_heads` in the configuration tells
by their digest: `model.set_calibration` writes both, and `model.calibration` is that of these heads or none.

All of it lies in a file of its own, `calibration.json`, which is read when it is first asked for: tables by
column, without the rows that guarantee nothing, `targets` being all that were tried, and with its own
`calibrated_heads`. Earlier versions have it in config.json, where it is still read.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from transformers.utils import cached_file, logging

from .fingerprint import HOW

logger = logging.get_logger(__name__)

FILE = "calibration.json"
QUANTILES = 101
CALIBRATION = "calibration"  # `like`: the guarantee for pairs drawn as calibration's

_ROW = {"target_risk", "threshold", "coverage", "risk"}
_EXACT = ("target_risk", "targets", "threshold", "delta")  # of what is stored; other figures have six digits


class StaleCalibration(ValueError):
    """A calibration of other heads than those that it stands beside."""


def check_calibration(calibration: Any, encodings: Sequence[str]) -> None:
    """Raise a ValueError that says what is wrong with the `calibration` of a configuration; None is fine."""
    if calibration is None:
        return
    if not isinstance(calibration, Mapping) or not set(calibration) <= set(encodings):
        raise ValueError(
            f"`calibration` is a dict by encoding ({', '.join(encodings)}), got {calibration!r}."
        )
    for encoding, entry in calibration.items():
        if problem := _problem(entry):
            raise ValueError(f"`calibration[{encoding!r}]`: {problem}. Calibrate again: {HOW}")


def write_calibration(path: Path, calibration: Mapping[str, Any] | None, heads: str | None) -> None:
    """Write `calibration.json`, or remove it where there is no calibration.

    Args:
        path (`Path`): The file.
        calibration (`Mapping`, *optional*): Of a configuration.
        heads (`str`, *optional*): Its `calibrated_heads`.
    """
    if calibration is None:
        path.unlink(missing_ok=True)
        return
    stored = {"calibrated_heads": heads, "calibration": compact(calibration)}
    path.write_text(json.dumps(stored, separators=(",", ":")) + "\n", encoding="utf-8")


def read_calibration(
    name: str, encodings: Sequence[str], heads: str, **location: Any
) -> dict[str, Any] | None:
    """The calibration that lies beside a config.json; None where there is none of its heads.

    Args:
        name (`str`): The checkpoint: folder or repository id.
        encodings (`Sequence[str]`): That there may be.
        heads (`str`): `calibrated_heads` of the configuration.
        **location: Where the Hub has it: `revision`, `subfolder`, `token`, `cache_dir`, …

    Raises:
        OSError: the Hub cannot be reached, and the file was never downloaded.
        ValueError: the file is none that `write_calibration` wrote.
    """
    path = cached_file(name, FILE, _raise_exceptions_for_missing_entries=False, **location)
    if path is None:
        return None
    try:
        stored = json.loads(Path(path).read_text(encoding="utf-8"))
        calibration = expanded(stored["calibration"])
        check_calibration(calibration, encodings)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no calibration that can be read ({error}). Calibrate: {HOW}") from error
    if stored.get("calibrated_heads") != heads:
        logger.warning_once(f"{path} is of other heads than the config.json beside it, and is not read.")
        return None
    return calibration


def compact(calibration: Mapping[str, Any]) -> dict[str, Any]:
    """A calibration as it is stored."""
    found = {}
    for encoding, entry in calibration.items():
        kept = _by_column(entry)
        if "groups" in entry:
            kept["groups"] = {name: _by_column(group, entry) for name, group in entry["groups"].items()}
        if entry.get("domains"):
            each = entry["domains"]["each"]
            kept["domains"] = {**_by_column(entry["domains"]), "each": _columns(each, list(each[0]))}
        found[encoding] = _short(kept)
    return found


def expanded(calibration: Mapping[str, Any]) -> dict[str, Any]:
    """A calibration as it is used, of what `compact` made of it, or of itself."""
    found = {}
    for encoding, stored in calibration.items():
        entry = _by_row(stored)
        if "groups" in stored:
            entry["groups"] = {name: _by_row(group, stored) for name, group in stored["groups"].items()}
        if stored.get("domains"):
            entry["domains"] = _by_row(stored["domains"])
            if isinstance(each := stored["domains"]["each"], Mapping):
                entry["domains"]["each"] = _rows(each)
        found[encoding] = entry
    return found


def _by_column(guarantee: Mapping[str, Any], parent: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A guarantee with its table by column, without what it has in common with that of its `parent`."""
    rows, above = guarantee["table"], parent["table"] if parent else []
    kept = [row for row in rows if row["threshold"] is not None]
    columns = _columns(kept, list(rows[0]) if rows else []) if kept or not parent else {}
    packed = {**guarantee, "table": columns}
    targets = [row["target_risk"] for row in rows]
    if not parent or targets != [row["target_risk"] for row in above]:
        packed["targets"] = targets
    return packed


def _by_row(stored: Mapping[str, Any], parent: Mapping[str, Any] | None = None) -> dict[str, Any]:
    columns = stored["table"]
    if not isinstance(columns, Mapping):
        return dict(stored)
    kept = {row["target_risk"]: row for row in _rows(columns)}
    nothing = dict.fromkeys(columns or sorted(_ROW))
    targets = stored["targets"] if "targets" in stored else (parent or {})["targets"]
    table = [kept.get(target, {**nothing, "target_risk": target}) for target in targets]
    return {**{key: value for key, value in stored.items() if key != "targets"}, "table": table}


def _columns(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> dict[str, list[Any]]:
    return {key: [row[key] for row in rows] for key in keys}


def _rows(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _short(value: Any, key: str = "") -> Any:
    if isinstance(value, Mapping):
        return {name: _short(inner, name) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_short(inner, key) for inner in value]
    return float(f"{value:.6g}") if isinstance(value, float) and key not in _EXACT else value


def calibrated(calibration: Mapping[str, Any] | None, encoding: str) -> Mapping[str, Any]:
    """The `calibration` of a configuration for an encoding; a ValueError where there is none."""
    if not calibration or encoding not in calibration:
        known = f" (for {' and '.join(calibration)} it is)" if calibration else ""
        raise ValueError(
            f"This checkpoint is not calibrated for {encoding} encoding{known}, so that it guarantees "
            f"nothing. Calibrate it: {HOW}"
        )
    return calibration[encoding]


def guarantee_of(entry: Mapping[str, Any], like: str | None = None) -> Mapping[str, Any]:
    """The `table`, `delta` and `n` of one guarantee: see `guaranteed_threshold` for `like`.

    Raises:
        ValueError: calibration has no such group.
    """
    if like is None:
        return entry.get("domains") or entry
    if like == CALIBRATION:
        return entry
    groups = entry.get("groups", {})
    if not isinstance(like, str) or like not in groups:
        raise ValueError(
            f"`like` is {CALIBRATION!r} or a group of its pairs ({', '.join(groups) or 'it has none'}), "
            f"got {like!r}."
        )
    return {"delta": entry["delta"], **groups[like]}


def guaranteed_threshold(
    calibration: Mapping[str, Any] | None, encoding: str, target_risk: float, like: str | None = None
) -> float:
    """The threshold that keeps a risk: that of the greatest target no greater that could be guaranteed.

    Args:
        calibration (`Mapping`, *optional*): Of a configuration.
        encoding (`"joint"` or `"separate"`): How the pairs are encoded.
        target_risk (`float`): Share of wrong answers among those accepted, between 0 and 1.
        like (`str`, *optional*): What the pairs are like: `"calibration"`, or a group of calibration's pairs,
            such as `"snli"`. By default text of a kind never seen, where there is a guarantee for that, else
            calibration's.

    Raises:
        ValueError: there is no calibration for this encoding, or none of its guarantees is as strict.
    """
    if not _is_share(target_risk) or target_risk == 0:
        raise ValueError(f"`target_risk` is a share of wrong answers, such as 0.1, got {target_risk!r}.")
    entry = calibrated(calibration, encoding)
    guarantee = guarantee_of(entry, like)
    strict = _kept(guarantee, target_risk)
    if strict:
        return strict[-1]["threshold"]
    kept = _kept(guarantee)
    best = f"the lowest is {kept[0]['target_risk']:.1%}" if kept else "nor can any other of its targets"
    what, source = "", f"{guarantee['n']:,} calibration pairs. More pairs, or better heads, guarantee more"
    if like not in (None, CALIBRATION):
        what = f" for pairs like those of {like!r}"
    elif guarantee is not entry:
        what = " for text of a kind never seen"
        source = f"{guarantee['n']} kinds of text, each judged by heads that had not seen it"
    if guarantee is not entry and _kept(entry, target_risk):
        source += f". It can for pairs drawn as calibration's: `like={CALIBRATION!r}`"
    raise ValueError(
        f"A risk of {target_risk:.1%} cannot be guaranteed with {encoding} encoding{what}: {best}, from "
        f"{source}."
    )


def _kept(guarantee: Mapping[str, Any], target_risk: float = 1.0) -> list[Mapping[str, Any]]:
    """The rows that could be guaranteed and are as strict, from the strictest."""
    rows = [row for row in guarantee["table"] if row["threshold"] is not None]
    return [row for row in rows if row["target_risk"] <= target_risk + 1e-9]


def _problem(entry: Any) -> str | None:
    if problem := _lacks(entry, {"method", "delta", "n", "data", "date", "table", "quantiles", "labels"}):
        return problem
    if problem := _problem_of_guarantee(entry, _ROW):
        return problem
    scores = entry["quantiles"]
    if not isinstance(scores, Sequence) or len(scores) != QUANTILES or not all(map(_is_share, scores)):
        return f"`quantiles` are {QUANTILES} uncertainties"
    if any(one > other for one, other in pairwise(scores)):
        return "`quantiles` must increase"
    if not isinstance(entry["labels"], Mapping) or not all(map(_is_share, entry["labels"].values())):
        return "`labels` are shares by label"
    problem = _problem_of_groups(entry.get("groups", {}), entry["delta"])
    return problem or _problem_of_domains(entry.get("domains"))


def _problem_of_groups(groups: Any, delta: float) -> str | None:
    if not isinstance(groups, Mapping) or CALIBRATION in groups:
        return f"`groups` are guarantees by name, none of which is {CALIBRATION!r}"
    for name, group in groups.items():
        problem = _lacks(group, {"n", "table"}) or _problem_of_guarantee({"delta": delta, **group}, _ROW)
        if problem:
            return f"in `groups[{name!r}]`, {problem}"
    return None


def _problem_of_domains(domains: Any) -> str | None:
    if domains is None:
        return None
    if problem := _lacks(domains, {"method", "delta", "n", "date", "table", "at", "each"}):
        return f"in `domains`, {problem}"
    if problem := _problem_of_guarantee(domains, _ROW | {"worst_risk", "broken"}):
        return f"in `domains`, {problem}"
    each, needed = domains["each"], {"name", "pairs", "error", "coverage", "risk"}
    counted = isinstance(each, Sequence) and len(each) == domains["n"]
    if not counted or any(_lacks(one, needed) for one in each):
        return f"in `domains`, `each` has {domains['n']} rows of {', '.join(sorted(needed))}"
    return None


def _lacks(entry: Any, needed: set[str]) -> str | None:
    if isinstance(entry, Mapping) and needed <= set(entry):
        return None
    return f"it needs {', '.join(sorted(needed))}"


def _problem_of_guarantee(guarantee: Mapping[str, Any], keys: set[str]) -> str | None:
    """Of `delta`, `n` and `table`."""
    if not _is_share(guarantee["delta"]) or guarantee["delta"] in (0, 1):
        return f"`delta` lies between 0 and 1, got {guarantee['delta']!r}"
    if isinstance(guarantee["n"], bool) or not isinstance(guarantee["n"], int) or guarantee["n"] < 1:
        return f"`n` is a number, 1 or more, got {guarantee['n']!r}"
    rows = guarantee["table"]
    if not isinstance(rows, Sequence) or any(_lacks(row, keys) for row in rows):
        return f"each row of `table` needs {', '.join(sorted(keys))}"
    thresholds = [row["threshold"] for row in rows if row["threshold"] is not None]
    if not all(_is_share(value) for value in [*(row["target_risk"] for row in rows), *thresholds]):
        return "targets and thresholds of `table` lie between 0 and 1"
    if any(one["target_risk"] >= other["target_risk"] for one, other in pairwise(rows)):
        return "the targets of `table` must increase"
    if any(one > other for one, other in pairwise(thresholds)):
        return "a greater target of `table` has a lower threshold"
    return None


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
