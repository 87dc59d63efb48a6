"""NeuralOS's own logs, as its workers write them: imported once, whatever they look like and however often it is begun."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.errors import ClientError
from ingest.imported import Importer, Ledger, Summary
from ingest.importing import LogFile, log_files
from ingest.types import SessionEnded, SessionOpened, Step, StepsAppended
from tests.ingest.gateways import INGEST, RunningGateway, running, stored

START = 1_763_800_000.25


def line(number: int, session: str | None = "1763800000_1", *, by: str = "session_id", **fields: Any) -> dict[str, Any]:
    inputs = {
        "x": 100 + number,
        "y": 200,
        "is_left_click": number % 3 == 0,
        "is_right_click": False,
        "keys_down": ["shift", "a"] if number % 4 == 0 else [],
        "keys_up": [],
        "wheel_delta_x": 0,
        "wheel_delta_y": -120 if number % 5 == 0 else 0,
        "is_auto_input": number % 2 == 0,
    }
    named = {} if session is None else {by: session}
    return {"timestamp": START + number / 15, **named, "is_eos": False, "is_reset": False, "inputs": inputs, **fields}


def end(number: int, session: str = "1763800000_1") -> dict[str, Any]:
    return line(number, session, is_eos=True, inputs=None, type="session_end")


def write(folder: Path, logged_id: str, lines: list[dict[str, Any] | str], frames: tuple[int, ...] = ()) -> Path:
    """A log as a worker leaves it; a string is a line that is as broken as it says."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"session_{logged_id}.jsonl"
    path.write_text("".join(each if isinstance(each, str) else json.dumps(each) + "\n" for each in lines))
    for number in frames:
        place = folder / f"frames_{logged_id}"
        place.mkdir(exist_ok=True)
        (place / f"{START + number / 15:.6f}.png").write_bytes(b"\x89PNG" + bytes([number]) * 50)
    old = time.time() - 3600
    os.utime(path, (old, old))
    return path


class Bench:
    """A gateway and the means to import into it, again and again."""

    def __init__(self, gateway: RunningGateway, folder: Path) -> None:
        self.gateway, self.folder, self.told = gateway, folder, list[str]()

    def run(self, path: Path | None = None, **settings: Any) -> Summary:
        importer = Importer(
            self.gateway.url, INGEST, Ledger(self.folder / "imported"), tell=self.told.append, **settings
        )
        return importer.run(log_files(path or self.folder / "logs"))

    def steps(self, session_id: str) -> list[Step]:
        found = [record for record in stored(self.gateway.log, session_id) if isinstance(record, StepsAppended)]
        return [step for record in found for step in record.steps]

    def sessions(self) -> list[str]:
        return sorted(each.session_id for each in stored(self.gateway.log) if isinstance(each, SessionOpened))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with running(tmp_path) as gateway:
        yield Bench(gateway, tmp_path)


def test_a_session_comes_in_as_it_was_logged_with_its_frames_and_all_fields(bench: Bench) -> None:
    lines: list[Any] = [line(n, is_reset=n in (0, 7)) for n in range(12)]
    write(bench.folder / "logs", "1763800000_1", [*lines, end(12)], frames=tuple(range(11)))
    summary = bench.run()
    assert (summary.sessions, summary.steps, summary.frames, summary.bad, summary.failed) == (1, 13, 11, [], {})
    steps = bench.steps("neuralos-1763800000_1")
    assert [step.seq for step in steps] == list(range(13))
    assert [dict(step.inputs) if step.inputs else None for step in steps] == [*(each["inputs"] for each in lines), None]
    assert [step.time for step in steps] == [START + n / 15 for n in range(13)]
    assert [step.is_reset for step in steps] == [n in (0, 7) for n in range(13)]
    assert [step.is_eos for step in steps] == [False] * 12 + [True]
    assert steps[3].members == {"png": b"\x89PNG" + bytes([3]) * 50}
    assert steps[11].members == {}
    assert dict(steps[12].extra) == {"type": "session_end"}
    (ended,) = [record for record in stored(bench.gateway.log) if isinstance(record, SessionEnded)]
    assert ended.reason == "eos"


