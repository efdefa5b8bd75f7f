"""Which pairs to label: typical ones of every kind that there is among them.

As many clusters as pairs are wanted (k-means over the vectors that labels are concluded from, begun as by
Arthur & Vassilvitskii 2007), and of each the pair next to its centre, those of large clusters first. So few
pairs should be typical rather than doubtful (Hacohen et al. 2022, arXiv:2202.02794): to prefer what the heads
are in doubt about, as BADGE does (Ash et al. 2020, arXiv:1906.03671), gained less
(`experiments/results/adapt.md`).
"""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from .. import embedded
from ..prediction.pair_files import READERS
from ..tokenization import PairError, check_pair
from .arguments import HeadArguments
from .cache import cache_states
from .data import Pairs
from .initial_model import trained_model
from .replay import summaries_of_states

TO_LABEL = "to_label.csv"
_COLUMNS = ("premise", "hypothesis")
_ROUNDS = 15  # of k-means


def choose_pairs(
    files: Sequence[str], count: int, head: HeadArguments, cache_dir: Path, folder: Path, seed: int
) -> int:
    """Write the pairs to label, those that stand for most others first; how many there are.

    Args:
        files (`Sequence[str]`): Of unlabelled pairs; repeated ones are looked at once.
        count (`int`): How many to choose.
        head (`HeadArguments`): Whose heads see them, by `init_from`; by default the quick start's.
        cache_dir (`Path`): Of the encoder's states: an interrupted run goes on with those that are there.
        folder (`Path`): Where the file goes. One that is there is not replaced: it may hold labels.
        seed (`int`): Of the choice.

    Raises:
        ValueError: a file that cannot be read, or a row that is no pair of texts.
        FileExistsError: there is such a file already.
    """
    target = folder / TO_LABEL
    if target.exists():
        raise FileExistsError(f"{target} is there already, perhaps with labels: name another `--output_dir`.")
    pairs = unlabelled_pairs(files)
    model = trained_model(replace(head, init_from=head.init_from or str(embedded.CHECKPOINT))).eval()
    states = cache_states(model, pairs, cache_dir)
    encoding = model.config.encoding
    summaries = summaries_of_states(model, states.only(encoding), encoding, np.arange(len(pairs)))
    with torch.no_grad():
        vectors = model.nli_hidden.conclude(summaries)
    chosen = representatives(vectors, count, seed)
    folder.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f"{TO_LABEL}.new")
    with aside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*_COLUMNS, "label"])
        writer.writerows([pairs.premises[row], pairs.hypotheses[row], ""] for row in chosen.tolist())
    aside.replace(target)
    return len(chosen)


def unlabelled_pairs(files: Sequence[str]) -> Pairs:
    """The distinct pairs of files, with labels that mean nothing.

    Raises:
        ValueError: a file that cannot be read, or a row that is no pair of texts; both are named.
    """
    found: dict[tuple[str, str], None] = {}
    for name in files:
        path = Path(name)
        if path.suffix.lower() not in READERS or not path.is_file():
            raise ValueError(f"{name} is no file that ends in {', '.join(READERS)}.")
        for number, (values, problem) in enumerate(READERS[path.suffix.lower()](path, "raw", None), start=1):
            premise, hypothesis = (values.get(column) for column in _COLUMNS)
            try:
                if problem:
                    raise PairError(number, problem)
                check_pair(premise, hypothesis)
            except PairError as error:
                raise ValueError(f"{name}, row {number}: {error.reason}") from None
            found[str(premise), str(hypothesis)] = None
    if not found:
        raise ValueError("There are no pairs to choose from.")
    premises, hypotheses = map(list, zip(*found, strict=True))
    return Pairs("unlabelled", premises, hypotheses, np.zeros(len(found), np.int64))


@torch.no_grad()
def representatives(vectors: torch.Tensor, count: int, seed: int) -> np.ndarray:
    """Rows of the vectors next to the centres of as many clusters, those of the largest cluster first.

    Args:
        vectors (`torch.Tensor` of shape `(n, size)`): What is to be represented.
        count (`int`): How many rows, at most n.
        seed (`int`): Of the first centres.
    """
    seeds = spread_out(vectors, count, seed)
    centres = vectors[seeds].unique(dim=0)
    for _ in range(_ROUNDS):
        nearest = _distances(vectors, centres).argmin(dim=1)
        sizes = nearest.bincount(minlength=len(centres))
        sums = torch.zeros_like(centres).index_add_(0, nearest, vectors)
        centres = torch.where(sizes[:, None] > 0, sums / sizes.clamp_min(1)[:, None], centres)
    distances = _distances(vectors, centres)
    sizes = distances.argmin(dim=1).bincount(minlength=len(centres))
    chosen: dict[int, None] = {}
    for cluster in sizes.argsort(descending=True, stable=True).tolist():
        free = (row for row in distances[:, cluster].argsort(stable=True).tolist() if row not in chosen)
        chosen[next(free)] = None
    for row in seeds.tolist() if len(chosen) < len(seeds) else ():  # of vectors that equal others
        chosen.setdefault(row)
    return np.array(list(chosen)[: len(seeds)])


def _distances(vectors: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """Squared, (vectors, centres)."""
    return vectors.square().sum(dim=1)[:, None] + centres.square().sum(dim=1) - 2 * vectors @ centres.T


def spread_out(vectors: torch.Tensor, count: int, seed: int) -> np.ndarray:
    """Rows of `count` vectors, each drawn by its squared distance to the nearest of those before it.

    Args:
        vectors (`torch.Tensor` of shape `(n, size)`): The longest is the first.
        count (`int`): At most n.
        seed (`int`): Of the draws.
    """
    random = np.random.default_rng(seed)
    squares = vectors.square().sum(dim=1)
    chosen = [int(squares.argmax())]
    nearest = torch.full((len(vectors),), torch.inf)
    while len(chosen) < min(count, len(vectors)):
        last = vectors[chosen[-1]]
        nearest = torch.minimum(nearest, (squares + squares[chosen[-1]] - 2 * vectors @ last).clamp_min(0))
        nearest[chosen] = 0
        weights = nearest.double().numpy()
        if weights.sum() <= 0:  # what is left equals what was chosen
            rest = np.setdiff1d(np.arange(len(vectors)), chosen)
            return np.concatenate([chosen, random.permutation(rest)[: count - len(chosen)]])
        chosen.append(int(random.choice(len(vectors), p=weights / weights.sum())))
    return np.array(chosen)
