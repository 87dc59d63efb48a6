"""The log on Apache Kafka, through kafka-python: the same contract as SQLite's, shared by several processes.

It promises what `ingest.log` asks for. A commit is one transaction over records and state, so both are there or
neither is; the transactional id is the lock, so a writer that was replaced can commit nothing more (`LogLocked`).
While a broker does not answer, a commit fails with `LogUnavailable` in a bounded time, and `recover` finds out later
what became of it. Clients are built where they are used: a log is only configuration, and may cross a fork or a pickle.

The partitions of a writer's topics are dealt out in `shares`; each share has its lock, and the members of a
`Membership` hold them among themselves.
"""

from ingest.kafka.layout import KafkaLayout
from ingest.kafka.log import KafkaLog
from ingest.kafka.membership import Membership
from ingest.kafka.reader import KafkaReader
from ingest.kafka.writer import KafkaWriter
from ingest.kafka_options import KafkaOptions

__all__ = ["KafkaLayout", "KafkaLog", "KafkaOptions", "KafkaReader", "KafkaWriter", "Membership"]
