"""Adapting to a kind of text that the heads have not seen, from 64, 200 and 1,000 labelled pairs of it.

    python benchmarks/adapt.py --data DATA --start CHECKPOINT             what `nli.adapt` does, 3 seeds
    python benchmarks/adapt.py --data DATA --start CHECKPOINT --compare   other ways beside it, 1 seed
    python benchmarks/adapt.py --data DATA --start CHECKPOINT --seconds   how long it takes (an idle machine)

DATA holds `train/`, `breadth/` and `eval/`. The start must not have learnt from the five domains, which were
chosen before anything was measured: version 0.1's quick start has not (`git show` its folder at that
version). Each domain is split by premise; what is labelled comes from the one part, accuracies from the
other, at most 1,500 pairs. A two-way domain is told right where "entailment or not" is. The sample of what
the start learnt from is drawn from SNLI's and MultiNLI's training pairs, as `train.py` would have drawn it.

What was measured is kept under `runs/adapt`: an interrupted run goes on. Writes `results/adapt.json`, `.md`.
"""

import argparse
import hashlib
import json
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers.utils.logging import set_verbosity_error

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import modernbert_nli.adaptation as adaptation  # noqa: E402
from modernbert_nli import embedded  # noqa: E402
from modernbert_nli.adaptation import Pairs as Summarised  # noqa: E402
from modernbert_nli.adaptation import adapted, conclude, wrong  # noqa: E402
from modernbert_nli.files import write_aside  # noqa: E402
from modernbert_nli.heads import label_loss  # noqa: E402
from modernbert_nli.modeling_modernbert_nli import ModernBertNliModel  # noqa: E402
from modernbert_nli.replay import Home, Summaries  # noqa: E402
from modernbert_nli.training.cache import cache_states  # noqa: E402
from modernbert_nli.training.choosing import representatives, spread_out  # noqa: E402
from modernbert_nli.training.data import load_pairs  # noqa: E402
from modernbert_nli.training.home import home_of, summaries_of_states  # noqa: E402
from modernbert_nli.training.states import PairStates  # noqa: E402

DOMAINS = {
    "healthver_dev": "claims: health",
    "fever": "claims: encyclopaedia",
    "dialfact": "claims: dialogue",
    "paws": "paraphrase",
    "flute": "figures of speech",
}
HOME = {"snli_test_a": "SNLI", "multi_nli_matched_a": "MultiNLI"}
LEARNT = ("snli", "multi_nli")  # of which the start's sample is
SIZES = (64, 200, 1000)
SEEDS = (0, 1, 2)
TESTED, MOST = 0.4, 1500  # share of the premises, and most pairs, to measure on
POOL = 3000  # most pairs to choose from
TARGET_RISK = 0.1
RESULTS = ROOT / "benchmarks" / "results"
STATES, MEASURED = ROOT / "runs" / "states", ROOT / "runs" / "adapt"

# What `nli.adapt` was chosen among, each learning from the labels for as many steps.
WAYS: dict[str, dict[str, Any]] = {
    "prior alone": {"parts": "bias", "rate": 1e-2},
    "output layer": {"parts": "output"},
    "no brake": {},
    "a tenth of the rate": {"rate": 1e-4},
    "L2-SP": {"anchor": 0.3},
    "WiSE-FT, 0.3": {"strength": 0.3},
    "replay, 100 pairs": {"replay": 6.0, "most": 100},
    "replay": {"replay": 6.0},
    "replay, 0.5": {"replay": 6.0, "strength": 0.5},
}
ADAPT, WITHOUT, CHOSEN = "nli.adapt", "nli.adapt, no sample", "nli.adapt, pairs of pilot.py"
BADGE = "nli.adapt, pairs by BADGE"


