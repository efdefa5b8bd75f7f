"""The files of a checkpoint: where heads, base and tokenizer came from, and how a save replaces others."""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from safetensors import SafetensorError
from transformers import PretrainedConfig, PreTrainedTokenizerBase
from transformers.utils import CONFIG_NAME, cached_file
from transformers.utils.hub import extract_commit_hash

from .tokenization import check_tokenizer, load_tokenizer

# Arguments of `from_pretrained` that reach a repository: that of the heads and that of the base.
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "proxies")
_IF_IT_IS_THERE = {
    "_raise_exceptions_for_missing_entries": False,
    "_raise_exceptions_for_connection_errors": False,
    "_raise_exceptions_for_gated_repo": False,
}
_WITHOUT_WEIGHTS = ("Transformer", "Pooling", "Normalize")  # of the modules of sentence-transformers

Place: TypeAlias = tuple[str | os.PathLike, dict[str, Any]]  # a folder or repository, and how to reach it


class Origin:
    """Where a model came from: its heads, if they were loaded, and its base.

    Both are also where its tokenizer is looked for, and what `SentenceTransformer` needs.
    """

    def __init__(self) -> None:
        self.heads: Place | None = None
        self.bases: list[Place] = []  # the one that was loaded, then the one that the configuration names
        self._embedding_files: dict[str, bytes] | None = None

    @property
    def places(self) -> list[Place]:
        """All of them, the heads' first."""
        return [*([self.heads] if self.heads else []), *self.bases]

    def remember_base(
        self, config: PretrainedConfig, encoder: Any, hub: Mapping[str, Any], pin: bool
    ) -> None:
        """Note where the base is.

        Args:
            config (`ModernBertNliConfig`): Names it.
            encoder (`PreTrainedModel`): As it was loaded.
            hub (`Mapping`): `HUB_ARGUMENTS` by which it was reached.
            pin (`bool`): Write the commit of a base that was just taken from the Hub into the configuration.
        """
        name, revision = config.base_place
        hub = {key: value for key, value in hub.items() if key in HUB_ARGUMENTS and key != "force_download"}
        if pin and not config.base_is_overridden and not os.path.isdir(name):
            path = cached_file(name, CONFIG_NAME, **{**hub, "revision": revision, "local_files_only": True})
            config.base_model_revision = extract_commit_hash(path, None) or revision
        self.bases = [(name, {**hub, "revision": revision})]
        given = getattr(encoder.config, "_name_or_path", "")  # of an encoder that the caller loaded
        if given and given != name:
            revision = getattr(encoder.config, "_commit_hash", None)
            self.bases.insert(0, (given, {**hub, "revision": revision}))

    def beside_heads(self, file: str) -> str | None:
        """The path of a file beside the heads, fetched if need be; `None` where there is none."""
        if self.heads is None:
            return None
        name, location = self.heads
        location = {key: value for key, value in location.items() if key != "force_download"}
        return cached_file(name, file, **location, **_IF_IT_IS_THERE)

    def tokenizer(self, config: PretrainedConfig) -> PreTrainedTokenizerBase:
        """That of the checkpoint, else that of the base.

        Raises:
            OSError: neither has one, or neither can be reached.
            TokenizerMismatch: it cannot be that of the base.
        """
        name, revision = config.base_place
        # Of an encoder that is not pretrained: nothing is worth a download.
        places = self.places or [(name, {"revision": revision, "local_files_only": True})]
        reasons = []
        for name, location in places:
            try:
                tokenizer = load_tokenizer(str(name), config.encoder_config, **location)
            except OSError as error:
                reasons.append(str(error))
                continue
            check_tokenizer(tokenizer, config)
            return tokenizer
        raise OSError("No tokenizer could be loaded for this model. " + " ".join(reasons))

    def save_embedding(self, folder: Path) -> None:
        """Let `SentenceTransformer` embed by the checkpoint as by the base: pool, normalise and cut alike."""
        if self._embedding_files is None:
            self._embedding_files = {}
            for place in [*self.bases, *([self.heads] if self.heads else [])]:
                with suppress(OSError, ValueError):  # a folder that is gone, a file that is none of theirs
                    self._embedding_files = self._embedding_files or _embedding_files(*place)
        for name, content in self._embedding_files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: all but access tokens."""

        def open_to_all(place: Place) -> Place:
            return place[0], {key: value for key, value in place[1].items() if key != "token"}

        heads = open_to_all(self.heads) if self.heads else None
        return {**self.__dict__, "heads": heads, "bases": list(map(open_to_all, self.bases))}


def location_of(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Of the arguments of `from_pretrained` those that say where the heads are."""
    return {key: kwargs[key] for key in (*HUB_ARGUMENTS, "revision", "subfolder") if key in kwargs}


