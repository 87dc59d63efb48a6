"""What is taken, against a model of it: whatever is sent, resent, cut by crashes, each step is there once, in order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import (
    LogCorrupt,
    SequenceGap,
    SessionClosed,
    SessionUnknown,
    StepConflict,
    TooManySessions,
)
from ingest.log import partition_of
from ingest.sessions import (
    STATE_PREFIX,
    Appended,
    Batch,
    Draft,
    Opening,
    SessionIndex,
    SessionRules,
    digest_of,
    new_session_id,
)
from ingest.types import EndReason, SessionEnded, SessionOpened, SessionRecord, Step, StepsAppended

RULES = SessionRules(partitions=4, record_bytes=100)
SESSION = "session-1"
CHANGED, LAST = 1_000, 10_000

records = msgspec.msgpack.Decoder(SessionRecord)


class Store:
    """A log and its state as a commit leaves them; what is not committed is lost."""

    def __init__(self, rules: SessionRules = RULES) -> None:
        self.rules, self.state, self.records = rules, dict[str, bytes](), list[SessionRecord]()
        self.index = SessionIndex(rules)

    def commit(self, draft: Draft) -> None:
        for append in draft.appends:
            assert append.partition == partition_of(append.key, 4)
            self.records.append(records.decode(append.value))
        for key, value in draft.state().items():
            if value is None:
                self.state.pop(key)
            else:
                self.state[key] = value
        self.index.adopt(draft)

    def crash(self) -> None:
        self.index = SessionIndex(self.rules, self.state)

    def steps(self, session_id: str = SESSION) -> list[Step]:
        return [
            step
            for record in self.records
            if isinstance(record, StepsAppended) and record.session_id == session_id
            for step in record.steps
        ]


def batch(first: int, contents: list[int], session_id: str = SESSION) -> Batch:
    """Steps of these contents; one of `LAST` or more ends the session."""
    steps = tuple(
        Step(session_id, seq, 1.0, 2.0, {"content": content}, is_eos=content >= LAST)
        for seq, content in enumerate(contents, first)
    )
    return Batch(session_id, first, steps, tuple(map(digest_of, steps)), tuple(30 for _ in steps))


@pytest.fixture
def store() -> Store:
    store = Store()
    draft = store.index.draft()
    draft.open(Opening("desktop", {"fps": 15}, SESSION))
    store.commit(draft)
    return store


Request = tuple[int, int, bool, bool]
requests = st.lists(
    st.lists(  # a group
        st.tuples(st.integers(-4, 2), st.integers(1, 5), st.booleans(), st.sampled_from([False] * 12 + [True])),
        min_size=1,
        max_size=4,
    ).flatmap(lambda group: st.tuples(st.just(group), st.sampled_from(["commit"] * 4 + ["lose", "crash"]))),
    max_size=20,
)


@given(requests)
@settings(max_examples=200, deadline=None)
def test_every_step_is_taken_once_in_order_and_unchanged(script: list[tuple[list[Request], str]]) -> None:
    store = Store()
    draft = store.index.draft()
    draft.open(Opening("desktop", {}, SESSION))
    store.commit(draft)
    taken: list[int] = []  # the model: the content of each seq
    ended = False
    for group, fate in script:
        draft, planned, ends = store.index.draft(), list(taken), ended
        for shift, count, changed, eos in group:
            first = max(0, len(planned) + shift)
            contents = [CHANGED + seq if changed else seq for seq in range(first, first + count)]
            contents[-1] += LAST if eos else 0
            known = planned[first : first + count]
            expected: type[Exception] | None = None
            if ends and first + count > len(planned):
                expected = SessionClosed
            elif first > len(planned):
                expected = SequenceGap
            elif known != contents[: len(known)]:
                expected = StepConflict
            sent = batch(first, contents)
            if expected is not None:
                with pytest.raises(expected):
                    draft.append(sent)
                continue
            outcome = draft.append(sent)
            planned += contents[len(known) :]
            ends = bool(planned) and planned[-1] >= LAST
            assert (outcome.duplicates, outcome.taken) == (len(known), count - len(known))
            assert outcome.session.next_seq == len(planned)
        if fate == "commit":
            store.commit(draft)
            taken, ended = planned, ends
        elif fate == "crash":
            store.crash()
        assert [step.seq for step in store.steps()] == list(range(len(taken)))
        assert [step.inputs["content"] for step in store.steps() if step.inputs] == taken
        session = store.index.get(SESSION)
        assert session is not None
        assert (session.next_seq, session.ended is not None) == (len(taken), ended)
        assert sum(isinstance(record, SessionEnded) for record in store.records) == ended


def test_steps_are_packed_into_records_of_about_the_size_that_was_set(store: Store) -> None:
    draft = store.index.draft()
    sent = batch(0, list(range(10)))
    draft.append(msgspec.structs.replace(sent, sizes=(30, 30, 30, 30, 500, 30, 30, 30, 30, 30)))
    store.commit(draft)
    packed = [[step.seq for step in record.steps] for record in store.records if isinstance(record, StepsAppended)]
    assert packed == [[0, 1, 2], [3], [4], [5, 6, 7], [8, 9]]


def test_what_follows_in_a_group_builds_upon_what_came_before_it(store: Store) -> None:
    draft = store.index.draft()
    opened, new = draft.open(Opening("desktop", {}, "session-2", key="app/k"))
    assert new
    assert draft.open(Opening("desktop", {}, "session-2", key="app/k")) == (opened, False)
    assert draft.open(Opening("desktop", {}, None, key="app/k")) == (opened, False)
    draft.append(batch(0, [0, 1], session_id="session-2"))
    assert draft.append(batch(1, [1, 2], session_id="session-2")).duplicates == 1
    ended = draft.end("session-2", 3)
    assert draft.end("session-2", 3) == ended
    assert store.index.get("session-2") is None, "nothing is known before the commit"
    store.commit(draft)
    assert store.index.get("session-2") == ended
    kinds = [type(record) for record in store.records if record.session_id == "session-2"]
    assert kinds == [SessionOpened, StepsAppended, StepsAppended, SessionEnded]


def test_the_number_of_open_sessions_is_bounded_within_a_group_too() -> None:
    store = Store(SessionRules(partitions=4, max_open=2))
    draft = store.index.draft()
    draft.open(Opening("a"))
    first, _ = draft.open(Opening("a"))
    with pytest.raises(TooManySessions):
        draft.open(Opening("a"))
    store.commit(draft)
    draft = store.index.draft()
    with pytest.raises(TooManySessions):
        draft.open(Opening("a"))
    draft.end(first.session_id, None)
    store.commit(draft)
    store.index.draft().open(Opening("a"))


def _clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test sets."""
    clock = [1000.0]
    frozen = SimpleNamespace(monotonic=lambda: clock[0], time=lambda: clock[0])
    for module in ("draft", "silence"):
        monkeypatch.setattr(f"ingest.sessions.{module}.time", frozen)
    return clock


