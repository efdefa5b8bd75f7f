"""A folder to a repository of the Hub, of any type: in one commit, or not at all.

    api = HfApi()
    check_token(api)
    landed = publish(api, "owner/name", folder, "Upload")

What fails on the side of the server or of the network is tried again, after a while. Whatever remains is told
in a sentence, as a `PublishError`: what went wrong, what is now on the Hub, what to do.
"""

import re
import sys
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from json import JSONDecodeError
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelInfo, SpaceInfo
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,  # of httpx or its successor, whichever this huggingface_hub uses
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.sha import git_hash, sha_fileobj

WAITS = (1, 2, 4, 8)  # seconds before a further attempt
NOTHING = "Nothing was published."
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
COMMIT = re.compile("[0-9a-f]{40}")

T = TypeVar("T")


class PublishError(RuntimeError):
    """Something was not published: what, why, and what to do."""


@dataclass(frozen=True)
class Landed:
    """What is now on the Hub."""

    commit: str  # SHA
    url: str
    pull_request: str | None = None  # its address


@dataclass(frozen=True)
class _Target:
    api: HfApi
    repo_id: str
    repo_type: str
    revision: str

    @property
    def place(self) -> dict[str, Any]:
        return {"repo_id": self.repo_id, "repo_type": self.repo_type}

    def info(self, revision: str | None = None) -> Any:
        return self.api.repo_info(**self.place, revision=revision or self.revision)


def check_token(api: HfApi) -> None:
    """Raise a `PublishError` where there is no access token, or one that may not write."""
    try:
        account = retried("asking whose token this is", api.whoami)
    except LocalTokenNotFoundError:
        raise PublishError(
            f"There is no access token. Run `hf auth login`, or set HF_TOKEN to one that may write. {NOTHING}"
        ) from None
    if account.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise PublishError(
            f"The access token of {account['name']!r} may only read. Make one that may write at "
            f"{api.endpoint}/settings/tokens. {NOTHING}"
        )


def publish(
    api: HfApi,
    repo_id: str,
    folder: Path,
    message: str,
    *,
    repo_type: str = "model",
    space_sdk: str | None = None,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    check: Callable[[ModelInfo | SpaceInfo], None] | None = None,
    delete_patterns: Sequence[str] = (),
) -> Landed:
    """Bring all files of a folder to a repository, which is created if it does not exist.

    Nothing is committed where somebody else commits between the look at the repository and this commit. Where
    the answer to the commit is lost, the repository is asked whether it has arrived.

    Args:
        api (`HfApi`): Knows the Hub's address and the token.
        repo_id (`str`): Owner (an account or an organisation) and name.
        folder (`Path`): What is to be there.
        message (`str`): Of the commit.
        repo_type (`"model"`, `"dataset"` or `"space"`): Of the repository.
        space_sdk (`str`, *optional*): Of a space that is created, such as `"gradio"`.
        private (`bool`): Create a private repository. One that is public is then refused.
        revision (`str`, *optional*): A branch, created from main if it does not exist, or `refs/pr/N`.
        create_pr (`bool`): Open a pull request against `revision` instead. Nothing is then created.
        check (`Callable`, *optional*): Called with what is in the repository before; it may raise.
        delete_patterns (`Sequence[str]`): Files of the repository that this commit removes unless it brings
            them.

    Raises:
        PublishError: in any other case.
    """
    target = _Target(api, repo_id, repo_type, revision or "main")
    before = _prepared(target, private, create_pr, space_sdk)
    if check is not None:
        check(before)
    files = files_of(folder)
    operations: list[Any] = [CommitOperationAdd(name, str(path)) for name, path in files.items()]
    present = [sibling.rfilename for sibling in before.siblings or ()]
    operations += [
        CommitOperationDelete(name)
        for name in present
        if name not in files and any(fnmatch(name, pattern) for pattern in delete_patterns)
    ]
    _upload_large_files(target, operations[: len(files)], create_pr)
    return _committed(target, operations, files, message, before.sha, create_pr)


def tag(api: HfApi, repo_id: str, name: str, landed: Landed, repo_type: str = "model") -> None:
    """Name a commit that has landed; a `PublishError` if that name is another commit's."""
    try:
        retried(
            "setting the tag",
            lambda: api.create_tag(repo_id, tag=name, revision=landed.commit, repo_type=repo_type),
        )
    except PublishError as error:
        with suppress(PublishError):
            if tagged(api, repo_id, name, repo_type) == landed.commit:  # set, but the answer was lost
                return
        cause = _cause(error.__cause__ or error)
        raise PublishError(
            f"{landed.url} was published, but could not be tagged {name!r} ({cause}). Run the same command "
            "again, with another --tag if this one is taken."
        ) from error.__cause__


