"""Publish a checkpoint on the Hub, with a page whose snippets and figures are right, in one commit.

    python push_to_hub.py --model checkpoints/quickstart --repo_id OWNER/NAME --dry-run runs/page
    python push_to_hub.py --model checkpoints/quickstart --repo_id OWNER/NAME --tag v1
    python push_to_hub.py --model EXPORTED --onnx --repo_id OWNER/NAME
    python push_to_hub.py --space OWNER/PAGE --repo_id OWNER/NAME --revision v1
    python push_to_hub.py --static-space OWNER/PAGE --model EXPORTED
    python push_to_hub.py --static-space --model EXPORTED --dry-run build/web
    python push_to_hub.py --from-legacy task_heads.pt --output runs/converted

`--onnx` publishes the graphs of a folder that export.py wrote beside its heads, in the same commit.

`--dry-run` writes all that would go there into a folder, and says what the page lacks; nothing is sent. A
page with gaps is not published. OWNER is an account or an organisation that the access token (from `hf auth
login`, or HF_TOKEN) may write for.

What has landed is then loaded as a reader would load it, from the Hub into a fresh cache, and its logits are
compared with the local ones; only then is it tagged. The same command can be run again: what is there already
is not committed twice, and a repository that holds another model is left alone.

`--space` publishes the page of `app.py` instead, as a Space that shows the checkpoint of --repo_id at the
commit that --revision (a branch, a tag or a commit of it) names now.

`--static-space` publishes a page that runs in its visitors' browsers, with the int8 graphs of a folder that
export.py wrote; by `--dry-run` the page is written into a folder that any static server can serve.

`--from-legacy` turns published heads (`task_heads.pt`) into a checkpoint with the same logits.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_token
from huggingface_hub.utils import HFValidationError, validate_repo_id

from ..files import folder_aside, require_new
from ..options import parser_of, run
from ..repository import ROOT
from .assemble import STALE, assemble
from .upload import NOTHING, Landed, PublishError, check_token, publish, retried, tag, tag_is_free
from .verify import NotAsLocal, compare, judged, read_back

# torch and the like are loaded by what needs them: a mistyped option is told at once.

COMMAND = "push_to_hub.py"
EVALUATION = ROOT / "docs" / "results"

# What the page shows as examples, and what is compared after the upload.
EXAMPLES = (
    ("A man is playing guitar on stage.", "A person is making music."),
    ("It rains.", "The ground is wet."),
    ("The bridge opened in 1932.", "The bridge is new."),
)
# What a repository without a model may hold.
_NO_MODEL = (".gitattributes", "README.md", "LICENSE")


def main(argv: Sequence[str] | None = None) -> int:
    """Convert, render or publish."""
    args = parse_args(argv)
    return run(
        COMMAND, partial(_push, args), errors=(NotAsLocal, PublishError, OSError, ValueError, ImportError)
    )


def _push(args: argparse.Namespace) -> None:
    if args.from_legacy:
        print(convert_legacy(args))
    elif args.space:
        print(publish_space(args))
    elif args.static_space is not None:
        print(publish_static(args))
    elif args.dry_run:
        print(render_only(args))
    else:
        print(publish_checkpoint(args))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    usage = "python push_to_hub.py --model FOLDER --repo_id OWNER/NAME [--dry-run FOLDER] [option ...]"
    parser = parser_of(COMMAND, usage, __doc__)
    add = parser.add_argument_group("what is published, and where").add_argument
    add("--model", type=Path, help="folder of the checkpoint")
    add("--repo_id", help="repository: OWNER/NAME")
    add("--base", help="folder to take the checkpoint's base encoder from, here and to verify")
    add(
        "--evaluation",
        type=Path,
        default=EVALUATION,
        help="folder of evaluate_nli.py (default: docs/results)",
    )
    add("--onnx", action="store_true", help="publish the graphs that export.py put into that folder too")
    add("--dry-run", "--dry_run", type=Path, metavar="FOLDER", help="write it all there, and send nothing")
    add(
        "--space", metavar="OWNER/PAGE", help="publish the page of app.py there, for the checkpoint --repo_id"
    )
    add(
        "--static-space",
        "--static_space",
        nargs="?",
        const="",
        metavar="OWNER/PAGE",
        help="publish a page there that runs the int8 graphs of --model in the browser",
    )
    add = parser.add_argument_group("the repository and its commit").add_argument
    add("--private", action="store_true", help="create a private repository")
    add(
        "--revision", metavar="BRANCH", help="branch, created if need be; of --space: to show (default: main)"
    )
    add("--tag", help="name the commit, once it is verified; the page's snippets load it")
    add("--create_pr", action="store_true", help="open a pull request")
    add("--commit_message", metavar="TEXT", help="default: what is published, on which base")
    add = parser.add_argument_group("heads in the published format").add_argument
    add("--from-legacy", "--from_legacy", type=Path, metavar="FILE", help="published heads, to convert")
    add("--output", type=Path, metavar="FOLDER", help="new folder of the checkpoint")
    add("--base_model", help="repository of their base (default: ModernBERT-large)")
    add("--base_revision", metavar="COMMIT", help="its commit")
    args = parser.parse_args(argv)
    if args.from_legacy:
        if not args.output or args.model or args.repo_id:
            parser.error("--from-legacy needs --output FOLDER, and neither --model nor --repo_id")
        return args
    if args.space and (args.model or not args.repo_id or args.tag):
        parser.error("--space goes with --repo_id, the checkpoint on the Hub, and neither --model nor --tag")
    if args.static_space is not None:
        if args.space or not args.model or args.onnx or args.tag or args.revision:
            parser.error(
                "--static-space goes with --model, a folder that export.py wrote, and with none of --space, "
                "--onnx, --tag and --revision"
            )
        if not args.static_space and not args.dry_run:
            parser.error("give --static-space OWNER/PAGE, or --dry-run FOLDER to write the page there alone")
    elif not args.space and (not args.model or not args.repo_id):
        parser.error("give --model FOLDER and --repo_id OWNER/NAME, or --from-legacy FILE --output FOLDER")
    if args.onnx and not args.model:
        parser.error("--onnx goes with --model, a folder that export.py wrote")
    if args.output or args.base_model or args.base_revision:
        parser.error("--output, --base_model and --base_revision go with --from-legacy")
    for option, value in _repositories(args).items():
        try:
            validate_repo_id(value)
        except HFValidationError as error:
            parser.error(f"{option}: {error}")
        if value.count("/") != 1:
            parser.error(f"{option} is OWNER/NAME, not {value!r}")
    if args.create_pr and (args.tag or args.private):
        parser.error("--create_pr goes with neither --tag nor --private: it proposes, and creates nothing")
    return args


def _repositories(args: argparse.Namespace) -> dict[str, str]:
    """The repositories that are named, by option."""
    named = {"--repo_id": args.repo_id, "--space": args.space, "--static-space": args.static_space}
    return {option: value for option, value in named.items() if value}


def render_only(args: argparse.Namespace) -> str:
    """Write what would be published into a folder: what it is, and what is missing."""
    require_new(args.dry_run)
    with folder_aside(args.dry_run) as aside:
        gaps = prepare(args, aside)[1]
    files = [path for path in sorted(args.dry_run.rglob("*")) if path.is_file()]
    rows = [f"  {path.stat().st_size:>11,}  {path.relative_to(args.dry_run)}" for path in files]
    lines = [f"To {args.repo_id}, in one commit (bytes, file):", *rows]
    if gaps:
        lines += ["", "The page has gaps, with which it would not be published:"]
        lines += [f"- missing: {gap}" for gap in gaps]
    return "\n".join([*lines, "", f"Nothing was sent. The page: {args.dry_run / 'README.md'}"])


def publish_checkpoint(args: argparse.Namespace) -> str:
    """Publish, verify, tag: what happened."""
    api = HfApi()
    check_token(api)
    with tempfile.TemporaryDirectory(prefix="push-to-hub-") as place:
        folder = Path(place)
        expected, gaps = prepare(args, folder)
        if gaps:
            raise PublishError(
                f"The page has gaps, missing: {'; '.join(gaps)}. See it by --dry-run FOLDER. {NOTHING}"
            )
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        to_tag = args.tag is not None and tag_is_free(api, args.repo_id, args.tag, folder)
        landed = publish(
            api,
            args.repo_id,
            folder,
            args.commit_message
            or f"Publish {args.model.resolve().name}: heads on {config['base_model_name_or_path']}",
            private=args.private,
            revision=args.revision,
            create_pr=args.create_pr,
            check=_no_other_model(api, args.repo_id, config),
            delete_patterns=STALE,
        )
    difference = verify(api, args, landed, expected)
    if to_tag:
        tag(api, args.repo_id, args.tag, landed)
    lines = [
        f"Published: {landed.pull_request or landed.url}",
        f"Verified: loaded from the Hub at {landed.commit}, logits differ by {difference:.2g} at most.",
    ]
    if args.tag:
        lines.append(f"Tagged: {args.tag}")
    return "\n".join(lines)


def prepare(args: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Assemble a repository with its page.

    Returns:
        What the local model makes of `EXAMPLES` (see `verify.judged`), and what the page lacks.
    """
    from ..loading import load_pipeline
    from .card import Evaluation, render

    config = assemble(args.model, args.evaluation, folder)
    base = {"name": config["base_model_name_or_path"], "revision": config["base_model_revision"]}
    evaluation = Evaluation.read(args.evaluation, args.model.resolve().name, base)
    pipe = load_pipeline(str(args.model), args.base, device="cpu")
    expected = judged(pipe.model, pipe.tokenizer, pipe, EXAMPLES)
    examples = [
        {"premise": premise, "hypothesis": hypothesis, "decision": decision}
        for (premise, hypothesis), decision in zip(EXAMPLES, expected["decisions"], strict=True)
    ]
    revision = args.tag or (args.revision if not args.create_pr else None) or "main"
    page = render(folder, args.repo_id, revision, evaluation, examples)
    text = page.text
    if args.onnx:
        from .graphs import add_graphs

        text = f"{text.rstrip()}\n\n{add_graphs(args.model, pipe.model, folder, args.repo_id)}"
    (folder / "README.md").write_text(text, encoding="utf-8")
    return expected, page.gaps


