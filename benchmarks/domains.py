"""What do heads make of text of a kind that they have not seen? Domain by domain, with each left out in turn.

    python benchmarks/domains.py --data DATA                                 the quick start's mix, 3 seeds
    python benchmarks/domains.py --data DATA --mixes all evidence --seeds 1  other mixes of `mix.py`

DATA holds `train/`, `breadth/` and `eval/`. As the quick start does, heads go on from those that have learnt
from the mix `home` (`runs/quickstart/home`, by `train_quickstart.py`), which have seen none of the domains
and judge all of them. For each fold of `mix.py` they learn from everything else, and judge the domains of the
fold. Of everything a part is enough: `--shares` of the weights at home, and of those elsewhere. What was
judged is kept under `runs/domains`: what is there is not trained again. Writes
`benchmarks/results/domains.json` and `.md`, and with `--checkpoint` into its configuration what can be
promised for another domain: what a target risk then means there.
"""

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import set_seed
from transformers.utils.logging import set_verbosity_error

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from domain_figures import Judged, differences, domain_table, domains, figures_of, mix_table  # noqa: E402
from mix import EVALUATION, FOLDS, MIXES, SOURCES, Source, files  # noqa: E402
from train_quickstart import HOME_SEED, LEARNING_RATE  # noqa: E402

from modernbert_nli import embedded  # noqa: E402
from modernbert_nli.calibrating.command import CALIBRATED, write  # noqa: E402
from modernbert_nli.evaluation.contestants import Heads, contestants, parse_model  # noqa: E402
from modernbert_nli.files import write_aside  # noqa: E402
from modernbert_nli.training.arguments import HeadArguments, StageArguments  # noqa: E402
from modernbert_nli.training.cache import cache_states  # noqa: E402
from modernbert_nli.training.data import Pairs, clean, load_pairs  # noqa: E402
from modernbert_nli.training.domains import domain_promise  # noqa: E402
from modernbert_nli.training.start import new_model, trained_model  # noqa: E402
from modernbert_nli.training.states import PairStates  # noqa: E402
from modernbert_nli.training.trainers import (  # noqa: E402
    AbstentionTrainer,
    NliTrainer,
    StageTrainer,
    calibrated,
    opinion,
    predict,
)

MOST = 1000  # pairs of a file that are judged, at random
TESTED = 0.2  # of the premises of a domain, on which it is measured also where the rest of it is learnt
HELD_OUT = 0.05  # of the premises that are learnt from, for temperatures
HOME = "home"  # the mix without any domain, beside which the others stand
START = ROOT / "runs" / "quickstart" / "home"  # heads that learnt from it
STATES = ROOT / "runs" / "states"
JUDGED = ROOT / "runs" / "domains"
RESULTS = ROOT / "benchmarks" / "results"