def test_ids_of_clients_lost_ends_and_several_sessions_in_a_file(bench: Bench) -> None:
    logs = bench.folder / "logs"
    write(logs, "1763800000_2", [line(n, "1763800000_2", by="client_id") for n in range(4)])
    write(logs / "older", "1763800000_3", [line(n, None) for n in range(3)])
    two: list[Any] = [line(0, "a"), end(1, "a"), line(2, "a"), line(3, "a"), end(4, "a"), line(5, "a")]
    write(logs, "a", two)
    write(logs, "ünfit.id", [line(0, "ünfit.id")])
    summary = bench.run()
    assert (summary.files, summary.sessions, summary.steps, summary.failed) == (4, 6, 14, {})
    named = [name for name in bench.sessions() if len(name) < 36]
    assert named == [
        "neuralos-1763800000_2",
        "neuralos-1763800000_3",
        "neuralos-a",
        "neuralos-a-1",
        "neuralos-a-2",
    ]
    ends = {r.session_id: r.reason.value for r in stored(bench.gateway.log) if isinstance(r, SessionEnded)}
    assert len(ends) == 6, "a lost end strands nobody"
    assert (ends["neuralos-a"], ends["neuralos-a-2"], ends["neuralos-1763800000_2"]) == ("eos", "client", "client")


BAD = [
    ('{"timestamp": 1, "inp\n', "not JSON"),
    ("[1, 2]\n", "a list, but a line is a JSON object"),
    ('{"session_id": "b", "inputs": null}\n', "timestamp is None"),
    ('{"timestamp": "now", "inputs": null}\n', "timestamp is 'now'"),
    ('{"timestamp": 1763800000000, "inputs": null}\n', "timestamp is 1763800000000"),
    ('{"timestamp": NaN, "inputs": null}\n', "not JSON"),
    ('{"timestamp": 1, "session_id": "c", "inputs": null}\n', "of session 'c', but the file is of 'b'"),
    ('{"timestamp": 1, "inputs": [3]}\n', "inputs is a list"),
    ('{"timestamp": 1, "inputs": null, "is_reset": "yes"}\n', "is_reset is 'yes'"),
    ('{"timestamp": 1, "inputs": {"x": 99999999999999999999999}}\n', "64 bits"),
    ("\x00\x01\x02\n", "not JSON"),
    ('{"timestamp": 1, "inputs": null, "x": "' + "y" * (2 << 20) + '"}\n', "more than 1048576 bytes"),
]


def test_bad_lines_are_named_with_file_and_line_and_the_rest_goes_on(bench: Bench) -> None:
    lines: list[Any] = []
    for number, (text, _) in enumerate(BAD):
        lines += [line(number, "b"), text]
    half = json.dumps(line(50, "b"))[:60]
    path = write(bench.folder / "logs", "b", [*lines, "\n", line(40, "b"), half])
    summary = bench.run()
    assert (summary.sessions, summary.steps) == (1, len(BAD) + 1)
    assert [bad.number for bad in summary.bad] == [2 * n + 2 for n in range(len(BAD))] + [2 * len(BAD) + 3]
    for bad, (_, reason) in zip(summary.bad, [*BAD, ("", "half-written")], strict=True):
        assert reason in bad.reason
        assert f"{path}:{bad.number}: " in "\n".join(bench.told)


def test_run_again_it_changes_nothing_also_when_the_gateway_has_forgotten(tmp_path: Path) -> None:
    write(tmp_path / "logs", "1763800000_1", [*[line(n) for n in range(5)], end(5)], frames=(1, 2))
    with running(tmp_path, ended_seconds=0.5, sweep_seconds=0.05) as gateway:
        bench = Bench(gateway, tmp_path)
        assert bench.run().sessions == 1
        while gateway.http.get("/v1/sessions/neuralos-1763800000_1").status_code != 404:
            time.sleep(0.01)
        before = len(stored(gateway.log))
        again = bench.run()
        assert (again.sessions, again.steps, again.known) == (0, 0, 1)
        assert len(stored(gateway.log)) == before


