"""How pictures look, and how they are saved: the same in every run, legible in print and on a dark page."""

from pathlib import Path
from types import ModuleType
from typing import Any

GROUND, INK, FAINT = "#f7f7f5", "#1f1f1f", "#bdbdb9"  # the ground is opaque: any page may be behind it


def require_matplotlib() -> ModuleType:
    """matplotlib, which nothing else here needs.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import matplotlib
        import matplotlib.figure
    except ImportError:
        raise ImportError(
            "Pictures need matplotlib, which is not installed: run `pip install modernbert-nli[plots]`."
        ) from None
    return matplotlib


def look(salt: str) -> dict[str, Any]:
    """Settings for `matplotlib.rc_context`; the salt makes the ids of an SVG the same in every run."""
    colours = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    return {"font.size": 10, "svg.hashsalt": salt, "axes.edgecolor": INK, **colours}


def new_figure(width: float, height: float) -> Any:
    """A figure on the opaque ground; sizes in inches."""
    figure = require_matplotlib().figure
    return figure.Figure(figsize=(width, height), facecolor=GROUND, layout="constrained")


def save(figure: Any, path: Path) -> None:
    """As PNG and as SVG."""
    figure.savefig(path.with_suffix(".png"), dpi=150)
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
