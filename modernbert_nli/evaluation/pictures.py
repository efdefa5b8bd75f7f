"""Predictions to pictures, as PNG and SVG: risk and coverage, reliability, and the scores of right and wrong.

Where a model has several seeds, the first one is drawn.
"""

from pathlib import Path
from typing import Any

import numpy as np

from ..training.data import NOT_ENTAILMENT
from ..training.metrics import max_prob_uncertainty, risk_coverage, wrong
from ..training.plot_style import FAINT, GROUND, INK, look, new_figure, require_matplotlib, save
from ..training.trainers import fit_temperature
from .measure import probabilities_of
from .predictions import Predictions

# Okabe & Ito's colours without the two that are too light for the ground: told apart by the colour-blind too.
_COLOURS = ("#0072b2", "#d55e00", "#007a5a", "#a8437f", "#1f1f1f", "#7a5c00")
_MARKS = ("o", "s", "^", "D", "v", "P")
_COLUMNS, _BINS, _POINTS = 3, 10, 400
_FEWEST = 30  # pairs in a point of the reliability diagram

# By the name of model and encoding, and the name of the set.
PredictionsByModel = dict[tuple[str, str], Predictions]


def draw(judged: PredictionsByModel, temperatures: dict[str, float], folder: Path) -> None:
    """Draw all pictures.

    Args:
        judged (`dict`): Predictions by model (with its encoding) and set.
        temperatures (`dict[str, float]`): By model, the temperature that its checkpoint has in its weights.
        folder (`Path`): Where `risk_coverage`, `reliability` and `scores` go.

    Raises:
        ImportError: matplotlib is not installed.
    """
    matplotlib = require_matplotlib()
    with matplotlib.rc_context(look("evaluation")):
        save(_risk_coverage(judged), folder / "risk_coverage")
        save(_reliability(judged, temperatures), folder / "reliability")
        save(_scores(judged), folder / "scores")


def _risk_coverage(judged: PredictionsByModel) -> Any:
    """A panel for each set; for each model its own score, MaxProb and the best order of its answers."""
    models, sets = (list(dict.fromkeys(names)) for names in zip(*judged, strict=True))
    figure, panels = _panels(len(sets), 4.2, 3.4)
    for name, panel in zip(sets, panels, strict=True):
        highest = 0.0
        for number, model in enumerate(models):
            if (model, name) not in judged:
                continue
            run, colour = judged[model, name], _COLOURS[number % len(_COLOURS)]
            errors, max_prob = wrong(run.logits, run.labels), max_prob_uncertainty(run.logits)
            highest = max(highest, errors.mean())
            if run.uncertainty is not None:
                panel.plot(*_curve(errors, run.uncertainty), color=colour, linewidth=1.8)
            panel.plot(*_curve(errors, max_prob), color=colour, linewidth=1.4, linestyle=(0, (4, 2)))
            ideal = _curve(np.sort(errors), np.arange(len(errors)))
            panel.plot(*ideal, color=colour, linewidth=1.2, linestyle=(0, (1, 1.6)))
        panel.set(title=name, xlim=(0, 1), ylim=(0, 1.15 * highest or 0.01), xlabel="coverage", ylabel="risk")
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
    line = require_matplotlib().lines.Line2D
    handles = [
        line([], [], color=_COLOURS[number % len(_COLOURS)], linewidth=3, label=model)
        for number, model in enumerate(models)
    ]
    styles = {"its own score": "-", "MaxProb": (0, (4, 2)), "oracle: errors last": (0, (1, 1.6))}
    handles += [line([], [], color=INK, linestyle=style, label=name) for name, style in styles.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False)
    return figure


