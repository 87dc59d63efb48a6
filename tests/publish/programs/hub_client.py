"""An unmodified `huggingface_hub` client, in a process of its own, against the hub at HF_ENDPOINT.

    HF_ENDPOINT=… HF_TOKEN=… HF_HOME=… python hub_client.py SCENARIO FOLDER

Each scenario asserts what a user would see, and prints what the test wants to compare as one line of JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

OWN = "stovetop/desktop"
api = HfApi()


def refused(status: int, call: object, *args: object, **named: object) -> None:
    with pytest.raises(HfHubHTTPError) as refusal:
        call(*args, **named)  # type: ignore[operator]
    assert refusal.value.response.status_code == status


def repositories(folder: Path) -> object:
    """Create, upload, commit, list, tag, branch, download, delete."""
    assert str(api.create_repo("ada/net")).endswith("/ada/net")
    api.create_repo("ada/net", exist_ok=True)
    refused(409, api.create_repo, "ada/net")
    (folder / "up" / "unet").mkdir(parents=True)
    (folder / "up" / "config.json").write_text("{}")
    (folder / "up" / "unet" / "model.safetensors").write_bytes(os.urandom(300_000))
    (folder / "up" / "empty.txt").write_bytes(b"")
    first = api.upload_folder(repo_id="ada/net", folder_path=folder / "up", commit_message="one folder")
    assert sorted(api.list_repo_files("ada/net")) == ["config.json", "empty.txt", "unet/model.safetensors"]
    again = api.upload_folder(repo_id="ada/net", folder_path=folder / "up")
    assert again.oid == first.oid, "what has not changed is no commit"

    down = Path(snapshot_download("ada/net"))
    assert down.name == first.oid
    for path in (folder / "up").rglob("*.*"):
        assert (down / path.relative_to(folder / "up")).read_bytes() == path.read_bytes()

    api.create_tag("ada/net", tag="v1", revision=first.oid)
    refused(409, api.create_tag, "ada/net", tag="v1")
    api.create_tag("ada/net", tag="v1", exist_ok=True)
    second = api.create_commit(
        "ada/net",
        [
            CommitOperationAdd("config.json", b'{"size": 2}'),
            CommitOperationDelete("empty.txt"),
            CommitOperationCopy("unet/model.safetensors", "copy/model.safetensors"),
        ],
        commit_message="three at once",
        parent_commit=first.oid,
    )
    refused(
        409,
        api.create_commit,
        "ada/net",
        [CommitOperationAdd("late.txt", b"")],
        commit_message="on an old one",
        parent_commit=first.oid,
    )
    commits = api.list_repo_commits("ada/net")
    assert [commit.title for commit in commits] == ["three at once", "one folder", "initial commit"]
    assert commits[0].authors == ["operator"]
    names = ["config.json", "copy/model.safetensors", "unet/model.safetensors"]
    assert sorted(api.list_repo_files("ada/net")) == names
    assert "empty.txt" in api.list_repo_files("ada/net", revision="v1")
    assert Path(api.hf_hub_download("ada/net", "config.json")).read_text() == '{"size": 2}'
    assert Path(api.hf_hub_download("ada/net", "config.json", revision="v1")).read_text() == "{}"
    assert [entry.path for entry in api.list_repo_tree("ada/net")] == ["config.json", "copy", "unet"]
    infos = api.get_paths_info("ada/net", ["copy", "config.json", "no"])
    assert [entry.path for entry in infos] == ["copy", "config.json"]

    api.create_branch("ada/net", branch="trial", revision="v1")
    api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="ada/net", revision="trial")
    assert "x.txt" in api.list_repo_files("ada/net", revision="trial")
    assert "x.txt" not in api.list_repo_files("ada/net")
    refs = api.list_repo_refs("ada/net")
    assert {ref.name for ref in refs.branches} == {"main", "trial"}
    assert {ref.name: ref.target_commit for ref in refs.tags} == {"v1": first.oid}
    api.delete_branch("ada/net", branch="trial")
    api.delete_tag("ada/net", tag="v1")
    api.delete_folder("copy", "ada/net")
    assert sorted(api.list_repo_files("ada/net")) == ["config.json", "unet/model.safetensors"]
    refused(404, api.delete_file, "never.txt", "ada/net")
    assert api.model_info("ada/net").sha != second.oid
    api.delete_repo("ada/net")
    assert not api.repo_exists("ada/net")
    api.delete_repo("ada/net", missing_ok=True)
    return None


def absent(folder: Path) -> object:
    """What is not there is told apart by the client's own exceptions."""
    for kind, call in (
        (RepositoryNotFoundError, lambda: api.model_info("no/where")),
        (RevisionNotFoundError, lambda: api.model_info(OWN, revision="nightly")),
        (RevisionNotFoundError, lambda: api.model_info(OWN, revision="0" * 40)),
        (EntryNotFoundError, lambda: api.hf_hub_download(OWN, "pytorch_model.bin")),
        (RevisionNotFoundError, lambda: api.hf_hub_download(OWN, "config.json", revision="nightly")),
        (RepositoryNotFoundError, lambda: api.hf_hub_download("no/where", "config.json")),
        (
            RepositoryNotFoundError,
            lambda: api.create_commit("no/where", [CommitOperationAdd("x", b"")], commit_message="x"),
        ),
    ):
        with pytest.raises(kind):
            call()
    assert not api.file_exists(OWN, "pytorch_model.bin")
    assert not api.revision_exists(OWN, "nightly")
    return None


