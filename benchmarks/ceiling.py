"""The ceiling of heads on a frozen encoder: the same encoder fine-tuned as a whole, on the same pairs.

    python benchmarks/ceiling.py --data DATA

DATA holds `train/`, `breadth/` and `eval/`. Both learn from a part of the quick start's mix without the
domains of one fold: new heads as in `domains.py`, the whole encoder as in `fine_tuned.py`, at the learning
rate that is best on held-out pairs after a tenth of its training. One seed; over an hour on one core. What
was judged is kept under `runs/domains`. Writes `benchmarks/results/ceiling.json` and `.md`.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, set_seed
from transformers.utils.logging import set_verbosity_error

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from domains import HELD_OUT, HOME_SEED, JUDGED, RESULTS, Data, judged_by, learnt_rows  # noqa: E402
from fine_tuned import Arguments, FineTuner, Tokenised  # noqa: E402
from mix import EVALUATION  # noqa: E402
from one_fold import EPOCHS, LEFT_OUT, NAMES, SEED, cells, compared, drawn, part_of, recipe  # noqa: E402

from modernbert_nli import embedded  # noqa: E402
from modernbert_nli.files import write_aside  # noqa: E402
from modernbert_nli.tokenization import load_tokenizer, max_pair_length  # noqa: E402
from modernbert_nli.training.arguments import HeadArguments  # noqa: E402
from modernbert_nli.training.data import Pairs  # noqa: E402
from modernbert_nli.training.metrics import wrong  # noqa: E402
from modernbert_nli.training.resume import last_checkpoint  # noqa: E402

SHARE = 0.06  # of the pairs of each source are learnt from
RATES = (3e-5, 1e-4, 3e-4)
RUNS = ("heads, separate", "heads, joint", "fine-tuned")


def main() -> None:
    """Train both, judge, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with train/, breadth/ and eval/")
    args = parser.parse_args()
    set_verbosity_error()
    data = Data(args.data, HeadArguments(base_dtype="bfloat16"), _part)
    said = judged_by(recipe(), LEFT_OUT, SEED, data, NAMES)
    learnt = [
        data.sources[name].take(learnt_rows(data.sources[name], weight, SEED))
        for name, weight in recipe().weights(LEFT_OUT).items()
    ]
    rates, logits = _fine_tuned(learnt, {name: _judged(data, name) for name in NAMES})
    separate, joint = ({name: said[name][encoding] for name in NAMES} for encoding in ("separate", "joint"))
    tuned = {name: {**joint[name], "logits": logits[name]} for name in NAMES}
    results = {
        "date": date.today().isoformat(),
        "command": "python benchmarks/ceiling.py --data DATA",
        "base": {"name": embedded.BASE, "revision": embedded.BASE_REVISION},
        "seed": SEED,
        "epochs": EPOCHS,
        "pairs": sum(map(len, learnt)),
        "held_out_accuracy": rates,
        "rows": rows(dict(zip(RUNS, (separate, joint, tuned), strict=True))),
    }
    write_aside(RESULTS / "ceiling.json", json.dumps(results, indent=2) + "\n")
    write_aside(RESULTS / "ceiling.md", text(results) + "\n")
    print(text(results))


def _part(pairs: Pairs) -> Pairs:
    """All of what is only judged; of the rest a share, whose states are those of the whole file."""
    return part_of(pairs, drawn(pairs, SHARE))


def _judged(data: Data, name: str) -> Pairs:
    """The pairs of `Data.judged`, in its order."""
    return data.evaluation[name] if name in EVALUATION else data.sources[name].take(data.judged_rows(name))