def _just_opened(monkeypatch: pytest.MonkeyPatch) -> tuple[list[float], Store]:
    """A clock, and a store of sessions that may be silent for 10 s, with one that was opened now."""
    clock = _clock(monkeypatch)
    store = Store(SessionRules(partitions=4, idle_seconds=10))
    draft = store.index.draft()
    draft.open(Opening("a", {}, SESSION))
    store.commit(draft)
    return clock, store


def test_only_silent_sessions_expire_and_only_old_ones_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _clock(monkeypatch)
    store = Store(SessionRules(partitions=4, idle_seconds=10, ended_seconds=100))
    draft = store.index.draft()
    for name in ("silent-1", "active-1", "resends-1"):
        draft.open(Opening("a", {}, name))
    draft.append(batch(0, [0], session_id="resends-1"))
    store.commit(draft)

    clock[0] += 8
    draft = store.index.draft()
    draft.append(batch(0, [0], session_id="active-1"))
    draft.append(batch(0, [0], session_id="resends-1"))
    store.commit(draft)

    clock[0] += 4
    draft = store.index.draft()
    assert draft.expire() == 0
    store.commit(draft)
    assert [record.session_id for record in store.records if isinstance(record, SessionEnded)] == ["silent-1"]
    assert draft.ended == [EndReason.TIMEOUT]
    assert len(store.index) == 2
    with pytest.raises(SessionClosed):
        store.index.draft().append(batch(0, [0], session_id="silent-1"))

    clock[0] += 101
    draft = store.index.draft()
    draft.append(batch(1, [1], session_id="active-1"))
    assert draft.expire() == 1
    store.commit(draft)
    assert store.index.get("silent-1") is None
    assert STATE_PREFIX + "silent-1" not in store.state
    with pytest.raises(SessionUnknown):
        store.index.draft().append(batch(0, [0], session_id="silent-1"))


