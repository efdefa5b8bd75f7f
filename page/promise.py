"""The risk that a reader chooses, in words: what threshold it means, what it costs, what it does not cover."""

from collections.abc import Mapping
from typing import Any, NamedTuple

NOT_CALIBRATED = (
    "This checkpoint is not calibrated for {encoding} encoding: it abstains from an uncertainty of "
    "{threshold:.2f} upwards, as it was trained to, and promises nothing about how often its answers are wrong."
)
NOT_COVERED = (
    "The promise is for English pairs like those that it was measured on, all of them together. It does not cover "
    "other kinds of text, each kind of pair by itself, or the best of several categories."
)


class Limit(NamedTuple):
    """From which uncertainty to abstain, and what is to be said about it."""

    threshold: float
    sentence: str


class Choice(NamedTuple):
    """The target risks, shares between 0 and 1, that the reader may choose from, and the one to begin with."""

    lowest: float
    highest: float
    start: float


def choice(pipe: Any) -> Choice | None:
    """What the calibration of a pipeline offers; `None` where it has none for the pipeline's encoding.

    It begins with the greatest target that abstains no later than the checkpoint does by itself.
    """
    rows = _table(pipe)
    promised = [row for row in rows if row["threshold"] is not None]
    if not promised:
        return None
    usual = [row for row in promised if row["threshold"] <= pipe.threshold + 1e-9] or promised[:1]
    return Choice(rows[0]["target_risk"], rows[-1]["target_risk"], usual[-1]["target_risk"])


def limit(pipe: Any, risk: float | None) -> Limit:
    """The threshold for a risk (a share between 0 and 1), or without one the pipeline's own.

    Raises:
        ValueError: the calibration does not promise such a risk; the pipeline's own sentence.
    """
    if risk is None:
        return Limit(pipe.threshold, no_promise(pipe))
    threshold = pipe.threshold_for(risk)
    entry = pipe.model.config.calibration[pipe.encoding]
    kept = [
        row for row in entry["table"] if row["threshold"] == threshold and row["target_risk"] <= risk + 1e-9
    ]
    row = kept[-1]
    sentence = (
        f"Of the answers given, at most {percent(row['target_risk'])} are wrong; about {percent(row['coverage'])} of "
        f"pairs get an answer. This holds with {percent(1 - entry['delta'])} certainty, by {entry['n']:,} held-out "
        f"pairs: the model abstains from an uncertainty of {threshold:.2f} upwards."
    )
    if row["target_risk"] < risk - 1e-9:
        sentence = f"Nothing was measured for {percent(risk)}, so that a stricter promise is kept. {sentence}"
    return Limit(threshold, sentence)


def no_promise(pipe: Any) -> str:
    """What to say in place of the choice where there is none."""
    rows = _table(pipe)
    if rows:
        return (
            "None of the risks that this checkpoint was calibrated for could be promised: it abstains from an "
            f"uncertainty of {pipe.threshold:.2f} upwards, and promises nothing."
        )
    return NOT_CALIBRATED.format(encoding=pipe.encoding, threshold=pipe.threshold)


def percent(share: float) -> str:
    """As short as it is exact to a tenth: 0.075 is "7.5%" and 0.1 is "10%"."""
    return f"{round(100 * share, 1):g}%"


def _table(pipe: Any) -> list[Mapping[str, Any]]:
    calibration = pipe.model.config.calibration or {}
    return list(calibration[pipe.encoding]["table"]) if pipe.encoding in calibration else []
