"""Makes the topics with the limits that the rest relies on, and refuses those that have others."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import Any

from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError

from ingest.errors import LayoutMismatch, LogError, LogUnavailable
from ingest.kafka import compat
from ingest.kafka.layout import KafkaLayout
from ingest.kafka_options import KafkaOptions
from ingest.types import CERTIFICATES, DELETIONS

KEPT_FOR_EVER = frozenset({DELETIONS, CERTIFICATES})
"""Topics that retention must not touch: what was deleted once may not come back."""
SEGMENT_MS = 600_000
STATE_SEGMENT_BYTES = 16 << 20

logger = logging.getLogger(__name__)


def open_admin(servers: str, options: KafkaOptions) -> Any:
    """An admin client. Raises `LogUnavailable` where no broker answers."""
    compat.check_library()
    try:
        return compat.new_admin(bootstrap_servers=servers, **options.connection())
    except KafkaError as error:
        raise LogUnavailable(
            f"no broker answers at {servers} ({error!r}); is it up, and are the ports open?"
        ) from error


def provide_topics(servers: str, layout: KafkaLayout, options: KafkaOptions) -> None:
    """Make what is missing and check what is there. Raises `LayoutMismatch`, naming topic, value and way out."""
    wanted = _wanted(layout, options)
    admin = open_admin(servers, options)
    try:
        found = _found(admin, wanted)
        missing = [name for name in wanted if name not in found]
        if missing and not options.create_topics:
            raise LayoutMismatch(
                f"the topics {', '.join(missing)} do not exist at {servers}, and create_topics is off; "
                "make them, or let them be made"
            )
        if missing:
            _create(admin, {name: wanted[name] for name in missing}, options)
            found = _found(admin, wanted)
        for name, (partitions, _) in wanted.items():
            if found.get(name, partitions) != partitions:
                raise LayoutMismatch(
                    f"the topic {name} has {found[name]} partitions, but {partitions} were asked for; set "
                    "log.partitions and log.kafka.shares back, or choose another log.kafka.topic_prefix"
                )
        _check_limits(admin, layout, options, wanted)
    except KafkaError as error:
        raise LogUnavailable(f"{servers}: the topics cannot be looked at ({error!r})") from error
    finally:
        admin.close()


def _wanted(layout: KafkaLayout, options: KafkaOptions) -> dict[str, tuple[int, dict[str, str]]]:
    """Partitions and settings of each topic, by its name on the brokers."""
    common = {"max.message.bytes": str(options.max_record_bytes)}
    if options.min_insync_replicas is not None:
        common["min.insync.replicas"] = str(options.min_insync_replicas)
    records = common | {
        "cleanup.policy": "delete",
        "retention.ms": "-1" if options.retention_seconds is None else str(int(options.retention_seconds * 1000)),
        "retention.bytes": "-1" if options.retention_bytes is None else str(options.retention_bytes),
    }
    state = common | {
        "cleanup.policy": "compact",
        "segment.ms": str(SEGMENT_MS),
        "segment.bytes": str(STATE_SEGMENT_BYTES),
        "min.cleanable.dirty.ratio": "0.2",
    }
    for_ever = records | {"retention.ms": "-1", "retention.bytes": "-1"}
    wanted = {
        layout.topic(topic): (layout.partitions, for_ever if topic in KEPT_FOR_EVER else records)
        for topic in layout.owners
    }
    wanted |= {
        layout.state_topic(writer): (layout.shares_of(writer), state) for writer in sorted(set(layout.owners.values()))
    }
    return wanted


def _found(admin: Any, wanted: Mapping[str, object]) -> dict[str, int]:
    topics = admin.describe_topics(list(wanted))
    return {each["name"]: len(each["partitions"]) for each in topics if not each["error_code"]}


def _create(admin: Any, topics: Mapping[str, tuple[int, dict[str, str]]], options: KafkaOptions) -> None:
    replication = -1 if options.replication is None else options.replication
    for name, (partitions, settings) in topics.items():
        with contextlib.suppress(TopicAlreadyExistsError):  # another process was first
            admin.create_topics([NewTopic(name, partitions, replication, topic_configs=settings)])
            logger.info("made the topic %s with %d partitions", name, partitions)
    admin.wait_for_topics(list(topics), timeout_ms=int(options.request_seconds * 1000))


def _check_limits(
    admin: Any, layout: KafkaLayout, options: KafkaOptions, wanted: Mapping[str, tuple[int, dict[str, str]]]
) -> None:
    names = ("max.message.bytes", "cleanup.policy")
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(names, "")) for name in wanted]
    try:
        described = admin.describe_configs(resources, config_filter="all")["topic"]
    except (KafkaError, KeyError) as error:
        logger.warning("the topics' limits cannot be read (%r); they are taken to be right", error)
        return
    states = {layout.state_topic(writer) for writer in layout.owners.values()}
    for name, settings in described.items():
        limit = _value(settings, "max.message.bytes")
        if limit is not None and int(limit) < options.max_record_bytes:
            raise LayoutMismatch(
                f"the topic {name} takes records of {limit} bytes, but max_record_bytes is {options.max_record_bytes}; "
                f"raise the topic's max.message.bytes, or lower log.kafka.max_record_bytes"
            )
        policy = _value(settings, "cleanup.policy")
        if policy is not None and ("compact" in policy) != (name in states):
            right = "compact" if name in states else "delete"
            raise LayoutMismatch(f"the topic {name} has cleanup.policy={policy}, but it has to be {right}; set it")


def _value(settings: Mapping[str, Any], name: str) -> str | None:
    given = settings.get(name)
    value = given.get("value") if isinstance(given, Mapping) else given
    return None if value in (None, "") else str(value)


def too_large(topic: str, size: int, limit: int) -> LogError:
    """A record that the brokers would refuse."""
    return LogError(
        f"{topic}: a record of {size} bytes is above the limit of {limit}; raise log.kafka.max_record_bytes and the "
        "topic's max.message.bytes, or make the record smaller"
    )