def _fine_tuned(
    learnt: list[Pairs], judged: dict[str, Pairs]
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Held-out accuracy by learning rate; by set, logits of the encoder trained at the best of them."""
    kept = JUDGED / f"fine-tuned-{LEFT_OUT}-{SEED}-{sum(map(len, learnt))}.npz"
    if not kept.exists():
        masks = [pairs.held_out(HELD_OUT, HOME_SEED) for pairs in learnt]
        fitted, held = (
            [pairs.take(np.flatnonzero(mask)) for pairs, mask in zip(learnt, sides, strict=True)]
            for sides in ([~mask for mask in masks], masks)
        )
        held = [pairs for pairs in held if len(pairs)]
        labels = np.concatenate([pairs.labels for pairs in held])
        few = [pairs.take(np.arange(0, len(pairs), 10)) for pairs in fitted]
        tuned = kept.with_suffix(".rates.json")
        rates = json.loads(tuned.read_text()) if tuned.exists() else {}
        for rate in RATES[len(rates) :]:
            logits = np.concatenate(_logits(_trained(few, rate), held))
            rates[f"{rate:g}"] = float((~wrong(logits, labels)).mean())
            write_aside(tuned, json.dumps(rates))
            print(f"learning rate {rate:g}: {rates[f'{rate:g}']:.1%} of held-out pairs are right", flush=True)
        trainer = _trained(fitted, float(max(rates, key=lambda rate: rates[rate])))
        by_set = dict(zip(judged, _logits(trainer, list(judged.values())), strict=True))
        aside = kept.with_suffix(".new.npz")
        np.savez(aside, rates=json.dumps(rates), **by_set)  # type: ignore[arg-type]
        aside.replace(kept)
    with np.load(kept) as stored:
        return json.loads(str(stored["rates"])), {name: stored[name] for name in judged}


def _trained(pairs: list[Pairs], rate: float) -> FineTuner:
    """The whole encoder, trained on pairs, from where an interrupted run was."""
    set_seed(SEED)
    folder = embedded.embedded_folder(embedded.BASE, None) or embedded.BASE
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    tokenizer = load_tokenizer(folder, model.config)
    work = JUDGED / f"fine-tuned-{rate:g}-{sum(map(len, pairs))}.trainer"
    arguments = Arguments(
        output_dir=str(work),
        num_train_epochs=EPOCHS,
        learning_rate=rate,
        seed=SEED,
        save_total_limit=1,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
    )
    tokens = Tokenised(pairs, tokenizer, max_pair_length(model.config, tokenizer))
    trainer = FineTuner(
        model=model, args=arguments, train_dataset=tokens, data_collator=DataCollatorWithPadding(tokenizer)
    )
    trainer.train(resume_from_checkpoint=last_checkpoint(work))
    shutil.rmtree(work, ignore_errors=True)
    return trainer


@torch.no_grad()
def _logits(trainer: FineTuner, sets: Sequence[Pairs]) -> list[np.ndarray]:
    """Of each set, (n, 3)."""
    found, model = [], trainer.model.eval()
    for pairs in sets:
        tokens = Tokenised([pairs], trainer.data_collator.tokenizer, model.config.max_position_embeddings)
        order = np.argsort(tokens.lengths, kind="stable")
        rows = []
        for part in np.array_split(order, max(1, len(order) // 64)):
            batch = trainer.data_collator([tokens[row] for row in part])
            batch.pop("labels")
            with torch.autocast("cpu", torch.bfloat16):
                rows.append(model(**batch).logits.float().numpy())
        found.append(np.concatenate(rows)[order.argsort()])
    return found


def rows(runs: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each set and domain: what each gets right, and what fine-tuning gains on heads of joint encoding."""
    by_encoding = {run: {name: {"": of} for name, of in said.items()} for run, said in runs.items()}
    return [row for row, _ in compared(by_encoding, "")]


def text(results: dict[str, Any]) -> str:
    """A row for each set and domain."""
    lines = [
        "| Set or domain | | Pairs | " + " | ".join(RUNS) + " | Fine-tuned - heads, joint |",
        "|---" * (4 + len(RUNS)) + "|",
        *("| " + " | ".join(cells(row)) + " |" for row in results["rows"]),
    ]
    rates = ", ".join(f"{share:.1%} at {rate}" for rate, share in results["held_out_accuracy"].items())
    note = (
        f"`{results['base']['name']}`; {results['pairs']:,} pairs an epoch, {results['epochs']:g} epochs, "
        f"seed {results['seed']}. Learning rate of fine-tuning by accuracy on held-out pairs after a tenth "
        f"of the training: {rates}. Left out: no pair of the domain was learnt. Learnt: a part of the domain "
        f"that nobody learns from. {results['date']}, `{results['command']}`."
    )
    return "\n".join([*lines, "", note])


if __name__ == "__main__":
    main()
