"""Heads trained without the domains of a fold, and what they then say of these: judged as new kinds of text.

As the quick start does, heads go on from those that have learnt from the mix `home` (`runs/quickstart/home`,
by `training.quickstart`), which have seen none of the domains. For each fold of `training/mix.py` they learn
from everything else, and judge the domains of the fold. What was judged is kept under `runs/domains`: what is
there is not trained again.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import set_seed

from ..repository import ROOT
from ..training.arguments import HeadArguments
from ..training.cache import cache_states
from ..training.data import Pairs, clean, load_pairs
from ..training.initial_model import new_model, trained_model
from ..training.mix import EVALUATION, FOLDS, MIXES, SOURCES, Source, files
from ..training.quickstart import HOME_SEED, LEARNING_RATE
from ..training.states import PairStates
from ..training.trainer_arguments import StageArguments
from ..training.trainers import AbstentionTrainer, NliTrainer, StageTrainer, calibrated, predict

if TYPE_CHECKING:
    from ..modeling_modernbert_nli import ModernBertNliModel

MOST = 1000  # pairs of a file that are judged, at random
TESTED = 0.2  # of the premises of a domain, on which it is measured also where the rest of it is learnt
HELD_OUT = 0.05  # of the premises that are learnt from, for temperatures
HOME = "home"  # the mix without any domain
START = ROOT / "runs" / "quickstart" / "home"  # heads that learnt from it
STATES = ROOT / "runs" / "states"
JUDGED = ROOT / "runs" / "domains"

# How the quick start's heads are trained: from those at home, without a stage 2 that MaxProb has no use for.
GOING_ON = (("init_from", str(START)), ("abstention_weight", 0.0))


@dataclass(frozen=True)
class Recipe:
    """How heads are trained: a mix, and the shares of its pairs at home and elsewhere that are seen."""

    mix: str
    home: float
    elsewhere: float
    epochs: float
    head: tuple[tuple[str, Any], ...] = ()

    def weights(self, left_out: int | None) -> dict[str, float]:
        """By source."""
        mix = MIXES[self.mix]
        known = (source for source in SOURCES if source.fold is None or source.fold != left_out)
        shares = {
            source.name: mix.weight(source) * (self.home if source.fold is None else self.elsewhere)
            for source in known
        }
        return {name: share for name, share in shares.items() if share}


class Data:
    """Pairs of all sources and sets, and their states, each read once.

    Args:
        data (`Path`): Folder with `train/`, `breadth/` and `eval/`.
        head (`HeadArguments`): What names the base.
        part (`Callable`, *optional*): What is taken of each source, and of each evaluation set.
    """

    def __init__(self, data: Path, head: HeadArguments, part: Callable[[Pairs], Pairs] | None = None):
        paths = files(data, ROOT / "runs" / "quickstart")
        self.model = new_model(head)
        self._states: dict[str, PairStates] = {}
        evaluation = [load_pairs(str(paths[name])) for name in EVALUATION]
        sources = clean([load_pairs(str(paths[source.name])) for source in SOURCES], evaluation)
        self.evaluation = {pairs.name: part(pairs) if part else pairs for pairs in evaluation}
        self.sources = {pairs.name: part(pairs) if part else pairs for pairs in sources}
        # What tells the judgements of heads that learnt from a part from those of others.
        self.identity = [len(pairs) for pairs in self.sources.values()] if part else []

    def states(self, name: str) -> PairStates:
        """Of an evaluation set, or of what can be learnt from a source."""
        if name not in self._states:
            pairs = self.evaluation[name] if name in self.evaluation else self.sources[name]
            states = cache_states(self.model, pairs.whole, STATES)
            self._states[name] = states if pairs.rows is None else states.take(pairs.rows)
        return self._states[name]

    def judged(self, name: str) -> tuple[PairStates, np.ndarray]:
        """What is judged of a source or of an evaluation set, and a mask of what nobody learns from."""
        states = self.states(name)
        if name in self.evaluation:
            return states, np.ones(len(states), bool)
        rows = self.judged_rows(name)
        return states.take(rows), tested(self.sources[name])[rows]

    def judged_rows(self, name: str) -> np.ndarray:
        """Which pairs of a source are judged."""
        return np.sort(np.random.default_rng(0).permutation(len(self.sources[name]))[:MOST])


def tested(pairs: Pairs) -> np.ndarray:
    """Mask of the pairs of a domain that no run learns from, (n,)."""
    return pairs.held_out(TESTED, seed=-1)


def learnt_rows(pairs: Pairs, weight: float, seed: int) -> np.ndarray:
    """Which pairs of a source a run learns from, those of a weight above one more than once."""
    rows = replace(pairs, weight=weight).repeated(seed)
    return rows if domain_of(pairs.name).fold is None else rows[~tested(pairs)[rows]]


def trainer_of(
    stage: type[StageTrainer], model: "ModernBertNliModel", learnt: PairStates, **options: Any
) -> StageTrainer:
    """A stage of these programs."""
    arguments = StageArguments(
        eval_strategy="no",
        save_strategy="no",
        bf16=True,
        encodings_in_turn=True,
        per_device_eval_batch_size=64,  # some premises are long
        use_cpu=not torch.cuda.is_available(),
        **options,
    )
    return stage(model=model, args=arguments, train_dataset=learnt)


def train(recipe: Recipe, left_out: int | None, seed: int, data: Data, work: Path) -> StageTrainer:
    """What there is to train; the trainer that is returned can ask the heads."""
    set_seed(seed)
    head = HeadArguments(base_dtype="bfloat16", head_dropout=0.1, **dict(recipe.head))
    model = trained_model(head) if head.init_from else new_model(head)
    fitted, held = [], []
    for name, weight in recipe.weights(left_out).items():
        states, rows = data.states(name), learnt_rows(data.sources[name], weight, seed)
        rest = data.sources[name].held_out(HELD_OUT, HOME_SEED)
        fitted.append(states.take(rows[~rest[rows]]))
        held.append(states.take(rows[rest[rows]]))
    learnt, unseen = PairStates.concatenate(fitted), PairStates.concatenate(held)
    options: dict[str, Any] = {"output_dir": str(work), "seed": seed}
    if head.init_from:
        options["learning_rate"] = LEARNING_RATE
    trainer = trainer_of(NliTrainer, model, learnt, num_train_epochs=recipe.epochs, **options)
    trainer.train()
    logits = [predict(trainer, unseen.only(encoding))["logits"] for encoding in unseen.encoded]
    calibrated(model.nli_output, logits, unseen.labels)
    if model.config.abstention_weight:
        trainer = trainer_of(AbstentionTrainer, model, learnt, num_train_epochs=recipe.epochs, **options)
        trainer.train()
    return trainer


def at_home(data: Data) -> dict[str, Any]:
    """What heads that have seen no domain say of all of them, and of the evaluation sets."""
    model = trained_model(HeadArguments(base_dtype="bfloat16", init_from=str(START)))
    names = [*EVALUATION, *(source.name for source in SOURCES if source.fold is not None)]

    def asked(work: Path) -> StageTrainer:
        return trainer_of(NliTrainer, model, data.states(names[0]), output_dir=str(work))

    return kept(JUDGED / f"{HOME}-{model.heads_digest()[:12]}.npz", asked, names, data)


def judged_by(
    recipe: Recipe, left_out: int | None, seed: int, data: Data, names: list[str]
) -> dict[str, Any]:
    """By set and encoding what heads say of it, from a file where there is one."""
    weights = recipe.weights(left_out)
    identity = [weights, recipe.epochs, recipe.head, seed, names, HELD_OUT, MOST, *data.identity]
    if start := dict(recipe.head).get("init_from"):
        identity.append(hashlib.sha256((Path(start) / "model.safetensors").read_bytes()).hexdigest())
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
    path = JUDGED / f"{recipe.mix.replace(' ', '-')}-{left_out}-{seed}-{digest}.npz"
    return kept(path, lambda work: train(recipe, left_out, seed, data, work), names, data)


def kept(path: Path, asked: Callable[[Path], StageTrainer], names: list[str], data: Data) -> dict[str, Any]:
    """By set and encoding what a trainer says, which is made in a folder where the file is not there yet."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        work, aside = path.with_suffix(".trainer"), path.with_suffix(".new.npz")
        np.savez(aside, **said_of(asked(work), names, data))  # type: ignore[arg-type]
        aside.replace(path)
        shutil.rmtree(work, ignore_errors=True)
    found: dict[str, Any] = {}
    with np.load(path) as stored:
        for key in stored.files:
            name, encoding, what = key.split("/")
            found.setdefault(name, {}).setdefault(encoding, {})[what] = stored[key]
    return found


