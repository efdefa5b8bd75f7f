"""Give the quick start checkpoint a sample of what it learnt from, which `nli.adapt` keeps it by.

    python benchmarks/home.py --data DATA                                  for checkpoints/quickstart
    python benchmarks/home.py --data DATA --checkpoint CHECKPOINT          for other heads of the same recipe

`train.py` writes such a sample itself; this is for heads that were trained before it did. DATA is that of
`train_quickstart.py`, whose sources and weights are taken.
"""

import argparse
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from train_quickstart import training_data  # noqa: E402

import quickstart  # noqa: E402
from modeling_modernbert_nli import ModernBertNliModel  # noqa: E402
from training.cache import cache_states  # noqa: E402
from training.data import clean, load_pairs  # noqa: E402
from training.home import home_of  # noqa: E402
from training.states import PairStates  # noqa: E402

STATES = ROOT / "runs" / "states"
SEED = 1


def main() -> None:
    """Draw, summarise and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, default=quickstart.CHECKPOINT)
    args = parser.parse_args()
    base = str(quickstart.base_folder())
    model = ModernBertNliModel.from_pretrained(
        args.checkpoint, base_model_name_or_path=base, dtype=torch.bfloat16
    ).eval()
    sources, evaluation = training_data(args.data, ROOT / "runs" / "quickstart")
    loaded = clean([load_pairs(source) for source in sources], [load_pairs(source) for source in evaluation])
    parts = []
    for pairs in loaded:
        states, rows = cache_states(model, pairs.whole, STATES), pairs.repeated(SEED)
        parts.append(states.take(rows if pairs.rows is None else pairs.rows[rows]))
    fitted = PairStates.concatenate(parts)
    home = home_of(model, fitted, SEED)
    home.save(args.checkpoint)
    size = (args.checkpoint / "home.safetensors").stat().st_size
    print(f"{len(home):,} of {len(fitted):,} pairs, {size:,} bytes")


if __name__ == "__main__":
    main()