def main() -> None:
    """Measure what is missing, then write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with train/, breadth/ and eval/")
    parser.add_argument("--start", type=Path, required=True, help="checkpoint that has not seen the domains")
    parser.add_argument("--compare", action="store_true", help="measure other ways too")
    parser.add_argument("--seconds", action="store_true", help="measure how long `nli.adapt` takes")
    args = parser.parse_args()
    set_verbosity_error()
    check_start(args.start)
    base = str(embedded.base_folder())
    model = ModernBertNliModel.from_pretrained(
        args.start, base_model_name_or_path=base, dtype=torch.bfloat16
    ).eval()
    lab = Lab(model, args.data)
    ways: dict[str, tuple[int, ...]] = {ADAPT: SEEDS, WITHOUT: SEEDS, CHOSEN: SEEDS, BADGE: SEEDS}
    if args.compare:
        ways |= dict.fromkeys(WAYS, SEEDS[:1])
    rows = [
        lab.measured(way, domain, size, seed)
        for way, seeds in tqdm(ways.items(), unit="way", disable=None)
        for domain in DOMAINS
        for size in (SIZES[:2] if way in (CHOSEN, BADGE) else SIZES)
        for seed in seeds
    ]
    earlier = RESULTS / "adapt.json"
    known = json.loads(earlier.read_text()) if earlier.exists() else {}
    results = {
        "date": date.today().isoformat(),
        "command": "python benchmarks/adapt.py --data DATA --start CHECKPOINT --compare",
        "start": {"heads": model.heads_digest(), "home": len(lab.home)},
        "before": {name: lab.before(name) for name in (*DOMAINS, *HOME)},
        "rows": rows + [row for row in known.get("rows", []) if row["way"] not in ways],
        "seconds": seconds_of(args.start, base, args.data, lab.home)
        if args.seconds
        else known.get("seconds"),
    }
    RESULTS.mkdir(exist_ok=True)
    write_aside(RESULTS / "adapt.json", json.dumps(results, indent=2) + "\n")
    write_aside(RESULTS / "adapt.md", text(results) + "\n")
    print(text(results))


def check_start(folder: Path) -> None:
    """Raise a ValueError for heads that have learnt from one of the domains."""
    results = json.loads((folder / "results.json").read_text())
    learnt = {*results["train"], *results.get("abstention_data", {})}
    if seen := sorted(learnt & set(DOMAINS)):
        raise ValueError(
            f"The heads in {folder} have learnt from {', '.join(seen)}: nothing can be said of adapting to "
            "it. Take those of `runs/quickstart/home`, which `benchmarks/train_quickstart.py` begins with."
        )


class Lab:
    """The start, the sets as it summarises them, and what was measured."""

    def __init__(self, model: ModernBertNliModel, data: Path):
        self.model, self._data, self._sets = model, data, {}  # type: ignore[var-annotated]
        self.start = adaptation._heads_of(model)
        learnt = [self._states(data / "train" / f"{name}.jsonl", 5000) for name in LEARNT]
        self.home = home_of(model, PairStates.concatenate([states for states, _ in learnt]), seed=0)
        how = ("FOLDS", "STRENGTHS", "WITHOUT_HOME", "MOST_LOST", "EPOCHS", "BATCH", "RATE", "REPLAY")
        identity = [
            model.heads_digest(),
            TARGET_RISK,
            WAYS,
            {name: getattr(adaptation, name) for name in how},
        ]
        self._digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]

    def _states(self, path: Path, most: int | None = None) -> tuple[PairStates, list[str]]:
        pairs = load_pairs(str(path))
        states = cache_states(self.model, pairs, STATES)
        rows = np.sort(np.random.default_rng(0).permutation(len(pairs))[:most])
        return states.take(rows), [pairs.premises[row] for row in rows]

    def set(self, name: str) -> Summarised:
        """A domain or an evaluation set."""
        if name not in self._sets:
            home = name in HOME
            path = self._data / ("eval" if home else "breadth") / f"{name}.jsonl"
            states, premises = self._states(path, MOST if home else None)
            rows = np.arange(len(states))
            summaries = {
                encoding: summaries_of_states(self.model, states.only(encoding), encoding, rows)
                for encoding in states.encoded
            }
            self._sets[name] = Summarised(summaries, torch.from_numpy(states.labels).long(), premises)
        return self._sets[name]

    def parts(self, domain: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Numbers of the pairs that may be labelled, and of those to measure on."""
        premises = self.set(domain).premises
        draws = [hashlib.blake2b(premise.encode(), digest_size=8).digest() for premise in premises]
        tested = np.array([int.from_bytes(draw, "big") / 2**64 < TESTED for draw in draws])
        random = np.random.default_rng(0)
        pool, test = (random.permutation(np.flatnonzero(mask)) for mask in (~tested, tested))
        return torch.from_numpy(pool[:POOL]), torch.from_numpy(test[:MOST])

    def accuracy(self, heads: Any, name: str) -> dict[str, float]:
        """By encoding, in percent."""
        pairs = self.set(name)
        rows = self.parts(name)[1] if name in DOMAINS else torch.arange(len(pairs))
        return {
            encoding: 100 - 100 * self._errors(heads, pairs, rows, encoding)[0].float().mean().item()
            for encoding in pairs.summaries
        }

    @torch.no_grad()
    def _errors(self, heads: Any, pairs: Summarised, rows: torch.Tensor, encoding: str) -> tuple[Any, Any]:
        some = {name: values[rows] for name, values in pairs.summaries[encoding].items()}
        output = conclude(heads, some)
        return wrong(output.logits, pairs.labels[rows], 0), output.uncertainty

    def before(self, name: str) -> dict[str, float]:
        """What the start tells right of a set."""
        return self.accuracy(self.start, name)

    def measured(self, way: str, domain: str, size: int, seed: int) -> dict[str, Any]:
        """A row of the results, from a file where there is one."""
        name = f"{way}-{domain}-{size}-{seed}".replace(" ", "_").replace(",", "")
        path = MEASURED / f"{name}-{self._digest}.json"
        if not path.exists():
            MEASURED.mkdir(parents=True, exist_ok=True)
            write_aside(path, json.dumps(self._measure(way, domain, size, seed)))
        return json.loads(path.read_text())

    def _measure(self, way: str, domain: str, size: int, seed: int) -> dict[str, Any]:
        pairs, (pool, tested) = self.set(domain), self.parts(domain)
        if way == CHOSEN:
            vectors = hidden(self.start, _some(pairs, pool).summaries[self.model.config.encoding])
            rows = pool[representatives(vectors, size, seed)]
        elif way == BADGE:
            vectors = gradients(self.start, _some(pairs, pool).summaries[self.model.config.encoding])
            rows = pool[spread_out(vectors, size, seed)]
        else:
            rows = pool[np.random.default_rng(100 + seed).permutation(len(pool))[:size]]
        own = _some(pairs, rows)
        row: dict[str, Any] = {"way": way, "domain": domain, "pairs": size, "seed": seed}
        if way in WAYS:
            heads = _another_way(self.start, own, self.home, seed, **WAYS[way])
        else:
            found = adapted(self.model, own, None if way == WITHOUT else self.home, TARGET_RISK, seed)
            heads = adaptation._heads_of(found.model)
            errors, uncertainty = self._errors(heads, pairs, tested, heads.config.encoding)
            accepted = uncertainty < found.report["threshold"]
            row |= {
                "strength": found.report["strength"],
                "expected": found.report["after"],
                "more_pairs": found.report["more_pairs"],
                "accepted": int(accepted.sum()),
                "wrong": int((errors & accepted).sum()),
            }
        row["after"] = {name: self.accuracy(heads, name) for name in (domain, *HOME)}
        return row