def test_an_active_session_in_the_same_group_is_not_ended_for_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, store = _just_opened(monkeypatch)
    clock[0] += 11
    draft = store.index.draft()
    draft.append(batch(0, [0]))
    draft.expire()
    store.commit(draft)
    assert draft.ended == []


def test_a_restart_gives_silent_sessions_time_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, store = _just_opened(monkeypatch)
    for silence, ended in ((1_000, 0), (9, 0), (2, 1)):
        clock[0] += silence
        if silence == 1_000:  # the gateway was away
            store.crash()
        assert store.index.expires_in(SESSION) == max(0, 10 - (silence if silence < 1_000 else 0) - (9 if ended else 0))
        draft = store.index.draft()
        draft.expire()
        assert len(draft.ended) == ended


def test_the_clock_of_silence_stands_still_while_the_log_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, store = _just_opened(monkeypatch)
    left = lambda: store.index.expires_in(SESSION)  # noqa: E731
    clock[0] += 4
    assert left() == 6
    for _ in range(5):  # commits that take 8 s each and fail, 8 s apart: far longer than the session may be silent
        began = clock[0]
        clock[0] += 8
        store.index.silence.stand(began)
        assert left() == 6
        clock[0] += 8
        assert left() == 6
    clock[0] += 4
    assert left() == 4, "10 s after the last failure clients had time to come again"
    began = clock[0]
    clock[0] += 1
    store.index.silence.stand(began)
    clock[0] += 9
    assert left() == 4, "a second outage is counted as well"
    assert store.index.idle() == []
    clock[0] += 5.5
    assert [session.session_id for session in store.index.idle()] == [SESSION]


def test_state_of_an_unknown_format_is_refused_by_name(store: Store) -> None:
    (key,) = store.state
    session = store.index.get(SESSION)
    assert session is not None
    other = msgspec.msgpack.encode(msgspec.structs.replace(session, format=9))
    with pytest.raises(LogCorrupt, match="session-1' has format 9; only 1"):
        SessionIndex(RULES, {key: other})
    with pytest.raises(LogCorrupt, match="cannot be read"):
        SessionIndex(RULES, {key: b"\x00"})


def test_ids_are_uuids_of_version_7_that_sort_by_time() -> None:
    ids = [new_session_id(now) for now in (1.0, 1_700_000_000.0, 1_700_000_000.001, 4_000_000_000.0)]
    assert ids == sorted(ids)
    for each in ids:
        assert len(each) == 32
        assert each[12] == "7"
        assert each[16] in "89ab"
    assert len({new_session_id(1.0) for _ in range(1000)}) == 1000
    assert abs(int(new_session_id()[:12], 16) / 1000 - time.time()) < 5


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=4), st.integers(0, 5))
def test_a_digest_knows_content_but_not_the_order_of_keys(inputs: dict[str, object], rotation: int) -> None:
    items = list(inputs.items())
    rotation = rotation % len(items) if items else 0
    turned = dict(items[rotation:] + items[:rotation])
    step = Step("s", 0, 1.0, 2.0, inputs, members={"a": b"1", "b": b"2"})
    same = Step("s", 0, 1.0, 99.0, turned, members={"b": b"2", "a": b"1"})
    assert digest_of(step) == digest_of(same)
    for other in _variations(step):
        assert digest_of(step) != digest_of(other)


def _variations(step: Step) -> Iterator[Step]:
    for change in (
        {"seq": 1},
        {"time": 1.5},
        {"is_eos": True},
        {"is_reset": True},
        {"model_version": "1"},
        {"extra": {"a": 1}},
        {"inputs": None},
        {"members": {"a": b"1"}},
        {"members": {"a": b"12", "b": b""}},
        {"members": {"a": b"2", "b": b"1"}},
    ):
        yield msgspec.structs.replace(step, **change)


def test_an_outcome_tells_duplicates_from_new_steps(store: Store) -> None:
    draft = store.index.draft()
    draft.append(batch(0, [0, 1, 2]))
    outcome = draft.append(batch(1, [1, 2, 3, 4]))
    assert isinstance(outcome, Appended)
    assert (outcome.first_seq, outcome.duplicates, outcome.taken, outcome.session.next_seq) == (1, 2, 2, 5)