def verify(api: HfApi, args: argparse.Namespace, landed: Landed, expected: dict[str, Any]) -> float:
    """The greatest difference between what has landed and what is here; a `NotAsLocal` where it matters."""
    from .. import embedded

    config = json.loads((args.model / "config.json").read_text(encoding="utf-8"))
    own = (config["base_model_name_or_path"], config["base_model_revision"])
    base = args.base or embedded.embedded_folder(*own)
    try:
        found = read_back(
            args.repo_id,
            landed.commit,
            EXAMPLES,
            endpoint=api.endpoint,
            token=get_token(),
            base=str(Path(base).resolve()) if base and Path(base).is_dir() else base,
        )
        return compare(found, expected)
    except NotAsLocal as error:
        raise NotAsLocal(
            f"{landed.url} was published, but {error}. Look at it there; the same command verifies it again. "
            "No tag was set."
        ) from None


def publish_space(args: argparse.Namespace) -> str:
    """Publish the page, or with `--dry-run` write it into a folder: what happened."""
    from .space import commit_of, no_other_space, write_space

    api = HfApi()
    if args.dry_run:
        require_new(args.dry_run)
    else:
        check_token(api)
    commit = commit_of(api, args.repo_id, args.revision or "main")
    if args.dry_run:
        with folder_aside(args.dry_run) as aside:
            paths = write_space(aside, args.repo_id, commit)
        rows = _sizes(args.dry_run, paths)
        lines = [f"To the Space {args.space}, in one commit (bytes, file):", *rows, ""]
        return "\n".join([*lines, f"It would show {args.repo_id} at {commit}. Nothing was sent."])
    with tempfile.TemporaryDirectory(prefix="push-to-hub-") as place:
        write_space(Path(place), args.repo_id, commit)
        landed = publish(
            api,
            args.space,
            Path(place),
            args.commit_message or f"Show {args.repo_id} at {commit[:12]}",
            repo_type="space",
            space_sdk="gradio",
            private=args.private,
            create_pr=args.create_pr,
            check=no_other_space,
            delete_patterns=("*.py", "page/*", "docs/*"),  # what the page has no longer
        )
    return f"Published: {landed.pull_request or landed.url}\nIt shows {args.repo_id} at {commit}."


