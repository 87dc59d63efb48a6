"""Asking S3: one client a process, and its many ways to say no told as two: try again, or mend the settings."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
)
from urllib3.exceptions import HTTPError

from ingest.errors import StoreError, StoreRefused, StoreUnavailable

CONNECTIONS = 32
ABSENT = {"NoSuchKey", "404", "NotFound"}
TAKEN = {"PreconditionFailed", "412"}
BUSY = {"ConditionalRequestConflict", "409", "NoSuchUpload"}
"""Of two conditional writes at once one may be told to try again, and a multipart upload to begin again."""
BEYOND = {"InvalidRange", "416"}

_HINTS = {
    "NoSuchBucket": "there is no such bucket: create it, or mend [archive] url",
    "InvalidAccessKeyId": "the access key is not known there: mend AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret key does not fit the access key: mend AWS_SECRET_ACCESS_KEY",
    "AccessDenied": "the credentials lack rights: get, put, list and delete of objects, and multipart uploads",
    "403": "the credentials lack rights, or there are none: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
}
_PASSING = {"RequestTimeout", "RequestTimeoutException", "SlowDown", "Throttling", "ThrottlingException", "408", "429"}

_clients: dict[tuple[int, str | None, str | None], Any] = {}
_lock = threading.Lock()


def s3_client(endpoint: str | None, region: str | None) -> Any:
    """The client of this process (a client is not used over a fork); threads share it."""
    key = (os.getpid(), endpoint, region)
    with _lock:
        if key not in _clients:
            options: dict[str, Any] = {}
            if endpoint is not None:  # not every store speaks the newer checksums, nor has a name for every bucket
                options = {"request_checksum_calculation": "when_required", "s3": {"addressing_style": "path"}}
            config = Config(
                retries={"max_attempts": 4, "mode": "standard"},
                connect_timeout=5,
                read_timeout=60,
                max_pool_connections=CONNECTIONS,
                **options,
            )
            with asking(endpoint or "S3"):
                _clients[key] = boto3.session.Session().client(
                    "s3", endpoint_url=endpoint, region_name=region, config=config
                )
        return _clients[key]


def code_of(error: ClientError) -> str:
    """The code of an answer, or its HTTP status."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextlib.contextmanager
def asking(place: str) -> Iterator[None]:
    """Raises `StoreRefused` or `StoreUnavailable`, naming `place`, for everything that S3 or the way to it may say."""
    try:
        yield
    except ClientError as error:
        raise _told(place, error) from error
    except (NoCredentialsError, PartialCredentialsError, ProfileNotFound) as error:
        raise StoreRefused(
            f"{place}: {error}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or another of boto3's ways"
        ) from error
    except (NoRegionError, ParamValidationError, ValueError) as error:
        raise StoreRefused(f"{place}: {error}; mend [archive] url, endpoint or region") from error
    except (BotoCoreError, boto3.exceptions.Boto3Error, HTTPError, OSError) as error:
        raise StoreUnavailable(f"{place}: {error}") from error


def _told(place: str, error: ClientError) -> StoreError:
    code = code_of(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
    if status >= 500 or code in _PASSING:
        return StoreUnavailable(f"{place}: {error}")
    hint = _HINTS.get(code)
    return StoreRefused(f"{place}: {error}" + (f"; {hint}" if hint else ""))
