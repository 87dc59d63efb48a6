"""The private parts of kafka-python that are used, and settings that contradict themselves."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.coordinator.base import BaseCoordinator
from kafka.producer.sender import Sender
from kafka.producer.transaction_manager import TransactionalRequestResult, TransactionManager
from kafka.record import util as record_util
from kafka.structs import ConsumerGroupMetadata
from pydantic import ValidationError

from ingest.kafka import KafkaLayout, KafkaLog
from ingest.kafka_options import KafkaOptions
from ingest.settings import LogSettings
from ingest.sqlite import SqliteLog


def test_the_private_parts_are_where_they_were() -> None:
    for owner, names in (
        (TransactionManager, ("begin_commit", "begin_abort", "maybe_add_partition_to_transaction")),
        (Sender, ("wakeup", "force_close")),
        (KafkaProducer, ("_unregister_cleanup",)),
        (BaseCoordinator, ("request_rejoin",)),
        (
            KafkaAdminClient,
            ("_abort_transaction_request", "_abort_transaction_process_response", "_async_get_leader_for_partitions"),
        ),
    ):
        for name in names:
            assert callable(getattr(owner, name, None)), f"{owner.__name__}.{name} has moved"
    assert "timeout_ms" in inspect.signature(TransactionalRequestResult.wait).parameters
    source = inspect.getsource(KafkaProducer)
    for name in ("_transaction_manager", "_sender", "_closed"):
        assert f"self.{name} = " in source, f"KafkaProducer.{name} has moved"
    assert "self._coordinator = " in inspect.getsource(KafkaConsumer), "KafkaConsumer._coordinator has moved"
    assert "state" in ConsumerGroupMetadata._fields, "how far a group's member is, which tells what it was dealt"
    assert record_util.crc32c_c is not None


def test_the_backend_is_chosen_by_the_settings(tmp_path: Path) -> None:
    assert isinstance(LogSettings(folder=tmp_path).open(), SqliteLog)
    log = LogSettings(
        folder=tmp_path,
        backend="kafka",
        bootstrap_servers="a:9092, b:9092",
        partitions=8,
        kafka=KafkaOptions(topic_prefix="mine", shares=2),
    ).open()
    assert isinstance(log, KafkaLog)
    assert log.layout == KafkaLayout("mine", 8, 2)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"backend": "kafka"}, "bootstrap_servers has to be set"),
        ({"bootstrap_servers": "a:9092"}, 'set backend to "kafka"'),
        ({"backend": "kafka", "bootstrap_servers": "a"}, "'a' is not host:port"),
        ({"backend": "kafka", "bootstrap_servers": "a:1", "kafka": {"shares": 9}}, "kafka.shares is 9"),
    ],
)
def test_settings_that_do_not_fit_say_why(tmp_path: Path, given: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as raised:
        LogSettings.model_validate({"folder": tmp_path, **given})
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"security_protocol": "SASL_SSL"}, "sasl_mechanism has to be set"),
        ({"sasl_mechanism": "PLAIN"}, "security_protocol has to be SASL_PLAINTEXT or SASL_SSL"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN"}, "needs sasl_plain_username"),
        ({"batch_bytes": 3 << 20}, "has to be below max_record_bytes"),
    ],
)
def test_options_that_do_not_fit_say_why(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as raised:
        KafkaOptions.model_validate(given)
    assert said in str(raised.value)


def test_tls_and_sasl_reach_the_client_and_passwords_are_not_shown() -> None:
    options = KafkaOptions(
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_plain_username="me",
        sasl_plain_password="hush",
        ssl_cafile=Path("/ca.pem"),
    )
    told = options.connection()
    assert told["security_protocol"] == "SASL_SSL"
    assert told["sasl_plain_password"] == "hush"
    assert told["ssl_cafile"] == "/ca.pem"
    assert "hush" not in repr(options)
