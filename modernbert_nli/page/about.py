"""The foot of the page: what abstaining buys, as a picture where there is one, and what the model is."""

import base64
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from ..repository import ROOT

if TYPE_CHECKING:
    from ..pipeline_modernbert_nli import NliAbstentionPipeline

PICTURE = ROOT / "docs" / "results" / "risk_coverage.svg"


def about(pipe: "NliAbstentionPipeline", picture: Path = PICTURE) -> str:
    """The foot of the page of a pipeline; the picture, which `evaluate_nli.py` draws, is part of the HTML."""
    base = escape(pipe.model.config.base_model_name_or_path or "a base of their own")
    return (
        f'<footer class="about">{_figure(picture)}<p>Small heads on the frozen encoder {base}.</p></footer>'
    )


def _figure(picture: Path) -> str:
    if not picture.is_file():
        return ""
    data = base64.b64encode(picture.read_bytes()).decode()
    words = "Curves: the share of wrong answers among those given, against the share of pairs that get one"
    return (
        f'<figure><img alt="{words}" src="data:image/svg+xml;base64,{data}"><figcaption>Fewer answers, fewer '
        "of them wrong: risk against coverage, as measured for the checkpoint of the repository.</figcaption>"
        "</figure>"
    )