def test_an_import_that_died_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[Any] = [*[line(n) for n in range(40)], end(40)]
    path = write(tmp_path / "logs", "1763800000_1", lines)
    with running(tmp_path) as gateway:
        bench = Bench(gateway, tmp_path)
        logged = LogFile(path).read().sessions[0]
        for posted in (0, 13, 29):  # as a killed import leaves it: begun, some steps, no end
            opening = {
                "app": "neuralos",
                "session_id": logged.session_id,
                "metadata": {"imported_from": "neuralos", "logged_id": logged.logged_id, "part": 0, "from": 0},
            }
            assert gateway.http.post("/v1/sessions", json=opening).status_code in (200, 201)
            steps = [
                {"seq": n, "time": step.time, "inputs": step.inputs} for n, step in enumerate(logged.steps[:posted])
            ]
            if steps:
                assert gateway.post(logged.session_id, steps).status_code == 200
            Ledger(tmp_path / "imported").begin(logged.session_id)
        assert bench.run().steps == 41 - 29
        assert [step.seq for step in bench.steps(logged.session_id)] == list(range(41))


def test_one_that_was_ended_half_way_by_its_silence_is_gone_on_with_in_another(tmp_path: Path) -> None:
    lines: list[Any] = [*[line(n) for n in range(6)], end(6)]
    path = write(tmp_path / "logs", "1763800000_1", lines)
    with running(tmp_path, idle_seconds=0.05, sweep_seconds=0.01) as gateway:
        bench, logged = Bench(gateway, tmp_path), LogFile(path).read().sessions[0]
        gateway.http.post("/v1/sessions", json={"app": "neuralos", "session_id": logged.session_id})
        steps = [{"seq": n, "time": step.time, "inputs": step.inputs} for n, step in enumerate(logged.steps[:4])]
        gateway.post(logged.session_id, steps)
        while gateway.http.get(f"/v1/sessions/{logged.session_id}").json()["state"] != "ended":
            time.sleep(0.01)
        summary = bench.run()
        assert (summary.sessions, summary.steps, summary.failed) == (1, 3, {})
        rest = bench.steps(f"{logged.session_id}-from-4")
        assert [step.time for step in rest] == [step.time for step in logged.steps[4:]]
        assert bench.run().known == 1


def test_a_deleted_session_is_not_imported_again(bench: Bench) -> None:
    write(bench.folder / "logs", "1763800000_1", [line(0), end(1)])
    bench.gateway.http.delete("/v1/sessions/neuralos-1763800000_1")
    summary = bench.run()
    assert (summary.sessions, summary.known, summary.failed) == (0, 1, {})
    assert "was deleted" in bench.told[0]


def test_a_file_that_is_still_written_is_left_for_another_time(bench: Bench) -> None:
    path = write(bench.folder / "logs", "1763800000_1", [line(0), line(1)])
    os.utime(path)
    assert bench.run().growing == [path]
    assert bench.sessions() == []
    assert bench.run(quiet_seconds=0.0).sessions == 1
    done = write(bench.folder / "logs", "1763800000_2", [line(0, "1763800000_2"), end(1, "1763800000_2")])
    os.utime(done)
    assert bench.run().sessions == 1, "with its end it is complete"


def test_what_cannot_be_posted_is_told_and_the_rest_goes_on(bench: Bench) -> None:
    logs = bench.folder / "logs"
    write(logs, "1763800000_1", [line(0), end(1)])
    (logs / "frames_1763800000_1").mkdir()
    (logs / "frames_1763800000_1" / f"{START:.6f}.png").write_bytes(bytes(2_000_000))
    (logs / "frames_1763800000_1" / "12.500000.png").write_bytes(b"x")
    write(logs, "1763800000_2", [line(0, "1763800000_2"), end(1, "1763800000_2")])
    summary = bench.run()
    assert list(summary.failed) == ["neuralos-1763800000_1"]
    assert "gateway takes 900000" in summary.failed["neuralos-1763800000_1"]
    assert (summary.sessions, summary.unused_frames) == (1, 1)


def test_without_a_gateway_it_says_so(tmp_path: Path) -> None:
    write(tmp_path / "logs", "1763800000_1", [line(0), end(1)])
    importer = Importer("http://127.0.0.1:9", INGEST, Ledger(tmp_path / "imported"))
    with pytest.raises(ClientError, match=r"does not answer at http://127\.0\.0\.1:9"):
        importer.run(log_files(tmp_path / "logs"))