@contextmanager
def explained(name: str, config: PretrainedConfig, stored_labels: Callable[[], int]) -> Iterator[None]:
    """Say of heads that cannot be loaded what is wrong with their files.

    Args:
        name (`str`): The checkpoint.
        config (`ModernBertNliConfig`): By which it is loaded.
        stored_labels (`Callable`): How many labels its own configuration has.
    """
    try:
        yield
    except SafetensorError as error:
        raise OSError(
            f"The heads in {name!r} cannot be read: model.safetensors is truncated or of another "
            f"format ({error}). Download or copy it again."
        ) from error
    except RuntimeError as error:
        if "mismatch" not in str(error):
            raise
        if (stored := stored_labels()) != config.num_labels:
            raise ValueError(
                f"The heads in {name!r} tell {stored} labels apart, not {config.num_labels}. To train a new "
                "output layer beside what they learnt: `ignore_mismatched_sizes=True`."
            ) from error
        raise ValueError(
            f"The heads in {name!r} do not fit their config.json (hidden_size = {config.hidden_size}, "
            f"head_type = {config.head_type!r}): the two files belong to different checkpoints. {error}"
        ) from error


@contextmanager
def replacing(folder: Path, variant: str | None) -> Iterator[Path]:
    """A folder for the files of a checkpoint, which then replace those of the one in `folder`.

    Weights come last but for the configuration, which says what they are. What is left of others goes:
    weights in another form, which would be loaded instead, and the report of an adaptation.
    """
    named = re.escape(f".{variant}") if variant else ""
    of_heads = re.compile(
        rf"adaptation\.json|(pytorch_)?model({named}(-\d{{5}}-of-\d{{5}})?\.(safetensors|bin)|\.(safetensors|bin)\.index{named}\.json)"
    )
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".saving-", dir=folder) as name:
        aside = Path(name)
        try:
            yield aside
        except Exception as error:  # safetensors and tokenizers have no OSError, but say "(os error 28)"
            if isinstance(error, OSError) or "os error" in str(error):
                raise OSError(f"Nothing was saved to {folder}, which stays as it is: {error}") from error
            raise
        names = sorted(str(path.relative_to(aside)) for path in aside.rglob("*") if path.is_file())
        heads = [name for name in names if of_heads.fullmatch(name)]
        last = [CONFIG_NAME] if CONFIG_NAME in names else []
        for name in [name for name in names if name not in (*heads, *last)] + heads + last:
            if name == CONFIG_NAME and heads:
                found = {path.name for path in folder.iterdir() if of_heads.fullmatch(path.name)}
                for left in found - {*heads}:
                    (folder / left).unlink()
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (aside / name).replace(folder / name)


def _embedding_files(name: str | os.PathLike, location: dict[str, Any]) -> dict[str, bytes]:
    """By name, the files of sentence-transformers, unless it has modules with weights of their own."""

    def read(file: str) -> bytes | None:
        path = cached_file(name, file, **location, **_IF_IT_IS_THERE)
        return None if path is None else Path(path).read_bytes()

    modules = json.loads(read("modules.json") or "[]")
    if not modules or {module["type"].rpartition(".")[2] for module in modules} - set(_WITHOUT_WEIGHTS):
        return {}
    names = ["modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"]
    names += [f"{module['path']}/config.json" for module in modules if module["path"]]
    return {file: content for file in names if (content := read(file)) is not None}