def _sizes(folder: Path, paths: Sequence[str]) -> list[str]:
    return [f"  {(folder / path).stat().st_size:>11,}  {path}" for path in paths]


def publish_static(args: argparse.Namespace) -> str:
    """Publish the page that runs in browsers, or with `--dry-run` write it into a folder: what happened."""
    from .static import no_other_page, write_static

    if args.dry_run:
        require_new(args.dry_run)
        with folder_aside(args.dry_run) as aside:
            paths = write_static(aside, args.model, args.repo_id)
        rows = _sizes(args.dry_run, paths)
        serve = f"Nothing was sent. To see the page: python -m http.server --directory {args.dry_run}"
        return "\n".join([f"{args.dry_run} (bytes, file):", *rows, "", serve])
    api = HfApi()
    check_token(api)
    with tempfile.TemporaryDirectory(prefix="push-to-hub-") as place:
        write_static(Path(place), args.model, args.repo_id)
        landed = publish(
            api,
            args.static_space,
            Path(place),
            args.commit_message or f"Run {args.repo_id or args.model.resolve().name} in the browser",
            repo_type="space",
            space_sdk="static",
            private=args.private,
            create_pr=args.create_pr,
            check=no_other_page,
            delete_patterns=("*.js", "*.css", "model/*", "vendor/*"),  # what the page has no longer
        )
    return f"Published: {landed.pull_request or landed.url}"


