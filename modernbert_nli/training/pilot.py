"""What heads say of pairs that they have not seen: which are easy, which may be mislabelled; a picture."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..configuration_modernbert_nli import LABELS
from ..prediction.pair_files import json_line
from .data import Pairs
from .plot_style import FAINT, GROUND, INK, look, new_figure, require_matplotlib, save

_BEFORE, _KEPT = FAINT, "#0b6aa8"  # they differ in lightness too: legible in print


@dataclass
class Scores:
    """Out-of-fold probabilities of labelled pairs, source by source."""

    sources: list[Pairs]
    probs: np.ndarray  # (pairs, 3), of entailment, neutral, contradiction

    @property
    def labels(self) -> np.ndarray:
        """Labels as given, (pairs,)."""
        return np.concatenate([pairs.labels for pairs in self.sources])

    @property
    def p_label(self) -> np.ndarray:
        """Probability of the label as given, (pairs,)."""
        return self.probs[np.arange(len(self.probs)), self.labels]

    @property
    def predicted(self) -> np.ndarray:
        """The most probable label, (pairs,)."""
        return self.probs.argmax(axis=1)

    @property
    def rows(self) -> list[np.ndarray]:
        """By source, the number of each pair among those that were read, from 1."""
        return [1 + (np.arange(len(pairs)) if pairs.rows is None else pairs.rows) for pairs in self.sources]

    def by_source(self, values: np.ndarray) -> list[np.ndarray]:
        """Values of all pairs, one array for each source."""
        return np.split(values, np.cumsum([len(pairs) for pairs in self.sources])[:-1])

    def place(self, index: int) -> tuple[int, int]:
        """The number of a pair's source, and where in it the pair is."""
        starts = np.cumsum([0, *(len(pairs) for pairs in self.sources)])
        source = int(np.searchsorted(starts, index, side="right")) - 1
        return source, int(index - starts[source])


def folds_by_premise(pairs: Pairs, folds: int, seed: int) -> np.ndarray:
    """(n,): a fold for each pair, one and the same for all pairs of a premise, whatever their source."""
    # A greater share holds out what a smaller one does, and the next fold.
    held_out = [pairs.held_out(number / folds, seed) for number in range(1, folds)]
    return folds - 1 - np.sum(held_out, axis=0)


def thin(p_label: np.ndarray, labels: np.ndarray, bins: int, most_per_bin: float, seed: int) -> np.ndarray:
    """Mask of the pairs to keep, (n,): all but some of the easy ones.

    The pairs of a label are put in bins of equal width by `p_label`. A bin of easy pairs, which begins at 2/3
    or above, keeps at most `most_per_bin` of all pairs of that label, drawn at random. Easy pairs become
    fewer, never none, and no other is lost.

    Args:
        p_label (`np.ndarray` of shape `(n,)`): Out-of-fold probability of the label as given.
        labels (`np.ndarray` of shape `(n,)`): Labels as given.
        bins (`int`): Bins from 0 to 1.
        most_per_bin (`float`): Share of a label's pairs.
        seed (`int`): Of the draw.
    """
    random, kept = np.random.default_rng(seed), np.ones(len(labels), bool)
    bin_of = _bin_of(p_label, bins)
    for label in range(len(LABELS)):
        most = _most(most_per_bin, int((labels == label).sum()))
        for number in range(_first_easy(bins), bins):
            here = np.flatnonzero((labels == label) & (bin_of == number))
            kept[random.permutation(here)[most:]] = False
    return kept


def _bin_of(p_label: np.ndarray, bins: int) -> np.ndarray:
    return np.minimum((p_label * bins).astype(np.int64), bins - 1)


