"""The ceiling for heads on a frozen encoder: the same base, fine-tuned as a whole on the same data.

    python benchmarks/fine_tuned.py --train 'snli.jsonl?cap=50000' 'multi_nli.jsonl?cap=15000' \
        --evaluation snli_test.jsonl --output_dir runs/fine-tuned/seed-1 --seed 1 --bf16 true --use_cpu true

A plain `AutoModelForSequenceClassification` with Trainer, whose arguments are options here. `--resume` goes
on after an interruption. The folder is a contestant of `evaluate_nli.py`. To compare, train heads on the very
same pairs: `python train.py --train_data` with the same sources, and the same `--eval_data`.
"""

import json
import shlex
import sys
import time
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.utils.logging import set_verbosity_error

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from modernbert_nli import embedded  # noqa: E402
from modernbert_nli.configuration_modernbert_nli import LABELS  # noqa: E402
from modernbert_nli.files import move_into  # noqa: E402
from modernbert_nli.heads import label_loss  # noqa: E402
from modernbert_nli.tokenization import encode_pairs, load_tokenizer, max_pair_length  # noqa: E402
from modernbert_nli.training.data import Pairs, clean, load_pairs, summary  # noqa: E402
from modernbert_nli.training.resume import last_checkpoint, prepare_work_folder  # noqa: E402
from modernbert_nli.training.trainers import LengthSampler  # noqa: E402


@dataclass
class Choices:
    """What to fine-tune, on what."""

    train: list[str] = field(metadata={"help": "Pairs to learn from, as for train.py."})
    evaluation: list[str] = field(
        default_factory=list, metadata={"help": "Pairs to be measured on later: none of them is learnt."}
    )
    base_model: str = field(default=embedded.BASE, metadata={"help": "Repository id of the base."})
    base_revision: str | None = field(default=None, metadata={"help": "Its commit."})
    base_folder: str | None = field(default=None, metadata={"help": "A local copy of it."})
    resume: bool = field(default=False, metadata={"help": "Go on where an interrupted run was."})


@dataclass
class Arguments(TrainingArguments):
    """Trainer's, with the defaults that Devlin et al. 2019 (arXiv:1810.04805) recommend for fine-tuning."""

    output_dir: str = "runs/fine-tuned"
    num_train_epochs: float = 3.0
    per_device_train_batch_size: int = 32
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warmup_steps: float = 0.1
    save_strategy: str = "steps"
    save_steps: float = 200
    save_total_limit: int = 2
    logging_steps: float = 50
    report_to: str = "none"


class Tokenised(Dataset):
    """Labelled pairs as token ids."""

    def __init__(self, sources: list[Pairs], tokenizer: Any, window: int):
        texts = [pair for pairs in sources for pair in zip(pairs.premises, pairs.hypotheses, strict=True)]
        self.tokens = encode_pairs(tokenizer, texts, window)
        self.labels = np.concatenate([pairs.labels for pairs in sources])
        self.lengths = np.array([len(ids) for ids in self.tokens["input_ids"]])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {**{key: values[row] for key, values in self.tokens.items()}, "labels": int(self.labels[row])}


class FineTuner(Trainer):
    """Trainer, with batches of like length, and pairs that say no more than "not entailment"."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        """As for heads: see `label_loss`."""
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = label_loss(outputs.logits, labels)
        return (loss, outputs) if return_outputs else loss

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler:
        lengths = (train_dataset or self.train_dataset).lengths
        return LengthSampler(lengths, self.args.train_batch_size * self.args.world_size, self.args.seed)


def main(argv: list[str] | None = None) -> None:
    """Fine-tune and save.

    Raises:
        ValueError: arguments or data that cannot be used.
        OSError: the base cannot be had.
    """
    argv = sys.argv[1:] if argv is None else argv
    choices, args = HfArgumentParser((Choices, Arguments)).parse_args_into_dataclasses(argv)
    set_seed(args.seed)
    set_verbosity_error()
    evaluation = [load_pairs(source, args.seed) for source in choices.evaluation]
    train = clean([load_pairs(source, args.seed) for source in choices.train], evaluation)
    print(summary(train, evaluation))

    revision = choices.base_revision
    folder = choices.base_folder or embedded.embedded_folder(choices.base_model, revision)
    if choices.base_model == embedded.BASE:
        revision = revision or embedded.BASE_REVISION
    hub = {"revision": None if folder else revision}
    named = {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}
    model = AutoModelForSequenceClassification.from_pretrained(folder or choices.base_model, **hub, **named)
    tokenizer = load_tokenizer(folder or choices.base_model, model.config, **hub)
    pairs = Tokenised(train, tokenizer, max_pair_length(model.config, tokenizer))

    output = Path(args.output_dir)
    work = output.with_name(f"{output.name}.trainer")
    keys = ("num_train_epochs", "per_device_train_batch_size", "learning_rate", "seed", "bf16", "max_steps")
    chosen = {"train": choices.train, "pairs": len(pairs), **{key: getattr(args, key) for key in keys}}
    prepare_work_folder(work, json.loads(json.dumps(chosen)), choices.resume)
    args.output_dir = str(work)
    collator = DataCollatorWithPadding(tokenizer)
    trainer = FineTuner(model=model, args=args, train_dataset=pairs, data_collator=collator)
    start = time.perf_counter()
    trainer.train(resume_from_checkpoint=last_checkpoint(work) if choices.resume else None)
    results = {
        "date": date.today().isoformat(),
        "command": shlex.join(["python", "benchmarks/fine_tuned.py", *(Path(word).name for word in argv)]),
        "base": {"name": choices.base_model, "revision": revision},
        "seed": args.seed,
        "train": {part.name: len(part) for part in train},
        "parameters": model.num_parameters(),
        "epochs": args.num_train_epochs,
        "seconds": round(time.perf_counter() - start, 2),  # of this process, after a resumption of its part
        "threads": torch.get_num_threads(),
    }
    if trainer.is_world_process_zero():
        _save(model, tokenizer, results, work / "checkpoint", output)
        print(f"Saved in {output}. Measure it: python evaluate_nli.py --models {output} --sets FILE")


@torch.no_grad()
def accuracy_of(folder: Path, source: str) -> float:
    """Share of the pairs of a source that a model told right which was saved here."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = load_tokenizer(str(folder), model.config)
    pairs = Tokenised([load_pairs(source)], tokenizer, max_pair_length(model.config, tokenizer))
    order, right = np.argsort(pairs.lengths, kind="stable"), 0
    for rows in np.split(order, range(0, len(order), 64)[1:]):
        batch = tokenizer.pad([pairs[row] for row in rows], return_tensors="pt")
        labels = batch.pop("labels")
        right += int((model(**batch).logits.argmax(dim=-1) == labels).sum())
    return right / len(pairs)


def _save(model: Any, tokenizer: Any, results: dict[str, Any], aside: Path, output: Path) -> None:
    """All files aside, then each into place."""
    model.float().save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    (aside / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    move_into(aside, output)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("Interrupted. The same command with `--resume` goes on from here.")
