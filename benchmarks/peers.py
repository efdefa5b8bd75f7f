"""Pair scoring beside every peer, in one run, on the same base and the same pairs of real length.

    python benchmarks/peers.py --pairs PAIRS                        all-MiniLM-L6-v2 with its weights
    python benchmarks/peers.py --pairs PAIRS --geometry base        ModernBERT-base, random weights
    python benchmarks/peers.py --pairs PAIRS --geometry large --device cuda --dtype bfloat16 --peak_tflops 989

    --parts scoring     pairs a second: ours, CrossEncoder.predict, the pipelines of transformers, the
                        published loader's call, and the bare encoder over the same length-sorted batches
            load        seconds to load and peak memory after a batch, beside the plain base, in processes
            growth      seconds for a pair and memory, from 1,000 to 100,000 pairs from a generator
            long        a pair of 8,192 tokens (or the base's window) in one pass, beside the bare encoder
            processes   predict.py on one process and on two, a thread each

No speed depends on what weights are: heads and classifiers are random where the base is. Writes
`benchmarks/results/peers.json` (`peers-base.json`, `peers-large-cuda.json`, ...), of which the parts that ran
are replaced. Run it while nothing else runs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    ModernBertConfig,
    pipeline,
    set_seed,
)
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from timing import alternate, ratio  # noqa: E402

from modernbert_nli import embedded  # noqa: E402
from modernbert_nli.configuration_modernbert_nli import LABELS, ModernBertNliConfig  # noqa: E402
from modernbert_nli.files import write_aside  # noqa: E402
from modernbert_nli.modeling_modernbert_nli import ModernBertNliModel  # noqa: E402
from modernbert_nli.published_heads import predict_with_abstention  # noqa: E402
from modernbert_nli.tokenization import load_tokenizer, max_pair_length  # noqa: E402
from modernbert_nli.training.report import MemoryWatch  # noqa: E402

WORK = ROOT / "runs" / "peers"
BATCH_SIZE = 32
ONE_BY_ONE = (
    64  # pairs of the programs that take one at a time: their time for a pair does not depend on how many
)
FILE_TIMES = 8  # as many pairs in the file for two processes, or their start would be all that is measured
GROWTH = (1_000, 10_000, 100_000)
GEOMETRIES: dict[str, dict[str, int]] = {
    "base": {
        "hidden_size": 768,
        "intermediate_size": 1152,
        "num_hidden_layers": 22,
        "num_attention_heads": 12,
    },
    "large": {
        "hidden_size": 1024,
        "intermediate_size": 2624,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
    },
}
Pairs = list[tuple[str, str]]


def main() -> None:
    """Measure the parts asked for, and write them beside those measured before."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--pairs", type=Path, required=True, help="JSONL with premise and hypothesis")
    add("--geometry", default="minilm", choices=["minilm", *GEOMETRIES])
    add("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    add("--count", type=int, default=600, help="pairs to score (default: %(default)s)")
    add("--most", type=int, default=GROWTH[-1], help="pairs that growth goes to (default: %(default)s)")
    add("--repetitions", type=int, default=5, help="default: %(default)s")
    add("--device", default="cpu", help="default: %(default)s")
    add(
        "--dtype",
        default="float32",
        choices=["float32", "bfloat16"],
        help="of all bases (default: %(default)s)",
    )
    add("--peak_tflops", type=float, help="of the chip in this precision: says what share of it is reached")
    add("--one", help=argparse.SUPPRESS)  # what a process of its own measures
    args = parser.parse_args()
    disable_progress_bar()
    set_verbosity_error()
    if args.one:
        print(json.dumps(ONES[args.one.partition(":")[0]](args)))
        return

    name = (
        "peers"
        + f"-{args.geometry}" * (args.geometry != "minilm")
        + f"-{args.device}" * (args.device != "cpu")
    )
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    make_checkpoints(args)
    for part in args.parts:
        command = [word for word in sys.argv[1:] if word not in PARTS and word != "--parts"]
        command = [Path(word).name if word == str(args.pairs) else word for word in command]
        results[part] = {
            "date": date.today().isoformat(),
            "command": " ".join(["python benchmarks/peers.py", *command, "--parts", part]),
            "device": _device_name(args.device),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            **PARTS[part](args),
        }
        write_aside(path, json.dumps(results, indent=2) + "\n")
        print(json.dumps(results[part], indent=2))


# What is measured ------------------------------------------------------------------------------------------


def scoring(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds for a pair of each program, and how they compare with ours in each encoding."""
    from sentence_transformers import CrossEncoder

    pairs = read_pairs(args.pairs, args.count)
    nli, classifier = ours(args), folder(args, "classifier")
    model, tokenizer = nli.model, nli.tokenizer
    dtype = {"dtype": getattr(torch, args.dtype)}
    peer = CrossEncoder(classifier, device=args.device, model_kwargs=dtype)
    options = {"model": classifier, "device": args.device, **dtype}
    text_classification = pipeline("text-classification", **options)
    zero_shot = pipeline("zero-shot-classification", **options)
    encoder, batches = model.encoder, length_sorted(tokenizer, pairs, model.config)

    def score(encoding: str) -> Callable[[], Any]:
        def run() -> None:
            nli.texts.clear()
            nli(pairs, encoding=encoding, batch_size=BATCH_SIZE)

        return run

    @torch.inference_mode()
    def bare() -> None:
        for batch in batches:
            encoder(**batch.to(args.device)).last_hidden_state[:, 0].cpu()

    def loader() -> None:
        for premise, hypothesis in pairs[:ONE_BY_ONE]:
            predict_with_abstention(model, tokenizer, premise, hypothesis)

    def zero() -> None:
        for premise, hypothesis in pairs[:ONE_BY_ONE]:
            zero_shot(premise, [hypothesis], hypothesis_template="{}")

    texts = [{"text": premise, "text_pair": hypothesis} for premise, hypothesis in pairs]
    programs = {
        **{f"ours, {encoding}": score(encoding) for encoding in model.config.encoder_layers},
        "the bare encoder": bare,
        "CrossEncoder.predict": lambda: peer.predict(pairs, batch_size=BATCH_SIZE, show_progress_bar=False),
        "pipeline('text-classification')": lambda: text_classification(texts, batch_size=BATCH_SIZE),
        "pipeline('zero-shot-classification')": zero,
        "the published loader, a pair at a time": loader,
    }
    singly = ("pipeline('zero-shot-classification')", "the published loader, a pair at a time")
    seconds = {
        name: [second / (min(ONE_BY_ONE, len(pairs)) if name in singly else len(pairs)) for second in times]
        for name, times in alternate(programs, args.repetitions).items()
    }
    tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
    results: dict[str, Any] = {
        "pairs": len(pairs),
        "tokens": tokens,
        "batch_size": BATCH_SIZE,
        "base": args.geometry,
        "dtype": args.dtype,
        "pairs_per_second": {name: 1 / statistics.median(times) for name, times in seconds.items()},
        "times_the_speed_of": {
            own: {name: ratio(times, seconds[own]) for name, times in seconds.items() if name != own}
            for own in programs
            if own.startswith("ours")
        },
    }
    if args.peak_tflops:
        flops = 2 * tokens * _matrix_parameters(encoder)  # of its matrices: attention itself comes on top
        second = statistics.median(seconds["the bare encoder"]) * len(pairs)
        results["share_of_peak"] = {"the bare encoder": flops / second / (args.peak_tflops * 1e12)}
    return results


def load(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds to load, and peak memory after a batch, of ours and of the plain base, in turn."""
    rows = {"plain": [], "ours": []}  # type: dict[str, list[dict[str, float]]]
    for _ in range(args.repetitions):
        for what, found in rows.items():
            found.append(_process(args, what))
    figures: dict[str, Any] = {}
    for key in ("load_seconds", "peak_rss_bytes"):
        plain, own = ([row[key] for row in rows[what]] for what in ("plain", "ours"))
        figures[key] = {
            "plain": statistics.median(plain),
            "ours": statistics.median(own),
            **ratio(own, plain),
        }
    return figures


def growth(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds for a pair and peak memory, by the number of pairs."""
    sizes = [size for size in GROWTH if size < args.most] + [args.most]
    return {"sizes": {str(size): _process(args, f"growth:{size}") for size in sizes}}


def long(args: argparse.Namespace) -> dict[str, Any]:
    """A pair as long as the window."""
    nli = ours(args)
    window = max_pair_length(nli.model.config.encoder_config, nli.tokenizer)
    text = " ".join(premise for premise, _ in read_pairs(args.pairs, args.count))
    premise = " ".join(islice(cycle(text.split()), window))  # at least a token each; the rest is cut
    pair = (premise, "Somebody said so.")
    (batch,) = length_sorted(nli.tokenizer, [pair], nli.model.config)

    @torch.inference_mode()
    def bare() -> None:
        nli.model.encoder(**batch.to(args.device)).last_hidden_state.cpu()

    programs = {"ours, joint": lambda: nli(*pair, encoding="joint"), "the bare encoder": bare}
    seconds = alternate(programs, args.repetitions)
    return {
        "tokens": int(batch["attention_mask"].sum()),
        "seconds": {name: statistics.median(times) for name, times in seconds.items()},
        "ours_over_bare": ratio(*seconds.values()),
        "peak": MemoryWatch().peak(),
    }


def processes(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of predict.py over a file, on one process and on two, with the time to start taken out."""
    pairs = FILE_TIMES * args.count
    short, whole = (WORK / f"pairs-{count}.jsonl" for count in (1, pairs))
    seconds: dict[str, dict[int, list[float]]] = {}
    for source, count in ((short, 1), (whole, pairs)):
        rows = list(islice(_again(read_pairs(args.pairs, None)), count))
        lines = (json.dumps({"premise": premise, "hypothesis": hypothesis}) for premise, hypothesis in rows)
        source.write_text("\n".join(lines) + "\n")
        for _ in range(args.repetitions):
            for number in (1, 2):
                command = [
                    sys.executable,
                    "-m",
                    "torch.distributed.run",
                    "--standalone",
                    f"--nproc_per_node={number}",
                ]
                command += [
                    str(ROOT / "predict.py"),
                    "--input",
                    str(source),
                    "--output",
                    str(WORK / "out.jsonl"),
                ]
                command += ["--overwrite", "--model", folder(args, "heads"), "--base", folder(args, "base")]
                start = time.perf_counter()
                subprocess.run(
                    command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
                )
                seconds.setdefault(source.name, {}).setdefault(number, []).append(time.perf_counter() - start)
    started = {number: statistics.median(times) for number, times in seconds[short.name].items()}
    judged = {
        number: [second - started[number] for second in times]
        for number, times in seconds[whole.name].items()
    }
    return {"pairs": pairs, "seconds_to_start": started, "one_over_two": ratio(judged[1], judged[2])}


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    part.__name__: part for part in (scoring, load, growth, long, processes)
}


# In processes of their own ---------------------------------------------------------------------------------


def _process(args: argparse.Namespace, what: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--pairs", str(args.pairs), "--geometry", args.geometry]
    command += ["--device", args.device, "--dtype", args.dtype, "--one", what]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: {what} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def _plain(args: argparse.Namespace) -> dict[str, float]:
    """The plain base and its tokenizer, then a batch."""
    start = time.perf_counter()
    base = folder(args, "base")
    model = AutoModel.from_pretrained(base, dtype=getattr(torch, args.dtype)).to(args.device).eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    seconds = time.perf_counter() - start
    premises, hypotheses = map(list, zip(*read_pairs(args.pairs, BATCH_SIZE), strict=True))
    with torch.inference_mode():
        batch = tokenizer(premises, hypotheses, padding=True, truncation=True, return_tensors="pt")
        model(**batch.to(args.device))
    return {"load_seconds": seconds, "peak_rss_bytes": MemoryWatch().peak()["with mapped states"]}


def _ours(args: argparse.Namespace) -> dict[str, float]:
    """Ours, then the same batch in one pass."""
    start = time.perf_counter()
    nli = ours(args)
    seconds = time.perf_counter() - start
    nli(read_pairs(args.pairs, BATCH_SIZE), encoding="joint", batch_size=BATCH_SIZE)
    return {"load_seconds": seconds, "peak_rss_bytes": MemoryWatch().peak()["with mapped states"]}


def _growth(args: argparse.Namespace) -> dict[str, float]:
    """So many pairs from a generator, the pairs at hand again and again; what is encoded once stays once."""
    size = int(args.one.partition(":")[2])
    nli, pairs = ours(args), read_pairs(args.pairs, None)
    nli(pairs[:BATCH_SIZE])
    process = psutil.Process()
    before = most = process.memory_info().rss
    start = time.perf_counter()
    for number, _ in enumerate(nli(islice(_again(pairs), size), batch_size=BATCH_SIZE)):
        if number % 1000 == 0:
            most = max(most, process.memory_info().rss)
    seconds = time.perf_counter() - start
    return {"seconds_per_pair": seconds / size, "rss_bytes_before": before, "rss_bytes_at_most": most}


ONES = {"plain": _plain, "ours": _ours, "growth": _growth}


# What is measured with -------------------------------------------------------------------------------------


def _again(pairs: Pairs) -> Iterator[tuple[str, str]]:
    """The pairs, and then again with other texts of the same length."""
    for turn in range(10**9):
        for premise, hypothesis in pairs:
            yield (premise, hypothesis) if turn == 0 else (f"{premise} {turn}", f"{hypothesis} {turn}")


def ours(args: argparse.Namespace) -> Any:
    """The pipeline of this project."""
    where = {"base_model_name_or_path": folder(args, "base"), "dtype": getattr(torch, args.dtype)}
    model = ModernBertNliModel.from_pretrained(folder(args, "heads"), **where)
    return model.eval().as_pipeline(device=args.device)


def make_checkpoints(args: argparse.Namespace) -> None:
    """The base, a classifier on it, and heads on it, where they are not there yet."""
    set_seed(0)
    WORK.mkdir(parents=True, exist_ok=True)
    base = Path(folder(args, "base"))
    if not base.exists():
        tokenizer = AutoTokenizer.from_pretrained(embedded.base_folder())
        special = {
            name: getattr(tokenizer, name) for name in ("pad_token_id", "cls_token_id", "sep_token_id")
        }
        sizes = {**GEOMETRIES[args.geometry], "max_position_embeddings": 8192, "vocab_size": len(tokenizer)}
        tokenizer.model_max_length = 8192
        AutoModel.from_config(ModernBertConfig(**sizes, **special)).save_pretrained(base)
        tokenizer.save_pretrained(base)
    classifier = Path(folder(args, "classifier"))
    if not classifier.exists():
        labels = {
            "id2label": dict(enumerate(LABELS)),
            "label2id": {label: i for i, label in enumerate(LABELS)},
        }
        peer = AutoModelForSequenceClassification.from_pretrained(base, **labels)
        load_tokenizer(str(base), peer.config).save_pretrained(classifier)
        peer.save_pretrained(classifier)
    heads = Path(folder(args, "heads"))
    if not heads.exists():
        config = ModernBertNliConfig.from_base(
            f"local/{base.name}", None, str(base), head_type="alignment", encoding="separate"
        )
        ModernBertNliModel.from_base(config).save_pretrained(heads)


def folder(args: argparse.Namespace, what: str) -> str:
    """Where the base, the classifier or the heads are."""
    if args.geometry == "minilm" and what != "classifier":
        return str(embedded.base_folder() if what == "base" else embedded.CHECKPOINT)
    return str(WORK / f"{args.geometry}-{what}")


def read_pairs(path: Path, count: int | None) -> Pairs:
    """So many pairs of a file, from all over it."""
    with path.open() as file:
        rows = [json.loads(line) for line in file]
    step = max(1, len(rows) // count) if count else 1
    return [(row["premise"], row["hypothesis"]) for row in rows[::step][:count]]


def length_sorted(tokenizer: Any, pairs: Pairs, config: ModernBertNliConfig) -> list[Any]:
    """Padded batches of pairs of like length."""
    window = max_pair_length(config.encoder_config, tokenizer)
    premises, hypotheses = map(list, zip(*pairs, strict=True))
    tokens = tokenizer(premises, hypotheses, truncation="only_first", max_length=window)
    order = sorted(range(len(pairs)), key=lambda row: len(tokens["input_ids"][row]))
    batches = (order[start : start + BATCH_SIZE] for start in range(0, len(order), BATCH_SIZE))
    return [
        tokenizer.pad(
            {key: [rows[row] for row in batch] for key, rows in tokens.items()}, return_tensors="pt"
        )
        for batch in batches
    ]


def _matrix_parameters(encoder: Any) -> int:
    embeddings = encoder.get_input_embeddings().weight.numel()
    return sum(parameter.numel() for parameter in encoder.parameters() if parameter.ndim > 1) - embeddings


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else f"{os.cpu_count()} CPU cores"


if __name__ == "__main__":
    main()