def _curve(errors: np.ndarray, uncertainty: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and risk, at no more points than a picture can show."""
    coverage, risk = risk_coverage(errors, uncertainty)
    shown = np.unique(np.linspace(0, len(coverage) - 1, _POINTS).round().astype(int))
    return coverage[shown], risk[shown]


def _reliability(judged: PredictionsByModel, temperatures: dict[str, float]) -> Any:
    """Accuracy by confidence over all three-way sets, before a temperature and after it."""
    figure = new_figure(9.5, 5.6)
    before, after = figure.subplots(1, 2, sharey=True)
    for number, (model, runs) in enumerate(_by_model(judged, three_way=True).items()):
        logits = np.concatenate([run.logits for run in runs])
        labels = np.concatenate([run.labels for run in runs])
        if model in temperatures:  # it is in the weights already
            calibrated, logits = logits, logits * temperatures[model]
        else:
            calibrated = _by_the_other_half(logits, labels)
        for panel, shown in ((before, logits), (after, calibrated)):
            probabilities = probabilities_of(shown)
            confidence, right = probabilities.max(axis=1), ~wrong(shown, labels)
            place = np.clip((confidence * _BINS).astype(int), 0, _BINS - 1)
            counts = np.bincount(place, minlength=_BINS)
            enough = counts >= _FEWEST
            means = [
                np.bincount(place, values, _BINS)[enough] / counts[enough] for values in (confidence, right)
            ]
            colour, mark = _COLOURS[number % len(_COLOURS)], _MARKS[number % len(_MARKS)]
            panel.plot(*means, color=colour, marker=mark, markersize=5, linewidth=1.4, label=model)
    for panel, title in ((before, "before the temperature"), (after, "after it")):
        panel.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle="--")
        _style(panel)
        panel.set(title=title, xlim=(0.3, 1), ylim=(0.3, 1), xlabel="confidence")
    before.set_ylabel("accuracy")
    figure.legend(*before.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def _scores(judged: PredictionsByModel) -> Any:
    """For each model its uncertainty over all sets, of right answers and of wrong ones."""
    models = _by_model(judged)
    names, colours = ("right", "wrong"), _COLOURS[:2]
    figure, panels = _panels(len(models), 4.2, 2.8)
    for (model, runs), panel in zip(models.items(), panels, strict=True):
        errors = np.concatenate([wrong(run.logits, run.labels) for run in runs])
        scores = np.concatenate(
            [max_prob_uncertainty(run.logits) if run.uncertainty is None else run.uncertainty for run in runs]
        )
        own = runs[0].uncertainty is not None
        parts = [scores[~errors], scores[errors]]
        panel.hist(
            parts,
            bins=30,
            range=(0, 1),
            stacked=True,
            color=colours,
            edgecolor=GROUND,
            linewidth=0.4,
        )
        if runs[0].threshold is not None:
            panel.axvline(runs[0].threshold, color=INK, linewidth=1.2, linestyle="--")
        panel.set(title=model, xlim=(0, 1), xlabel="uncertainty" if own else "1 - MaxProb", ylabel="pairs")
        panel.yaxis.set_major_formatter("{x:,.0f}")
    matplotlib = require_matplotlib()
    handles = [
        matplotlib.patches.Patch(color=colour, label=name)
        for name, colour in zip(names, colours, strict=True)
    ]
    handles.append(matplotlib.lines.Line2D([], [], color=INK, linestyle="--", label="abstains from here"))
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False)
    return figure


def _panels(count: int, width: float, height: float) -> tuple[Any, list[Any]]:
    """A figure with so many panels, in rows."""
    columns = 2 if count == 4 else min(_COLUMNS, count)
    rows = -(-count // columns)
    figure = new_figure(max(6.5, width * columns), height * rows + 0.8)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in panels[count:]:
        panel.remove()
    for panel in panels[:count]:
        _style(panel)
    return figure, panels[:count]


def _style(panel: Any) -> None:
    panel.set_facecolor(GROUND)
    panel.grid(color=FAINT, linewidth=0.5, alpha=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def _by_model(judged: PredictionsByModel, three_way: bool = False) -> dict[str, list[Predictions]]:
    models: dict[str, list[Predictions]] = {}
    for (model, _), run in judged.items():
        if not (three_way and (run.labels == NOT_ENTAILMENT).any()):
            models.setdefault(model, []).append(run)
    return models


def _by_the_other_half(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Logits over the temperature of the pairs in the other random half: none is judged by what it set."""
    half = np.random.default_rng(0).random(len(labels)) < 0.5
    calibrated = np.empty_like(logits)
    for mine in (half, ~half):
        calibrated[mine] = logits[mine] / fit_temperature(logits[~mine], labels[~mine])
    return calibrated
