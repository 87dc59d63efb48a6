"""What is kept of the keyboard, from the gateway to the shard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ingest.annotator import PassThrough
from ingest.keyboard import Keep, KeyClass, KeyRules, class_of
from ingest.shard_reader import ShardChain
from ingest.shards import DirectoryStore
from ingest.sqlite import SqliteLog
from ingest.types import STEPS, StepsAppended
from tests.ingest.gateways import running, step
from tests.ingest.keeping import annotating, archive

CLASSES: dict[KeyClass, tuple[str, ...]] = {
    KeyClass.LETTER: ("a", "Z", "é", "KeyQ", "ß"),
    KeyClass.DIGIT: ("0", "9", "Digit4", "num7", "Numpad0"),
    KeyClass.SYMBOL: (".", "!", "Minus", "BracketLeft", "NumpadAdd", "subtract"),
    KeyClass.NAVIGATION: ("ArrowLeft", "left", "PageUp", "pagedown", "pgdn", "Home", "Tab"),
    KeyClass.MODIFIER: (
        "Shift",
        "ShiftLeft",
        "shiftleft",
        "ctrl",
        "ControlRight",
        "AltGraph",
        "Meta",
        "win",
        "CapsLock",
    ),
    KeyClass.EDITING: ("Enter", "Backspace", "delete", " ", "space", "Escape", "esc", "\t"),
    KeyClass.FUNCTION: ("F1", "f12", "F24", "PrintScreen", "ContextMenu"),
    KeyClass.OTHER: ("F25", "Dead", "MediaPlayPause", "hunter2", "", "Unidentified"),
}


@pytest.mark.parametrize("kind", list(CLASSES))
def test_every_key_has_a_class(kind: KeyClass) -> None:
    assert {key: class_of(key) for key in CLASSES[kind]} == dict.fromkeys(CLASSES[kind], kind)


def typed(seq: int, **inputs: Any) -> dict[str, Any]:
    return {**step(seq), "inputs": {"x": 1, "y": 2, **inputs}}


def kept(log: SqliteLog, store: DirectoryStore, folder: Path) -> list[dict[str, Any] | None]:
    with annotating(log, PassThrough):
        pass
    archive(log, store)
    for file in [*(folder / "log").iterdir(), *(folder / "shards").rglob("*.tar")]:
        assert b"secret" not in file.read_bytes(), file
    found = [
        each
        for number in range(4)
        for _, record in ShardChain(store, STEPS, number).records()
        if isinstance(record, StepsAppended)
        for each in record.steps
    ]
    return [None if each.inputs is None else dict(each.inputs) for each in sorted(found, key=lambda each: each.seq)]


def test_an_app_whose_keyboard_is_reduced_leaves_classes_only(tmp_path: Path) -> None:
    log, store = SqliteLog(tmp_path / "log"), DirectoryStore(tmp_path / "shards")
    rules = KeyRules(apps={"desktop": Keep.CLASSES})
    with running(tmp_path, log=log, keyboard=rules) as gateway:
        gateway.open("session-1")
        steps = [
            typed(0, keys_down=["s", "Shift", "7"], keys_up=["Enter"]),
            typed(1, key="secretly-named", text="secret", code="KeyS"),
            typed(2, keys_down=[3, None, "secret"], data={"secret": 1}, keys={"secret": 2}),
            {**step(3), "inputs": None},
            typed(4),
        ]
        assert gateway.post("session-1", steps).status_code == 200
        assert gateway.post("session-1", steps).json()["results"] == {"all": "duplicate"}, "sent again, it is the same"
        other = typed(4, x=5)
        assert gateway.post("session-1", [other]).status_code == 409
    assert kept(log, store, tmp_path) == [
        {"x": 1, "y": 2, "keys_down": ["letter", "modifier", "digit"], "keys_up": ["editing"]},
        {"x": 1, "y": 2, "key": "other", "code": "letter"},
        {"x": 1, "y": 2, "keys_down": ["other", "other", "other"], "keys": "other"},
        None,
        {"x": 1, "y": 2},
    ]


def test_what_is_typed_into_a_password_field_is_never_kept_and_other_apps_keep_their_keys(tmp_path: Path) -> None:
    log, store = SqliteLog(tmp_path / "log"), DirectoryStore(tmp_path / "shards")
    with running(tmp_path, log=log, keyboard=KeyRules(apps={"another": Keep.CLASSES})) as gateway:
        gateway.open("session-1")
        steps = [
            typed(0, keys_down=["h", "i"], text="hi"),
            typed(1, keys_down=["s", "secret"], key="s", text="secret", is_password=True),
            typed(2, keys_down=["h"], is_password=False),
        ]
        assert gateway.post("session-1", steps).status_code == 200
    assert kept(log, store, tmp_path) == [
        {"x": 1, "y": 2, "keys_down": ["h", "i"], "text": "hi"},
        {"x": 1, "y": 2, "keys_down": [], "key": None, "text": None, "is_password": True},
        {"x": 1, "y": 2, "keys_down": ["h"], "is_password": False},
    ]
    assert json.loads(KeyRules().model_dump_json()) == {"default": "keys", "apps": {}}