def main() -> None:
    """Train what is missing, then write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with train/, breadth/ and eval/")
    parser.add_argument("--mixes", nargs="+", default=["further"], choices=sorted(set(MIXES) - {HOME}))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument(
        "--shares", nargs=2, type=float, default=[0.3, 0.5], help="of the weights (default: 0.3 0.5)"
    )
    parser.add_argument("--epochs", type=float, default=1.0, help="default: %(default)s")
    parser.add_argument("--name", default="domains", help="of the results")
    parser.add_argument("--checkpoint", type=Path, help="that learnt from the last of the mixes")
    args = parser.parse_args()
    set_verbosity_error()

    data = Data(args.data, HeadArguments(base_dtype="bfloat16"))
    home = at_home(data)
    known = figures_of([home], [{}])
    mixes: dict[str, Any] = {HOME: {"seeds": [HOME_SEED], "encodings": known}}
    for mix in args.mixes:
        recipe = Recipe(mix, args.shares[0], args.shares[1], args.epochs, GOING_ON)
        seeds = [judgements(recipe, seed, data) for seed in args.seeds]
        left_out = [said.left_out for said in seeds]
        figures = figures_of(left_out, [said.learnt for said in seeds])
        mixes[mix] = {
            "weights": recipe.weights(None),
            "seeds": args.seeds,
            "encodings": figures,
            "differences": {
                encoding: differences(left_out, [home] * len(seeds), encoding) for encoding in figures
            },
            "promise": {encoding: promise_of(mix, left_out, encoding) for encoding in figures},
        }
    results = {
        "date": date.today().isoformat(),
        "command": "python benchmarks/domains.py --data DATA "
        + f"--mixes {' '.join(map(json.dumps, args.mixes))} --seeds {' '.join(map(str, args.seeds))} "
        + f"--shares {args.shares[0]:g} {args.shares[1]:g} --epochs {args.epochs:g}",
        "base": {"name": embedded.BASE, "revision": embedded.BASE_REVISION},
        "mixes": mixes,
    }
    if args.checkpoint:
        store(mixes[args.mixes[-1]]["promise"], args.checkpoint)
    RESULTS.mkdir(exist_ok=True)
    write_aside(RESULTS / f"{args.name}.json", json.dumps(results, indent=2) + "\n")
    write_aside(RESULTS / f"{args.name}.md", text(results) + "\n")
    print(text(results))


def promise_of(mix: str, left_out: list[dict[str, Any]], encoding: str) -> dict[str, Any]:
    """What can be promised for a domain that nobody saw; judgements of all seeds are one sample of each.

    They are kept for `promise_domains.py --judged`.
    """
    judged = {name: Judged.read(left_out, names, encoding) for name, names in domains().items()}
    arrays = {name: (of.errors.ravel(), of.uncertainty.ravel()) for name, of in judged.items()}
    errors, uncertainty = (np.concatenate(columns) for columns in zip(*arrays.values(), strict=True))
    names = np.repeat(list(arrays), [len(column) for column, _ in arrays.values()])
    path = JUDGED / f"{mix}-{encoding}.npz"
    np.savez(path, errors=errors, uncertainty=uncertainty, domain=names)
    return domain_promise(arrays)


def store(promises: dict[str, Any], checkpoint: Path) -> None:
    """Put the promise for another domain beside that for pairs like calibration's.

    Raises:
        ValueError: the checkpoint's uncertainty is another than that of these heads, which is MaxProb's.
    """
    (heads,) = contestants(parse_model(str(checkpoint)))
    assert isinstance(heads, Heads)
    model = heads.pipe.model
    if model.config.abstention_weight:
        raise ValueError(
            f"{checkpoint} does not abstain by MaxProb: this promise is not for its uncertainty."
        )
    calibration = {
        encoding: {**entry, "domains": promises[encoding]} for encoding, entry in model.calibration.items()
    }
    model.set_calibration(calibration, model.config.abstention_threshold)
    write({name: getattr(model.config, name) for name in CALIBRATED}, str(checkpoint), None, None)


def text(results: dict[str, Any]) -> str:
    """All tables: the mixes beside each other, and the domains of each."""
    parts = [mix_table(results)]
    parts += [
        f"{mix}, {encoding} encoding:\n\n{domain_table(results, mix, encoding)}"
        for mix, row in results["mixes"].items()
        for encoding in row["encodings"]
        if mix != HOME
    ]
    return "\n\n".join([*parts, note(results)])


def note(results: dict[str, Any]) -> str:
    """What the tables say, and which command wrote them."""
    return (
        "Accuracy, mean ± standard deviation over seeds; two-way sets: entailment or not. Difference: to the "
        "home mix, with its 95 % interval (paired bootstrap over seeds and pairs). Balanced: mean share told "
        "right of what is entailed and of what is not, by the best threshold: by one that is chosen on the "
        "very pairs. AUROC: of entailment, 50 % where nothing is known. Both: home mix → left out. Learnt: "
        "the fifth of a domain that nobody learns from, judged by heads that know nothing of the domain → by "
        "heads that know the rest of it. AURC / MaxProb: of the heads at home, whose abstention head learnt "
        f"their errors; the others abstain by MaxProb. Base `{results['base']['name']}`; {results['date']}, "
        f"`{results['command']}`."
    )


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


def trainer_of(stage: type[StageTrainer], model: Any, learnt: PairStates, **options: Any) -> StageTrainer:
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
        opinions = [opinion(trainer, unseen.only(encoding)) for encoding in unseen.encoded]
        calibrated(model.abstention_head.output, opinions, unseen.labels)
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


if __name__ == "__main__":
    main()
