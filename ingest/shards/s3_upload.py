"""Creating an object only if it is absent: at once, or in parts that are sent side by side."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from ingest.shards.s3_client import ABSENT, BUSY, TAKEN, code_of

logger = logging.getLogger(__name__)

PART = 8 << 20
"""Bytes of a part; what is smaller than two is sent at once."""
_THREADS = 10
_TRIES = 5
_STRAY_AGE = timedelta(days=1)
_PROBES = ".probe"


class Conditions(NamedTuple):
    """Whether `If-None-Match: *` is honoured for an object that is put, and for a multipart upload's completion."""

    put: bool
    multipart: bool


class Upload:
    """Creates one object. Raises botocore's errors."""

    def __init__(self, client: Any, bucket: str, key: str, conditions: Conditions) -> None:
        self._client = client
        self._place = {"Bucket": bucket, "Key": key}
        self._conditions = conditions

    def send(self, path: Path, size: int, facts: Mapping[str, str]) -> bool:
        """Upload a file; False where the object is there already. Without conditions it is overwritten."""
        in_parts = size >= 2 * PART and (self._conditions.multipart or not self._conditions.put)
        for attempt in range(_TRIES):
            try:
                if in_parts:
                    self._send_parts(path, size, facts)
                else:
                    with open(path, "rb") as file:
                        self._client.put_object(**self._place, Body=file, Metadata=facts, **self._only_if_absent())
            except ClientError as error:
                if code_of(error) in TAKEN:
                    return False
                if code_of(error) not in BUSY or attempt + 1 == _TRIES:
                    raise
            else:
                return True
        raise AssertionError("unreachable")

    def _only_if_absent(self) -> dict[str, str]:
        return {"IfNoneMatch": "*"} if self._conditions.put else {}

    def _send_parts(self, path: Path, size: int, facts: Mapping[str, str]) -> None:
        upload = self._client.create_multipart_upload(**self._place, Metadata=facts)["UploadId"]
        try:
            with ThreadPoolExecutor(_THREADS, thread_name_prefix="s3-part") as pool:
                numbers = range(1, -(-size // PART) + 1)
                parts = list(pool.map(lambda number: self._send_part(path, upload, number), numbers))
            self._client.complete_multipart_upload(
                **self._place, UploadId=upload, MultipartUpload={"Parts": parts}, **self._only_if_absent()
            )
        except BaseException:
            _abort(self._client, self._place, upload)
            raise

    def _send_part(self, path: Path, upload: str, number: int) -> dict[str, Any]:
        with open(path, "rb") as file:
            file.seek((number - 1) * PART)
            data = file.read(PART)
        answer = self._client.upload_part(**self._place, UploadId=upload, PartNumber=number, Body=data)
        return {"PartNumber": number, "ETag": answer["ETag"]}


def probe(client: Any, bucket: str, prefix: str) -> Conditions:
    """Find out what the service honours, with an object of a name that nobody else uses."""
    place = {"Bucket": bucket, "Key": f"{prefix}{_PROBES}/{uuid.uuid4().hex}"}
    client.put_object(**place, Body=b"probe", IfNoneMatch="*")
    try:
        put = _is_refused(lambda: client.put_object(**place, Body=b"probe", IfNoneMatch="*"))
        return Conditions(put, put and _probe_parts(client, place))
    finally:
        client.delete_object(**place)


def _probe_parts(client: Any, place: Mapping[str, str]) -> bool:
    upload = client.create_multipart_upload(**place)["UploadId"]
    answer = client.upload_part(**place, UploadId=upload, PartNumber=1, Body=b"probe")
    parts = {"Parts": [{"PartNumber": 1, "ETag": answer["ETag"]}]}
    refused = _is_refused(
        lambda: client.complete_multipart_upload(**place, UploadId=upload, MultipartUpload=parts, IfNoneMatch="*")
    )
    if refused:
        _abort(client, place, upload)
    return refused


def _is_refused(write: Any) -> bool:
    try:
        write()
    except ClientError as error:
        if code_of(error) in TAKEN:
            return True
        raise
    return False


def abort_strays(client: Any, bucket: str, prefix: str) -> int:
    """End multipart uploads that a dead writer left a day ago or longer: their parts cost, and nobody sees them."""
    oldest = datetime.now(UTC) - _STRAY_AGE
    try:
        uploads = client.list_multipart_uploads(Bucket=bucket, Prefix=prefix).get("Uploads", ())
    except ClientError as error:
        logger.debug("uploads of dead writers cannot be listed: %s", error)
        return 0
    strays = [upload for upload in uploads if upload["Initiated"] < oldest]
    for upload in strays:
        _abort(client, {"Bucket": bucket, "Key": upload["Key"]}, upload["UploadId"])
    return len(strays)


def _abort(client: Any, place: Mapping[str, str], upload: str) -> None:
    try:
        client.abort_multipart_upload(**place, UploadId=upload)
    except Exception as error:  # whatever it is, the reason for aborting matters more
        if not (isinstance(error, ClientError) and code_of(error) in BUSY | ABSENT):
            logger.warning("an upload of %s was not ended: %s", place["Key"], error)
