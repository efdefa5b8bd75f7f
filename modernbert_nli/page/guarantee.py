"""The risk that a reader chooses, in words: the threshold it means, what it costs, what it does not cover."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..calibration import CALIBRATION, guarantee_of

if TYPE_CHECKING:
    from ..pipeline_modernbert_nli import NliAbstentionPipeline

NOT_COVERED = (
    "It is for pairs like those, all of them together: not for other kinds of text, not for each kind of "
    "pair by itself, and not for the best of several categories or passages."
)
NOT_COVERED_BY_DOMAINS = (
    "It is for a kind of text as a whole, and not for the best of several categories or passages; of the "
    "kinds that it fails for, the risk may be any."
)


class Limit(NamedTuple):
    """From which uncertainty to abstain, and what is said about it: the guarantee, then its small print."""

    threshold: float
    guarantee: str
    detail: str


class Choice(NamedTuple):
    """The target risks, between 0 and 1, from which the reader may choose, and the one to begin with."""

    lowest: float
    highest: float
    start: float


def choice(pipe: "NliAbstentionPipeline") -> Choice | None:
    """What the calibration of a pipeline offers; `None` where it has none for the pipeline's encoding.

    It begins with the greatest target that abstains no later than the checkpoint does by itself.
    """
    rows = _table(pipe)
    guaranteed = [row for row in rows if row["threshold"] is not None]
    if not guaranteed:
        return None
    usual = [row for row in guaranteed if row["threshold"] <= pipe.threshold + 1e-9] or guaranteed[:1]
    return Choice(rows[0]["target_risk"], rows[-1]["target_risk"], usual[-1]["target_risk"])


def limit(pipe: "NliAbstentionPipeline", risk: float | None) -> Limit:
    """The threshold for a risk (a share between 0 and 1), or without one the pipeline's own.

    Raises:
        ValueError: the calibration does not guarantee such a risk; the pipeline's own sentence.
    """
    if risk is None:
        usual = f"It abstains from an uncertainty of {pipe.threshold:.2f} upwards, as it was trained to."
        return Limit(pipe.threshold, no_guarantee(pipe), usual)
    like = _like(pipe)
    threshold = pipe.threshold_for(risk, like=like)
    entry = (pipe.model.calibration or {})[pipe.encoding]
    chosen = guarantee_of(entry, like)
    kept = [
        row for row in chosen["table"] if row["threshold"] == threshold and row["target_risk"] <= risk + 1e-9
    ]
    row = kept[-1]
    new = chosen is not entry
    where = ", also in a kind of text that the model has never seen" if new else ""
    guarantee = (
        f"At most {percent(row['target_risk'])} of the answers given are wrong{where}, and about "
        f"{row['coverage']:.0%} of pairs get one."
    )
    if row["target_risk"] < risk - 1e-9:
        guarantee = f"Nothing was measured for {percent(risk)}; the next stricter guarantee: {guarantee}"
    if new:
        found = (
            f"for {percent(1 - chosen['delta'])} of kinds of text, by {chosen['n']} of them, each judged by "
            "heads that had not seen it"
        )
    else:
        found = f"with {percent(1 - chosen['delta'])} certainty, by {chosen['n']:,} held-out pairs"
    detail = (
        f"This holds {found}: the model abstains from an uncertainty of {threshold:.2f} upwards. "
        f"{NOT_COVERED_BY_DOMAINS if new else NOT_COVERED}"
    )
    return Limit(threshold, guarantee, detail)


def no_guarantee(pipe: "NliAbstentionPipeline") -> str:
    """What to say in place of the choice where there is none."""
    if problem := pipe.model.stale_calibration():
        return problem
    if _table(pipe):
        return "None of the risks that this checkpoint was calibrated for could be guaranteed."
    return f"This checkpoint is not calibrated for {pipe.encoding} encoding, and guarantees nothing."


def percent(share: float) -> str:
    """As short as it is exact to a tenth: 0.075 is "7.5%" and 0.1 is "10%"."""
    return f"{round(100 * share, 1):g}%"


def _table(pipe: "NliAbstentionPipeline") -> list[Mapping[str, Any]]:
    calibration = {} if pipe.model.stale_calibration() else pipe.model.config.calibration or {}
    if pipe.encoding not in calibration:
        return []
    return list(guarantee_of(calibration[pipe.encoding], _like(pipe))["table"])


def _like(pipe: "NliAbstentionPipeline") -> str | None:
    """The guarantee for text of a kind never seen, or that for pairs like calibration's, if it has no row."""
    guarantee = guarantee_of(pipe.model.config.calibration[pipe.encoding])
    return None if any(row["threshold"] is not None for row in guarantee["table"]) else CALIBRATION