@torch.no_grad()
def hidden(heads: Any, summaries: Summaries) -> torch.Tensor:
    """What the labels are concluded from, (pairs, nli_hidden_size)."""
    return heads.nli_hidden.conclude(summaries["nli"])


@torch.no_grad()
def gradients(heads: Any, summaries: Summaries) -> torch.Tensor:
    """Of the last layer, the heads' own answer being taken for the label, (pairs, labels * nli_hidden_size).

    Ash et al. 2020 (arXiv:1906.03671): long where the answer is unsure.
    """
    probs = conclude(heads, summaries).logits.softmax(dim=-1)
    errors = probs - torch.nn.functional.one_hot(probs.argmax(dim=-1), probs.shape[-1])
    return (errors[:, :, None] * hidden(heads, summaries)[:, None, :]).flatten(1)


def _some(pairs: Summarised, rows: Any) -> Summarised:
    summaries = {
        encoding: {name: values[rows] for name, values in heads.items()}
        for encoding, heads in pairs.summaries.items()
    }
    return Summarised(summaries, pairs.labels[rows], [pairs.premises[row] for row in rows.tolist()])


def _another_way(
    start: Any,
    pairs: Summarised,
    home: Home,
    seed: int,
    parts: str = "all",
    rate: float = adaptation.RATE,
    replay: float = 0.0,
    most: int | None = None,
    anchor: float = 0.0,
    strength: float = 1.0,
) -> Any:
    """Heads that learnt from the NLI labels of pairs with one brake or another."""
    heads = adaptation._heads_of(start)
    every = [*heads.nli_hidden.concluding, heads.nli_output]
    trained = {
        "all": [parameter for part in every for parameter in part.parameters()],
        "output": list(heads.nli_output.parameters()),
        "bias": [heads.nli_output.bias],
    }[parts]
    first = [parameter.detach().clone() for parameter in trained]
    for parameter in trained:
        parameter.requires_grad_(True)
    replayed: list[tuple[torch.Tensor, torch.Tensor]] = []
    with torch.no_grad():
        for summaries in home.summaries.values() if replay else ():
            values = summaries["nli"][: most and most // len(home.summaries)]
            replayed.append((values, conclude(start, {**summaries, "nli": values}).logits.softmax(dim=-1)))
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
    steps = adaptation.EPOCHS * -(-len(pairs) // adaptation.BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.06)

    def logits(values: torch.Tensor) -> torch.Tensor:
        return heads.nli_output(heads.nli_hidden.conclude(values))

    for _ in range(adaptation.EPOCHS):
        for batch in torch.randperm(len(pairs), generator=draw).split(adaptation.BATCH):
            losses = [
                label_loss(logits(summaries["nli"][batch]), pairs.labels[batch])
                for summaries in pairs.summaries.values()
            ]
            for values, before in replayed:
                some = torch.randint(len(values), (adaptation.BATCH,), generator=draw)
                said = logits(values[some]).log_softmax(dim=-1)
                losses.append(replay * -(before[some] * said).sum(dim=-1).mean())
            if anchor:
                both = zip(trained, first, strict=True)
                losses.append(anchor * torch.stack([(now - then).square().sum() for now, then in both]).sum())
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        for now, then in zip(trained, first, strict=True):
            now.copy_(then + strength * (now - then))
    return heads


def seconds_of(start: Path, base: str, data: Path, home: Home) -> dict[str, float]:
    """Of `nli.adapt` on 200 pairs as they come, and on the same again, whose texts are kept."""
    pairs = load_pairs(str(data / "breadth" / "fever.jsonl"))
    rows = np.random.default_rng(0).permutation(len(pairs))[:200]
    texts = [(pairs.premises[row], pairs.hypotheses[row]) for row in rows]
    labels = pairs.labels[rows].tolist()
    nli = ModernBertNliModel.from_pretrained(start, base_model_name_or_path=base).as_pipeline(device="cpu")
    nli.model.home = home
    took = {}
    for name in ("first", "again"):
        before = time.perf_counter()
        nli.adapt(texts, labels)
        took[name] = time.perf_counter() - before
    return took


def text(results: dict[str, Any]) -> str:
    """All tables."""
    parts = [_by_way(results), _by_domain(results), _risks(results)]
    if results["seconds"]:
        took = results["seconds"]
        parts.append(
            f"`nli.adapt` on 200 pairs of encyclopaedia claims took {took['first']:.1f} s, and "
            f"{took['again']:.1f} s once their texts were kept."
        )
    parts.append(
        "Points of accuracy gained on the test parts of five domains, and at home (SNLI, MultiNLI), mean "
        "over domains, encodings and seeds; worst: the domain that costs MultiNLI most. "
        f"{results['date']}, `{results['command']}`, heads {results['start']['heads'][:12]}, whose sample of "
        f"what they learnt from has {results['start']['home']:,} pairs."
    )
    return "\n\n".join(parts)


def _gains(results: dict[str, Any], row: dict[str, Any], name: str) -> float:
    after, before = row["after"][name], results["before"][name]
    return float(np.mean([after[encoding] - before[encoding] for encoding in after]))


def _by_way(results: dict[str, Any]) -> str:
    lines = ["| Way | Pairs | Seeds | Domain | SNLI | MultiNLI | worst |", "|---|---|---|---|---|---|---|"]
    for way in dict.fromkeys(row["way"] for row in results["rows"]):
        for size in SIZES:
            rows = [row for row in results["rows"] if (row["way"], row["pairs"]) == (way, size)]
            if not rows:
                continue
            own = np.mean([_gains(results, row, row["domain"]) for row in rows])
            home = [np.mean([_gains(results, row, name) for row in rows]) for name in HOME]
            worst = min(
                np.mean(
                    [_gains(results, row, "multi_nli_matched_a") for row in rows if row["domain"] == domain]
                )
                for domain in DOMAINS
            )
            seeds = len({row["seed"] for row in rows})
            cells = [way, f"{size:,}", str(seeds), *(f"{value:+.1f}" for value in (own, *home, worst))]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _by_domain(results: dict[str, Any]) -> str:
    lines = ["| Domain | Before | " + " | ".join(f"{size:,} pairs" for size in SIZES) + " | Start kept |"]
    lines.append("|---" * (len(SIZES) + 3) + "|")
    for domain, name in DOMAINS.items():
        rows = [row for row in results["rows"] if (row["way"], row["domain"]) == (ADAPT, domain)]
        before = np.mean(list(results["before"][domain].values()))
        gains = [[_gains(results, row, domain) for row in rows if row["pairs"] == size] for size in SIZES]
        cells = [f"{np.mean(each):+.1f} ± {np.std(each):.1f}" for each in gains]
        kept = sum(row["strength"] == 0 for row in rows)
        lines.append(f"| {name} | {before:.1f} % | {' | '.join(cells)} | {kept} of {len(rows)} |")
    return "\n".join(lines)


def _risks(results: dict[str, Any]) -> str:
    """How often a promise made by the same call was made, and was broken on the test part beyond chance."""
    from modernbert_nli.training.calibration import binomial_tail

    lines = [f"| Pairs | {TARGET_RISK:.0%} promised | broken beyond chance | more pairs said to do |"]
    lines.append("|---|---|---|---|")
    for size in SIZES:
        rows = [row for row in results["rows"] if (row["way"], row["pairs"]) == (ADAPT, size)]
        promised = [row for row in rows if row["more_pairs"] == 0]
        broken = [
            row
            for row in promised
            if row["accepted"] and 1 - binomial_tail(row["wrong"] - 1, row["accepted"], TARGET_RISK) < 0.05
        ]
        more = [row["more_pairs"] for row in rows if row["more_pairs"]]
        shown = f"{np.median(more):,.0f} (median of {len(more)})" if more else "–"
        lines.append(f"| {size:,} | {len(promised)} of {len(rows)} | {len(broken)} | {shown} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