def said_of(trainer: StageTrainer, names: list[str], data: Data) -> dict[str, np.ndarray]:
    """What heads say of sets, under SET/ENCODING/WHAT."""
    arrays: dict[str, np.ndarray] = {}
    for name in names:
        states, mask = data.judged(name)
        for encoding in states.encoded:
            said = {**predict(trainer, states.only(encoding)), "tested": mask}
            arrays |= {f"{name}/{encoding}/{key}": values for key, values in said.items()}
    return arrays


def domains() -> dict[str, list[str]]:
    """Names of the files of each domain that is left out at some time."""
    found: dict[str, list[str]] = {}
    for source in SOURCES:
        if source.fold is not None:
            found.setdefault(source.domain, []).append(source.name)
    return found


def domain_of(name: str) -> Source:
    """A source by its name."""
    return next(source for source in SOURCES if source.name == name)


def of_fold(fold: int) -> list[str]:
    """Names of the sources that are left out together."""
    return [source.name for source in SOURCES if source.fold == fold]


@dataclass
class Judgements:
    """What heads of one mix and seed say, by set and encoding: of what they have learnt, and of the rest."""

    left_out: dict[str, Any]
    learnt: dict[str, Any]


def judgements(recipe: Recipe, seed: int, data: Data) -> Judgements:
    """Of every source by heads that learnt nothing of its fold, and by some that did; of the evaluation sets.

    The latter are judged by the heads of the first fold.
    """
    left_out: dict[str, Any] = {}
    learnt: dict[str, Any] = {}
    for fold in range(FOLDS):
        before = (fold - 1) % FOLDS
        unseen = [*(EVALUATION if fold == 0 else ()), *of_fold(fold)]
        said = judged_by(recipe, fold, seed, data, [*unseen, *of_fold(before)])
        learnt |= {name: said[name] for name in of_fold(before)}
        left_out |= {name: said[name] for name in unseen}
    return Judgements(left_out, learnt)
