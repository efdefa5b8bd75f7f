"""The public classes in other people's training loops: Trainer, data parallel, CrossEncoder."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import HANGS, PAIRS, ROOT, make_model, rows
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments, pipeline
from transformers.utils.generic import find_labels

from modernbert_nli.configuration_modernbert_nli import LABELS
from modernbert_nli.modeling_modernbert_nli import ModernBertNliForSequenceClassification, ModernBertNliModel

CLASSES = (ModernBertNliModel, ModernBertNliForSequenceClassification)

SCRIPT = """
import json, os, sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, sys.argv[1])
from modernbert_nli import modeling_modernbert_nli as modeling

dist.init_process_group("gloo")
torch.manual_seed(0)
losses = {}
for name in ("ModernBertNliModel", "ModernBertNliForSequenceClassification"):
    build = getattr(modeling, name)
    model = build.from_pretrained(sys.argv[2], base_model_name_or_path=sys.argv[3]).train()
    parallel = DistributedDataParallel(model)  # which fails where one that is to learn gets none
    optimizer = torch.optim.AdamW([part for part in model.parameters() if part.requires_grad], lr=0.01)
    premises, hypotheses = zip(*json.loads(sys.argv[4]))
    batch = model.tokenizer(list(premises), list(hypotheses), padding=True, return_tensors="pt")
    losses[name] = []
    for _ in range(3):
        loss = parallel(**batch, labels=torch.tensor([0, 1, 2])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses[name].append(loss.item())
if dist.get_rank() == 0:
    print(json.dumps(losses))
dist.destroy_process_group()
"""


def arguments(folder, **kwargs) -> TrainingArguments:
    return TrainingArguments(str(folder), use_cpu=True, report_to="none", save_strategy="no", **kwargs)


@pytest.mark.parametrize("build", CLASSES)
def test_trainer_measures_as_with_any_classifier(tiny_modernbert, head_type, tmp_path, build):
    """`eval_loss` and metrics are there, each of the heads as they are at that time."""
    heads = make_model(tiny_modernbert, head_type)
    model = build(heads.config, encoder=heads.encoder)
    assert find_labels(build) == ["labels"]
    data = [
        {**model.tokenizer(row["premise"], row["hypothesis"]), "labels": LABELS.index(row["label"])}
        for row in rows(24)
    ]

    def accuracy(prediction):
        logits = prediction.predictions
        logits = logits[0] if isinstance(logits, tuple) else logits
        return {"accuracy": float((logits.argmax(-1) == prediction.label_ids).mean())}

    trainer = Trainer(
        model,
        arguments(tmp_path, eval_strategy="epoch", num_train_epochs=3, learning_rate=0.02, logging_steps=100),
        train_dataset=data,
        eval_dataset=data,
        data_collator=DataCollatorWithPadding(model.tokenizer),
        compute_metrics=accuracy,
    )
    assert {"eval_loss", "eval_accuracy"} <= set(trainer.evaluate())
    trainer.train()
    steps = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert len(set(steps)) == len(steps) == 3
    batch = DataCollatorWithPadding(model.tokenizer)(data)
    with torch.no_grad():
        assert model.eval()(**batch).loss.item() == pytest.approx(steps[-1], abs=1e-5)


def test_two_processes_train_either_class(checkpoints, tiny_modernbert, head_type, tmp_path):
    """Plain DistributedDataParallel, which refuses parameters that cannot learn, over gloo."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words = [str(ROOT), checkpoints[head_type], tiny_modernbert, json.dumps(PAIRS)]
    done = subprocess.run(
        [sys.executable, *launcher, str(script), *words],
        capture_output=True,
        text=True,
        timeout=HANGS,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    (found,) = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    for losses in found.values():
        assert len(set(losses)) == 3


def test_what_cannot_learn_needs_no_gradient(tiny_modernbert, checkpoint, tmp_path):
    """New heads, loaded ones and those of another default encoding: all that requires a gradient gets one."""
    loaded = [build.from_pretrained(checkpoint, base_model_name_or_path=tiny_modernbert) for build in CLASSES]
    for model in (*loaded, make_model(tiny_modernbert, "alignment"), make_model(tiny_modernbert, "cls")):
        model.train()
        batch = model.tokenizer(*map(list, zip(*PAIRS, strict=True)), padding=True, return_tensors="pt")
        model(**batch, labels=torch.tensor([0, 1, 2])).loss.backward()
        for name, parameter in model.named_parameters():
            assert parameter.requires_grad == (parameter.grad is not None), name


def test_one_text_alone_through_other_tools(checkpoint, tiny_modernbert):
    """text-classification and CrossEncoder say that a pair is needed, also where the second text is empty."""
    base = {"base_model_name_or_path": tiny_modernbert}
    pipe = pipeline("text-classification", model=checkpoint, trust_remote_code=True, model_kwargs=dict(base))
    good = {"text": "The cat sleeps.", "text_pair": "The cat is awake."}
    assert pipe(good)
    for one in (
        "The cat sleeps.",
        {"text": "The cat sleeps."},
        {**good, "text_pair": ""},
        {**good, "text": ""},
    ):
        with pytest.raises(ValueError, match="is one text alone, and what is judged are pairs"):
            pipe(one)
    with pytest.raises(ValueError, match="Row 1 of the batch is one text alone"):
        pipe([good, {**good, "text_pair": ""}], batch_size=2)
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    encoder = library.CrossEncoder(checkpoint, trust_remote_code=True, model_kwargs=base, config_kwargs=base)
    assert encoder.predict([tuple(good.values())]).shape == (1, 3)
    for pairs in ([("The cat sleeps.", "")], [("", "The cat sleeps.")]):
        with pytest.raises(ValueError, match=r"one text alone.*CrossEncoder"):
            encoder.predict(pairs)


def test_sentences_are_embedded_as_by_the_base(minilm, tmp_path):
    """A checkpoint pools, normalises and cuts as its base does: an index stays valid."""
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    checkpoint = Path(__file__).resolve().parent.parent / "checkpoints" / "quickstart"
    base = {"base_model_name_or_path": minilm}
    model = ModernBertNliModel.from_pretrained(checkpoint, **base)
    model.save_pretrained(tmp_path)
    for name in ("modules.json", "sentence_bert_config.json", "1_Pooling/config.json"):
        assert json.loads((tmp_path / name).read_text()) == json.loads((checkpoint / name).read_text())
    expected = library.SentenceTransformer(minilm, device="cpu")
    found = library.SentenceTransformer(
        str(tmp_path), device="cpu", trust_remote_code=True, model_kwargs=base, config_kwargs=base
    )
    assert found.max_seq_length == expected.max_seq_length == 256
    texts = ["It rains.", "A man is playing guitar on stage.", "word " * 400]
    assert (found.encode(texts) == expected.encode(texts)).all()


@pytest.mark.parametrize(
    "modules",
    [
        None,
        "not json",
        json.dumps(
            [{"path": path, "type": f"sentence_transformers.models.{path}"} for path in ("", "Dense")]
        ),
    ],
)
def test_modules_with_weights_of_their_own_are_not_claimed(tiny_modernbert, tmp_path, modules):
    """A base that sentence-transformers does not know, or by more than the encoder: nothing is written."""
    for path in Path(tiny_modernbert).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    if modules is not None:
        (tmp_path / "modules.json").write_text(modules)
    make_model(str(tmp_path)).save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "model.safetensors").is_file()
    assert not (tmp_path / "saved" / "modules.json").exists()