def tag_is_free(api: HfApi, repo_id: str, name: str, folder: Path, repo_type: str = "model") -> bool:
    """Whether a tag is still to be set; false where it names a commit with just these files.

    Raises:
        PublishError: it names a commit with others. A tag is never moved: somebody has pinned it.
    """
    commit = tagged(api, repo_id, name, repo_type)
    if commit is None:
        return True
    target = _Target(api, repo_id, repo_type, name)
    if retried("comparing with the tag", lambda: holds(target, commit, files_of(folder))):
        return False
    raise PublishError(
        f"{repo_id} has a tag {name!r} already, of other files (commit {commit}). Tags are not moved: choose "
        f"another. {NOTHING}"
    )


def tagged(api: HfApi, repo_id: str, name: str, repo_type: str = "model") -> str | None:
    """The commit that a tag names; None where there is no such tag, or no such repository."""
    try:
        refs = retried("listing the tags", lambda: api.list_repo_refs(repo_id, repo_type=repo_type))
    except RepositoryNotFoundError:
        return None
    return next((ref.target_commit for ref in refs.tags if ref.name == name), None)


def retried(step: str, call: Callable[[], T]) -> T:
    """What a call to the Hub returns, tried again where the server or the network fails.

    Raises:
        PublishError: it fails still, or the Hub refuses.
        RepositoryNotFoundError, RevisionNotFoundError: there is none, or none that this token may see.
    """
    for wait in (*WAITS, None):
        try:
            return call()
        except OfflineModeIsEnabled:
            raise PublishError(
                f"HF_HUB_OFFLINE is set, so that the Hub cannot be reached: unset it. {NOTHING}"
            ) from None
        except (RepositoryNotFoundError, RevisionNotFoundError):
            raise
        except (HTTPError, JSONDecodeError, LocalEntryNotFoundError) as error:  # the last from a download
            if wait is None or not _passing(error):
                raise _explained(step, error) from error
            _pause(step, error, wait)
    raise AssertionError("the last attempt returns or raises")


def _prepared(target: _Target, private: bool, create_pr: bool, space_sdk: str | None) -> Any:
    """The repository and the branch, created if need be: what is in them."""
    step = f"looking at {target.repo_id}"
    try:
        found = retried(step, lambda: target.info("main"))
    except RepositoryNotFoundError:
        if create_pr:
            raise PublishError(
                f"There is no repository {target.repo_id!r} to open a pull request in, or this token may not "
                f"see it. {NOTHING}"
            ) from None
        retried(
            f"creating {target.repo_id}",
            lambda: target.api.create_repo(
                **target.place, private=private, exist_ok=True, space_sdk=space_sdk
            ),
        )
        found = retried(step, lambda: target.info("main"))
    if private and not found.private:
        raise PublishError(
            f"{target.repo_id} exists and is public: --private is for a new one. Make it private in its "
            f"settings, or leave out --private. {NOTHING}"
        )
    if target.revision == "main":
        return found
    try:
        return retried(step, target.info)
    except RevisionNotFoundError:
        if create_pr or target.revision.startswith("refs/"):
            raise PublishError(f"{target.repo_id} has no {target.revision!r}. {NOTHING}") from None
    retried(
        f"creating the branch {target.revision}",
        lambda: target.api.create_branch(**target.place, branch=target.revision, exist_ok=True),
    )
    return retried(step, target.info)


def _upload_large_files(target: _Target, additions: list[Any], create_pr: bool) -> None:
    """Nobody sees them until a commit names them. huggingface_hub tries each of its requests again itself."""
    step = "uploading the files"
    try:
        target.api.preupload_lfs_files(
            **target.place,
            additions=additions,
            revision=target.revision,
            create_pr=create_pr,
            free_memory=False,
        )
    except (HTTPError, JSONDecodeError) as error:
        raise _explained(step, error) from error
    except RuntimeError as error:  # around what happened to one of the files
        if isinstance(error.__cause__, HTTPError):
            raise _explained(step, error.__cause__) from error
        raise


def _committed(
    target: _Target,
    operations: list[Any],
    files: dict[str, Path],
    message: str,
    parent: str,
    create_pr: bool,
) -> Landed:
    step = "committing"
    opened_before = _pull_requests(target, message) if create_pr else []
    for wait in (*WAITS, None):
        try:
            info = target.api.create_commit(
                **target.place,
                operations=operations,
                commit_message=message,
                revision=target.revision,
                create_pr=create_pr,
                parent_commit=parent,
            )
            return Landed(info.oid, info.commit_url, info.pr_url)
        except (HTTPError, JSONDecodeError) as error:
            race = _status(error) == 412
            if not race and not _passing(error):
                raise _explained(step, error) from error
            if landed := _arrived(target, files, message, parent, opened_before if create_pr else None):
                return landed
            if race:
                raise PublishError(
                    f"Somebody else committed to {target.repo_id} ({target.revision}) in the meantime: see "
                    f"{target.api.endpoint}/{target.repo_id}/commits/{target.revision}. Run this again to "
                    f"put yours on top. {NOTHING}"
                ) from error
            if wait is None:
                raise _explained(step, error) from error
            _pause(step, error, wait)
        except ValueError as error:  # the Hub refuses the metadata of README.md
            raise PublishError(f"{' '.join(str(error).split())} {NOTHING}") from error
    raise AssertionError("the last attempt returns or raises")


