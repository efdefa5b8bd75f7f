"""Which pairs to label: those that heads are in doubt about, and that differ from each other.

BADGE (Ash et al. 2020, arXiv:1906.03671): a pair is known by the gradient that the heads' own answer, taken
for the label, would put on the last layer. It is long where the answer is unsure, and points elsewhere for
pairs of another kind. Seeds of k-means++ (Arthur & Vassilvitskii 2007) among these are the pairs to label.
"""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import quickstart
from adaptation_modernbert_nli import conclude
from home_modernbert_nli import Summaries
from modeling_modernbert_nli import ModernBertNliModel
from prediction.pair_files import READERS
from tokenization_modernbert_nli import PairError, check_pair
from training.arguments import HeadArguments
from training.cache import cache_states
from training.data import Pairs
from training.home import summaries_of_states
from training.start import trained_model

TO_LABEL = "to_label.csv"
_COLUMNS = ("premise", "hypothesis")
_SLICE = 4096


def choose_pairs(
    files: Sequence[str], count: int, head: HeadArguments, cache_dir: Path, folder: Path, seed: int
) -> int:
    """Write the pairs to label, in the order in which they were chosen; how many there are.

    Args:
        files (`Sequence[str]`): Of unlabelled pairs; repeated ones are looked at once.
        count (`int`): How many to choose.
        head (`HeadArguments`): Whose heads doubt, by `init_from`; by default the quick start's.
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
    model = trained_model(replace(head, init_from=head.init_from or str(quickstart.CHECKPOINT))).eval()
    states = cache_states(model, pairs, cache_dir)
    encoding = model.config.encoding
    summaries = summaries_of_states(model, states.only(encoding), encoding, np.arange(len(pairs)))
    chosen = spread_out(gradients(model, summaries), count, seed)
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
def gradients(model: ModernBertNliModel, summaries: Summaries) -> torch.Tensor:
    """(pairs, labels * nli_hidden_size).

    Args:
        model (`ModernBertNliModel`): Heads, on the CPU.
        summaries (`Summaries`): Of pairs in one encoding.
    """
    parts = []
    for start in range(0, len(summaries["nli"]), _SLICE):
        some = {name: values[start : start + _SLICE] for name, values in summaries.items()}
        probs = conclude(model, some).logits.softmax(dim=-1)
        errors = probs - torch.nn.functional.one_hot(probs.argmax(dim=-1), probs.shape[-1])
        hidden = model.nli_hidden.conclude(some["nli"])
        parts.append((errors[:, :, None] * hidden[:, None, :]).flatten(1))
    return torch.cat(parts)


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