def convert_legacy(args: argparse.Namespace) -> str:
    """Published heads to a checkpoint: what was written."""
    from ..configuration_modernbert_nli import DEFAULT_BASE
    from .legacy import convert

    require_new(args.output)
    base = args.base_model or DEFAULT_BASE
    difference = convert(args.from_legacy, args.output, base, args.base_revision, args.base)
    return (
        f"{args.output}: a checkpoint on {base}. Its logits differ from those of {args.from_legacy} by "
        f"{difference:.2g} at most.\nIt guarantees nothing yet: "
        f"python calibrate.py --model {args.output} --data PAIRS"
    )


def _no_other_model(api: HfApi, repo_id: str, config: dict[str, Any]) -> Callable[[Any], None]:
    """What `publish` asks before it writes: whether the repository is free, or has this model already."""
    identity = ("model_type", "base_model_name_or_path", "head_type")

    def check(info: Any) -> None:
        files = [sibling.rfilename for sibling in info.siblings or ()]
        if "config.json" in files:
            path = retried(
                "reading its config.json",
                lambda: api.hf_hub_download(repo_id, "config.json", revision=info.sha),
            )
            there = json.loads(Path(path).read_text(encoding="utf-8"))
            held = [f"{key} {there.get(key)!r}" for key in identity if there.get(key) != config.get(key)]
        else:
            held = [name for name in files if name not in _NO_MODEL]
        if held:
            raise PublishError(
                f"{repo_id} holds something else already ({', '.join(held[:3])}): name another. {NOTHING}"
            )

    return check