def versions(folder: Path) -> object:
    """The service's own repository: read as any, written by nobody."""
    refused(403, api.create_commit, OWN, [CommitOperationAdd("x.txt", b"")], commit_message="x")
    refused(403, api.create_tag, OWN, tag="mine")
    refused(403, api.delete_repo, OWN)
    refused(409, api.create_repo, OWN)
    refs = api.list_repo_refs(OWN)
    found = Path(snapshot_download(OWN, revision="stable"))
    checked = api.verify_repo_checksums(OWN, revision="stable") if hasattr(api, "verify_repo_checksums") else None
    return {
        "branches": sorted(ref.name for ref in refs.branches),
        "tags": sorted(ref.name for ref in refs.tags),
        "titles": [commit.title for commit in api.list_repo_commits(OWN)],
        "files": sorted(api.list_repo_files(OWN)),
        "folder": str(found),
        "sha": api.model_info(OWN, revision="stable").sha,
        "mismatches": len(checked.mismatches) if checked is not None else 0,
    }


def requests(folder: Path) -> object:
    """Ranges and conditions, as resumed downloads and caches use them."""
    url = f"{os.environ['HF_ENDPOINT']}/{OWN}/resolve/stable/model-00001-of-00002.safetensors"
    auth = {"Authorization": f"Bearer {os.environ['HF_TOKEN']}"}
    whole = httpx.get(url, headers=auth)
    head = httpx.head(url, headers=auth)
    assert head.content == b""
    assert int(head.headers["Content-Length"]) == len(whole.content)
    assert head.headers["ETag"] == whole.headers["ETag"]
    assert len(head.headers["X-Repo-Commit"]) == 40
    part = httpx.get(url, headers={**auth, "Range": "bytes=10-29"})
    assert (part.status_code, part.content) == (206, whole.content[10:30])
    tail = httpx.get(url, headers={**auth, "Range": f"bytes={len(whole.content) - 5}-"})
    assert (tail.status_code, tail.content) == (206, whole.content[-5:])
    assert httpx.get(url, headers={**auth, "Range": f"bytes={len(whole.content)}-"}).status_code == 416
    same = httpx.get(url, headers={**auth, "If-None-Match": whole.headers["ETag"]})
    assert (same.status_code, same.content) == (304, b"")
    assert httpx.get(url, headers={**auth, "If-None-Match": '"other"'}).status_code == 200
    assert httpx.get(url, headers={**auth, "Range": "bytes=0-4", "If-Range": '"other"'}).status_code == 200
    return None


def loads(folder: Path) -> object:
    """What a user of diffusers writes, and no more."""
    from diffusers import UNet2DModel

    model = UNet2DModel.from_pretrained(OWN, revision="stable")
    default = UNet2DModel.from_pretrained(OWN)
    return [float(next(iter(net.parameters())).detach().sum()) for net in (model, default)]


def published(folder: Path) -> object:
    """The same of a repository that a publisher puts its versions into: a channel, and a version."""
    from diffusers import UNet2DModel

    nets = [UNet2DModel.from_pretrained("ada/desktop", revision=name) for name in ("stable", "000001")]
    return [digest_of(net) for net in nets]


def digest_of(net: Any) -> str:
    """SHA-256 of all parameters."""
    return hashlib.sha256(b"".join(number.detach().numpy().tobytes() for number in net.parameters())).hexdigest()


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](Path(sys.argv[2]))))
