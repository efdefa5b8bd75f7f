"""The picture at the top of README.md: what the quick start answers, by the share of wrong answers accepted.

Drawn from its calibration. `python docs/render/readme.py` writes it.
"""

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from modernbert_nli.loading import stored_config  # noqa: E402

PICTURE = ROOT / "docs" / "overview.svg"
CHECKPOINT = ROOT / "checkpoints" / "quickstart"
TARGETS = (0.02, 0.05, 0.1, 0.15, 0.2)

_WIDTH, _LEFT, _RIGHT, _ROW, _BAR = 760, 176, 76, 34, 20
_TOP = 78

_STYLE = """
text { font: 14px system-ui, sans-serif; fill: #1f2328; }
.title { font-size: 17px; font-weight: 600; }
.quiet { font-size: 12.5px; fill: #59636e; }
.track { fill: #eaeef2; }
.bar { fill: #2a6f97; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .quiet { fill: #9198a1; }
  .track { fill: #262c36; }
  .bar { fill: #61a5c2; }
}
"""


def picture() -> str:
    """The picture as SVG, of the checkpoint as it is."""
    config = stored_config(CHECKPOINT)
    return drawn(config["calibration"][config["encoding"]], config["encoding"])


def drawn(calibration: dict[str, Any], encoding: str) -> str:
    """The picture of a calibration: see `calibration.py`."""
    rows = {row["target_risk"]: row for row in calibration["table"]}
    shown = [rows[target] for target in TARGETS if target in rows]
    height = _TOP + len(shown) * _ROW + 58
    whole = _WIDTH - _LEFT - _RIGHT
    lines = [
        _text(20, 30, "How much is answered, by how many of the answers may be wrong", "title"),
        _text(20, 53, "The rest is left undecided: the model abstains.", "quiet"),
    ]
    for number, row in enumerate(shown):
        top = _TOP + number * _ROW
        coverage = row["coverage"] if row["threshold"] is not None else None
        lines.append(_text(20, top + 15, f"at most {row['target_risk']:.0%} wrong"))
        lines.append(_box(_LEFT, top, whole, "track"))
        if coverage is not None:
            lines.append(_box(_LEFT, top, whole * coverage, "bar"))
        said = "nothing" if coverage is None else f"{coverage:.0%}"
        lines.append(_text(_LEFT + whole + 12, top + 15, said))
    below = _TOP + len(shown) * _ROW + 16
    made = (
        f"Quick start on {calibration['n']:,} held-out pairs of its training sources, {encoding} encoding; "
        f"each holds with {1 - calibration['delta']:.0%} certainty."
    )
    lines += [_text(20, below, made, "quiet"), _text(20, below + 20, _of_new_kinds(calibration), "quiet")]
    body = "\n".join(lines)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}" role="img" aria-label="Share of pairs answered by share of wrong answers">\n'
        f"<style>{_STYLE}</style>\n{body}\n</svg>\n"
    )


def _of_new_kinds(calibration: dict[str, Any]) -> str:
    """What is guaranteed for text of a kind that the heads do not know."""
    rows = calibration.get("domains", {}).get("table", [])
    kept = [row for row in rows if row["threshold"] is not None]
    if not kept:
        return "For text of other kinds nothing is guaranteed: calibrate on pairs of your own."
    row = kept[0]
    return (
        f"Text of a kind never seen: at most {row['target_risk']:.0%} wrong, {row['coverage']:.0%} answered, "
        f"in {1 - calibration['domains']['delta']:.0%} of the kinds."
    )


def _text(x: float, y: float, said: str, kind: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}"' + (f' class="{kind}"' if kind else "") + f">{said}</text>"


def _box(x: float, y: float, width: float, kind: str) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:.1f}" height="{_BAR}" rx="3" class="{kind}"/>'
