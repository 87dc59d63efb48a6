"""The hub in a repository, through the unmodified client, against the embedded hub and a line that fails on purpose."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest
from huggingface_hub import snapshot_download

from publish import ChannelMoved, Coalesced, Failed, HubUnavailable, LiveModel, Published, VersionMissing, put
from publish.hugging_face import HuggingFaceHub
from publish.pace import Bucket
from publish.pointer import unset
from tests.publish.faults import Fault
from tests.publish.parts import Uniform, served_value, ticket
from tests.publish.remote import KEY, REPOSITORY, Remote, Work, follow_to, follower_of

COMMIT = f"/api/models/{REPOSITORY}/commit/"


def test_a_version_is_one_commit_with_a_tag_and_a_channel_is_a_branch_any_client_loads(remote: Remote) -> None:
    work = Work(remote)
    for step in (1, 2):
        work.publish(step)
    assert remote.titles() == ["initial commit", "version 000001", "version 000002"], "one commit a version"
    assert remote.titles("stable") == ["initial commit", "stable: version 000001", "stable: version 000002"]
    refs = remote.api.list_repo_refs(REPOSITORY)
    assert {tag.name for tag in refs.tags} == {"000001", "000002"}
    assert {branch.name for branch in refs.branches} == {"main", "versions", "stable"}
    for revision, value in (("stable", 2), ("000001", 1)):
        found = Path(
            snapshot_download(
                REPOSITORY,
                revision=revision,
                endpoint=remote.proxy.url,
                token=remote.token,
                cache_dir=remote.root / "hf",
            )
        )
        assert served_value(LiveModel(Uniform(), found)) == value
    assert sorted(remote.api.list_repo_files(REPOSITORY, revision="stable")) == [
        "channel.json",
        "config.json",
        "manifest.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    assert list(work.hub.numbers()) == list(work.hub.versions()) == [1, 2]


def test_a_follower_serves_each_version_by_deltas_and_goes_back_on_a_rollback(remote: Remote) -> None:
    work = Work(remote)
    follower, live = follower_of(remote)
    for step in (1, 2, 3):
        work.publish(step)
        follow_to(follower, step)
        assert served_value(live) == step
    assert follower.status().rebuilt >= 1
    work.publisher.rollback_version("stable", by="ada")
    follow_to(follower, 2)
    assert served_value(live) == 2
    work.publish(4)
    assert work.hub.channel("stable").version == 2, "a rollback holds the channel"
    work.publisher.channels.release("stable", by="ada")
    work.publish(5)
    follow_to(follower, 5)
    follower.close()


def test_old_versions_lose_their_tags_and_deltas_and_numbers_are_never_used_again(remote: Remote) -> None:
    work = Work(remote)
    for step in range(1, 8):
        work.publish(step)
    assert list(work.hub.numbers()) == [1, 2, 3, 4, 5, 6, 7]
    assert set(work.hub.versions()) >= {5, 6, 7}
    assert not set(work.hub.versions()) & {1, 2}
    assert work.hub.manifest(1), "manifests stay"
    with pytest.raises(VersionMissing), work.hub.open(1, "config.json"):
        pass
    names = remote.api.list_repo_files(REPOSITORY, revision="versions")
    assert len([name for name in names if name.startswith("deltas/")]) <= 4


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429, headers={"Retry-After": "1"}),
        Fault(429, headers={"RateLimit": '"api";r=0;t=1'}),
        Fault(503, headers={"Retry-After": "1"}),
        Fault(500),
        Fault(500, after=True),
        Fault(None),
        Fault(None, after=True),
        Fault(502, after=True),
    ],
    ids=str,
)
@pytest.mark.parametrize("branch", ["versions", "stable"])
def test_a_commit_that_fails_or_whose_answer_is_lost_is_made_once(remote: Remote, fault: Fault, branch: str) -> None:
    work = Work(remote)
    work.publish(1)
    remote.proxy.once("POST", COMMIT + branch, fault)
    work.put(2)
    began = time.monotonic()
    work.until_published()
    if fault.headers:
        assert time.monotonic() - began >= 0.9, "what the hub asked to wait was not waited"
    assert remote.titles() == ["initial commit", "version 000001", "version 000002"]
    assert remote.titles("stable")[1:] == ["stable: version 000001", "stable: version 000002"]
    assert set(work.hub.versions()) == {1, 2}
    follower, live = follower_of(remote)
    follow_to(follower, 2)
    assert served_value(live) == 2
    follower.close()


def test_a_tag_that_could_not_be_made_is_made_up_for(remote: Remote) -> None:
    work = Work(remote)
    work.publish(1)
    remote.proxy.once("POST", "/tag/", Fault(500))
    work.put(2)
    work.until_published()
    assert list(work.hub.versions()) == [1, 2]


def test_while_the_hub_refuses_newer_weights_replace_those_that_wait_and_the_newest_comes_out(remote: Remote) -> None:
    work = Work(remote)
    work.publish(1)
    remote.proxy.choose = lambda method, path: (
        Fault(429, headers={"Retry-After": "2"}) if method == "POST" and COMMIT in path else None
    )
    for step in (2, 3, 4):
        work.put(step)
        wait = work.publisher.step()
        assert wait > 0
    asked = len(remote.proxy.seen)
    work.publisher.step()
    assert len(remote.proxy.seen) == asked, "a hub that asked to be left alone is left alone"
    remote.proxy.choose = lambda method, path: None
    time.sleep(wait)
    work.until_published()
    assert remote.titles()[1:] == ["version 000001", "version 000002"]
    assert {event.ticket.step for event in work.events if isinstance(event, Coalesced)} == {2, 3}
    published = [event.ticket.step for event in work.events if isinstance(event, Published)]
    assert published == [1, 4]
    assert any(isinstance(event, Failed) and "left alone" not in event.error for event in work.events)


def test_commits_keep_to_the_hour_s_allowance_and_leave_some_for_an_operator(remote: Remote) -> None:
    work = Work(remote, commits_per_hour=8)
    for step in (1, 2):
        work.publish(step)
    work.put(3)
    wait = work.publisher.step()
    assert 60 < wait <= 3600
    assert work.publisher.rollback_version("stable", by="ada").pointer.version == 1, "an operator need not wait"
    assert remote.titles()[-1] == "version 000002"


def test_a_commit_of_a_person_in_between_is_built_upon(remote: Remote) -> None:
    work = Work(remote)
    work.publish(1)
    told = [False]

    def interfere(method: str, path: str) -> Fault | None:
        if method == "POST" and path.startswith(COMMIT + "versions") and not told[0]:
            told[0] = True
            remote.api.upload_file(
                path_or_fileobj=b"ours", path_in_repo="README.md", repo_id=REPOSITORY, revision="versions"
            )
        return None

    remote.proxy.choose = interfere
    work.publish(2)
    assert told[0]
    assert remote.titles()[1:] == ["version 000001", "Upload README.md with huggingface_hub", "version 000002"]
    assert "README.md" in remote.api.list_repo_files(REPOSITORY, revision="versions")


def test_two_publishers_get_two_numbers_and_a_stale_move_is_refused(remote: Remote) -> None:
    one, other = Work(remote), Work(remote, "outbox of the other")
    one.publish(1)
    other.publish(2, run="other")
    one.publish(3)
    assert list(other.hub.numbers()) == [1, 2, 3]
    stale = KEY.sign(unset("stable").moved(1, "0" * 64, held=False, at=0.0, by="test", reason=""))
    with pytest.raises(ChannelMoved):
        other.hub.move(stale)


def test_uploads_keep_to_their_bandwidth_and_go_out_as_they_are(remote: Remote) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    def write(folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        numbers = np.random.default_rng(0).standard_normal(1 << 18).astype(np.float32)
        save_file({"first": numbers}, folder / "model.safetensors")

    work = Work(remote, upload=Bucket(2e6, 1e5))
    put(work.outbox, write, ticket(1))
    before, began = remote.proxy.sent, time.monotonic()
    assert work.publisher.step() == 0.0
    assert time.monotonic() - began >= 0.4, "1 MiB at 2 MB/s takes half a second"
    assert remote.proxy.sent - before < 1.1 * (1 << 20), "no base64, and copies to the channel are not sent"


def test_a_repository_that_is_not_there_is_no_empty_hub(remote: Remote) -> None:
    hub = remote.hub(create=False)
    for ask in (hub.numbers, hub.versions, lambda: hub.manifest(1), lambda: hub.channel("stable")):
        with pytest.raises(HubUnavailable):
            ask()
    stranger = HuggingFaceHub(REPOSITORY, endpoint=remote.proxy.url, token="stv_unknown")
    with pytest.raises(HubUnavailable):
        stranger.channel("stable")
    assert httpx.get(remote.proxy.url + "/livez").status_code == 200
