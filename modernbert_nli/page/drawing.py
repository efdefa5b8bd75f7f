"""Pieces of HTML: bars, the scale of uncertainty, notes and problems. Whatever was typed is escaped here."""

from collections.abc import Callable, Sequence
from html import escape

QUOTED = 160  # characters of a text that are shown again


def quote(text: str, length: int = QUOTED) -> str:
    """The beginning of a text on one line, escaped."""
    text = " ".join(text[: 4 * length].split())
    return escape(text if len(text) <= length else text[: length - 1].rstrip() + "…")


def share(value: float) -> str:
    """A probability as it is read: never "100%" or "0%" for what is not quite."""
    rounded = f"{value:.0%}"
    if rounded == "100%" and value < 1:
        return "over 99%"
    return "under 1%" if rounded == "0%" and value > 0 else rounded


def bars(
    rows: Sequence[tuple[str, float]],
    caption: str,
    strongest: str | None = None,
    kind: str = "",
    figure: Callable[[float], str] = share,
) -> str:
    """A table of names, bars and figures, its caption for screen readers alone, the `strongest` in bold.

    Args:
        rows (`Sequence[tuple[str, float]]`): Names, and what is drawn: values between 0 and 1.
        kind (`str`, *optional*): A further class of the table.
        figure (`Callable[[float], str]`, *optional*): How a value is written.
    """
    lines = "".join(
        f'<tr{" class=strongest" if name == strongest else ""}><th scope="row">{quote(name, 60)}</th>'
        f'<td><span class="bar"><span style="width:{100 * value:.1f}%"></span></span></td>'
        f'<td class="figure">{figure(value)}</td></tr>'
        for name, value in rows
    )
    return (
        f'<table class="bars {kind}"><caption><span class="unseen">{escape(caption)}</span></caption>'
        f"<tbody>{lines}</tbody></table>"
    )


def scale(uncertainty: float, threshold: float) -> str:
    """The uncertainty of a pair, and the threshold from which the model abstains, on a line from 0 to 1."""
    abstains = uncertainty >= threshold
    words = (
        f"Uncertainty {uncertainty:.2f} on a scale from 0 to 1, {'not ' * abstains}below {threshold:.2f}, "
        "from where the model abstains."
    )
    return (
        f'<div class="scale{" abstains" * abstains}" role="img" aria-label="{words}">'
        f"{_mark(threshold, 'limit', 'abstains from')}"
        f'<div class="track"><span class="beyond" style="left:{100 * threshold:.1f}%"></span>'
        f'<span class="here" style="left:{100 * uncertainty:.1f}%"></span></div>'
        f"{_mark(uncertainty, 'value', 'uncertainty')}</div>"
    )


def note(text: str) -> str:
    """A remark below an answer."""
    return f'<p class="note">{escape(text)}</p>'


def problem(text: str) -> str:
    """What stands in the way of an answer; a screen reader says it at once."""
    text = text[:1].upper() + text[1:]
    return f'<div class="answer problem" role="alert"><p>{escape(text)}</p></div>'


def _mark(place: float, name: str, words: str) -> str:
    """A label at its place on the scale, on the side where there is room for it."""
    side = "left" if place < 0.5 else "right"
    offset = place if side == "left" else 1 - place
    return (
        f'<div class="mark {name} {side}"><span style="{side}:{100 * offset:.1f}%">{words} '
        f"<b>{place:.2f}</b></span></div>"
    )