def _arrived(
    target: _Target, files: dict[str, Path], message: str, parent: str, opened_before: list[int] | None
) -> Landed | None:
    """A commit whose answer was lost, if the server has made it."""
    step = "asking whether the commit has arrived"
    try:
        if opened_before is not None:
            new = [number for number in _pull_requests(target, message) if number not in opened_before]
            if not new:
                return None
            head = retried(step, lambda: target.info(f"refs/pr/{new[-1]}")).sha
            page = f"{target.api.endpoint}/{target.repo_id}/discussions/{new[-1]}"
            return Landed(head, f"{target.api.endpoint}/{target.repo_id}/commit/{head}", page)
        head = retried(step, target.info).sha
        if head == parent or not retried(step, lambda: holds(target, head, files)):
            return None
        return Landed(head, f"{target.api.endpoint}/{target.repo_id}/commit/{head}")
    except (PublishError, HTTPError) as error:
        cause = _cause(error.__cause__ or error)
        raise PublishError(
            f"The commit to {target.repo_id} was sent, but the Hub did not say whether it has arrived, and "
            f"now cannot be asked ({cause}). Once it can, run the same command again: what is there already "
            "is not committed twice."
        ) from error


def refuse_others(info: Any, mark: str, new: Collection[str]) -> None:
    """Raise a `PublishError` where a Space holds something that a page would be written into.

    Args:
        info (`SpaceInfo`): Of the Space.
        mark (`str`): The file by which it is known as this page.
        new (`Collection[str]`): What a new one may hold.
    """
    files = [sibling.rfilename for sibling in info.siblings or ()]
    others = [] if mark in files else [name for name in files if name not in new]
    if others:
        raise PublishError(
            f"The Space holds something else already ({', '.join(others[:3])}): name another. {NOTHING}"
        )


def files_of(folder: Path) -> dict[str, Path]:
    """All files of a folder, by their names in a repository."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in paths}


def holds(target: _Target, revision: str, files: dict[str, Path]) -> bool:
    """Whether a repository has these files, byte for byte."""
    paths = list(files)
    found = target.api.get_paths_info(**target.place, paths=paths, revision=revision)
    remote = {entry.path: entry for entry in found if isinstance(entry, RepoFile)}
    return remote.keys() == files.keys() and all(_same(entry, files[name]) for name, entry in remote.items())


def _same(entry: RepoFile, path: Path) -> bool:
    if entry.lfs is not None:
        with path.open("rb") as file:
            return entry.lfs.sha256 == sha_fileobj(file).hex()
    return entry.blob_id == git_hash(path.read_bytes())


def _pull_requests(target: _Target, title: str) -> list[int]:
    """Numbers of the open pull requests of this title."""
    found = retried(
        "listing the pull requests",
        lambda: list(target.api.get_repo_discussions(**target.place, discussion_type="pull_request")),
    )
    return sorted(request.num for request in found if request.title == title)


def _status(error: BaseException) -> int | None:
    return error.response.status_code if isinstance(error, HfHubHTTPError) else None


def _passing(error: Exception) -> bool:
    """Whether it may work in a while: the server's fault, the network's, or too many requests."""
    status = _status(error)
    return status is None or status in (408, 429) or status >= 500


def _pause(step: str, error: Exception, seconds: float) -> None:
    print(f"The Hub failed at {step} ({_cause(error)}); again in {seconds:g} s.", file=sys.stderr)
    time.sleep(seconds)


def _cause(error: BaseException) -> str:
    if status := _status(error):
        return f"HTTP {status}"
    return "an answer that is no JSON" if isinstance(error, JSONDecodeError) else str(error)


def _explained(step: str, error: Exception) -> PublishError:
    if not isinstance(error, HfHubHTTPError):
        return PublishError(f"The Hub could not be reached at {step}: {_cause(error)}. {NOTHING}")
    said = " ".join((error.server_message or str(error)).split())
    status = _status(error)
    if status == 401:
        return PublishError(
            f"The Hub does not accept the access token at {step}. Run `hf auth login` again, or correct "
            f"HF_TOKEN. {NOTHING}"
        )
    if status == 403:
        return PublishError(
            f"The access token has not the right to this, at {step}: {said}. Take a name of your own or of "
            f"your organisation, a token that may write, or --create_pr. {NOTHING}"
        )
    if _passing(error):
        return PublishError(
            f"The Hub failed at {step}, again and again ({_cause(error)}). Try later; {NOTHING.lower()}"
        )
    return PublishError(f"The Hub refused {step} ({_cause(error)}): {said}. {NOTHING}")