def _first_easy(bins: int) -> int:
    """The first bin that begins at 2/3 or above."""
    return -(-2 * bins // 3)


def _most(most_per_bin: float, pairs_of_label: int) -> int:
    return max(1, int(most_per_bin * pairs_of_label))


def find_suspects(scores: Scores, most: int) -> np.ndarray:
    """Pairs whose label is probably wrong: heads that have not seen them are sure of another one.

    In the manner of confident learning (Northcutt et al. 2021, arXiv:1911.00068). The surest come first.
    """
    doubted = np.flatnonzero(scores.predicted != scores.labels)
    sure = scores.probs[doubted].max(axis=1)
    return doubted[np.argsort(-sure, kind="stable")][:most]


def write_results(
    scores: Scores, kept: np.ndarray, suspects: np.ndarray, bins: int, most_per_bin: float, folder: Path
) -> None:
    """Write all that a pilot run finds: `scores.jsonl`, `suspects.csv`, `kept/` and the histogram.

    Args:
        scores (`Scores`): Of all pairs.
        kept (`np.ndarray` of shape `(pairs,)`): From `thin`, with the same `bins` and `most_per_bin`.
        suspects (`np.ndarray`): From `find_suspects`.
        folder (`Path`): Where to; it must be empty.
    """
    (folder / "kept").mkdir(parents=True)
    with (folder / "scores.jsonl").open("wb") as file:
        file.writelines(json_line(row) for row in _score_rows(scores))
    with (folder / "suspects.csv").open("w", encoding="utf-8", newline="") as text:
        writer = csv.writer(text)
        columns = "source,row,premise,hypothesis,label,predicted,p_label,p_predicted"
        writer.writerow(columns.split(","))
        writer.writerows(_suspect_rows(scores, suspects))
    for pairs, mask in zip(scores.sources, scores.by_source(kept), strict=True):
        rows = np.flatnonzero(mask)
        if len(rows):
            with (folder / "kept" / f"{pairs.name}.jsonl").open("wb") as file:
                file.writelines(json_line(_as_row(pairs, row)) for row in rows.tolist())
    draw_histogram(scores, kept, bins, most_per_bin, folder / "histogram")


def draw_histogram(scores: Scores, kept: np.ndarray, bins: int, most_per_bin: float, path: Path) -> None:
    """For each label the pairs by `p_label`, before and after thinning, as PNG and as SVG."""
    matplotlib = require_matplotlib()
    with matplotlib.rc_context(look("pilot")):
        figure = new_figure(11, 4)
        panels = figure.subplots(1, len(LABELS), sharey=True)
        for label, (name, panel) in enumerate(zip(LABELS, panels, strict=True)):
            here = scores.labels == label
            _draw_label(panel, scores.p_label[here], kept[here], bins, most_per_bin)
            panel.set_title(f"{name}: {here.sum():,} pairs, {kept[here].sum():,} kept", fontsize=11)
        panels[0].set_ylabel("pairs")
        what = "probability of the label as given, from heads that have not seen the pair"
        panels[1].set_xlabel(f"a wrong label?  ←  {what}  →  easy")
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles[::-1], names[::-1], loc="outside upper center", ncols=3, frameon=False)
        figure.get_layout_engine().set(w_pad=0.15)
        save(figure, path)


def _draw_label(panel: Any, p_label: np.ndarray, kept: np.ndarray, bins: int, most_per_bin: float) -> None:
    bin_of, lefts = _bin_of(p_label, bins), np.arange(bins) / bins
    for part, color, name in ((bin_of, _BEFORE, "thinned out"), (bin_of[kept], _KEPT, "kept")):
        counts = np.bincount(part, minlength=bins)
        panel.bar(lefts, counts, 1 / bins, align="edge", color=color, edgecolor=GROUND, label=name)
    line = {"color": INK, "linestyle": "--", "linewidth": 1, "label": "most that an easy bin keeps"}
    panel.hlines(_most(most_per_bin, len(p_label)), lefts[_first_easy(bins)], 1, **line)
    panel.set(facecolor=GROUND, xlim=(0, 1), xticks=(0, 0.25, 0.5, 0.75, 1))
    panel.xaxis.set_major_formatter("{x:g}")
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color(INK)
    panel.yaxis.set_major_formatter("{x:,.0f}")


def _score_rows(scores: Scores) -> Iterator[dict[str, object]]:
    parts = (scores.labels, scores.p_label, scores.predicted, scores.probs.max(axis=1))
    columns = zip(scores.rows, *(scores.by_source(part) for part in parts), strict=True)
    for pairs, values in zip(scores.sources, columns, strict=True):
        for number, label, p_label, predicted, p_predicted in zip(*values, strict=True):
            yield {
                "source": pairs.name,
                "row": int(number),
                "label": LABELS[label],
                "p_label": round(float(p_label), 6),
                "predicted": LABELS[predicted],
                "p_predicted": round(float(p_predicted), 6),
            }


def _suspect_rows(scores: Scores, suspects: np.ndarray) -> Iterator[list[object]]:
    p_label, rows = scores.p_label, scores.rows
    for index in suspects:
        source, row = scores.place(int(index))
        pairs, predicted = scores.sources[source], int(scores.probs[index].argmax())
        yield [
            pairs.name,
            rows[source][row],
            pairs.premises[row],
            pairs.hypotheses[row],
            LABELS[pairs.labels[row]],
            LABELS[predicted],
            f"{p_label[index]:.6f}",
            f"{scores.probs[index, predicted]:.6f}",
        ]


def _as_row(pairs: Pairs, row: int) -> dict[str, str]:
    return {
        "premise": pairs.premises[row],
        "hypothesis": pairs.hypotheses[row],
        "label": LABELS[pairs.labels[row]],
    }
