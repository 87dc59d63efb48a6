"""Two services that speak S3, started for a test run: moto's, which honours If-None-Match, and JuiceFS's, which does not."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

ACCESS, SECRET = "testing", "testing-secret"
LIFETIME = "1800"
"""Seconds after which a server ends by itself, should the test run be gone."""


CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": ACCESS,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1",
}
"""What boto3 finds in the environment of the tests, and of all that they start."""


@contextmanager
def moto_server(port: int = 0) -> Iterator[str]:
    """Its address."""
    app, turn = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def one_by_one(environ: Any, start_response: Any) -> list[bytes]:
        """moto looks whether an object is there and puts it in two steps, which S3 does in one."""
        with turn:
            return list(app(environ, start_response))

    running = make_server("127.0.0.1", port, one_by_one, threaded=True, request_handler=MotoRequestHandler)
    thread = threading.Thread(target=running.serve_forever, name="moto", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}"
    finally:
        running.shutdown()
        thread.join(10)
        running.server_close()


@contextmanager
def juicefs_server(folder: Path) -> Iterator[str]:
    """Its address; everything it keeps is below `folder`."""
    program = Path(sys.executable).parent / "juicefs"
    meta = f"sqlite3://{folder / 'meta.db'}"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    form = [str(program), "format", "--storage", "file", "--bucket", f"{folder / 'data'}/", meta, "test"]
    subprocess.run(form, check=True, timeout=60, **quiet)  # type: ignore[call-overload]
    port = free_port()
    process = subprocess.Popen(
        [
            "timeout",
            LIFETIME,
            str(program),
            "gateway",
            "--no-usage-report",
            "--multi-buckets",
            meta,
            f"127.0.0.1:{port}",
        ],
        env={**os.environ, "MINIO_ROOT_USER": ACCESS, "MINIO_ROOT_PASSWORD": SECRET},
        preexec_fn=_end_with_parent,
        **quiet,  # type: ignore[call-overload]
    )
    try:
        wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def _end_with_parent() -> None:
    """So that a test run that is killed leaves no server (prctl's PR_SET_PDEATHSIG; Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def new_bucket(endpoint: str) -> str:
    """A bucket that nobody else uses."""
    bucket = f"test-{uuid.uuid4().hex}"
    client = boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id=ACCESS, aws_secret_access_key=SECRET, region_name="us-east-1"
    )
    deadline = time.monotonic() + 20
    while True:
        try:
            client.create_bucket(Bucket=bucket)
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return bucket


def free_port() -> int:
    """One that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(port: int, process: subprocess.Popen[bytes], patience: float = 30.0) -> None:
    """Wait until a server listens."""
    deadline = time.monotonic() + patience
    while True:
        assert process.poll() is None, f"the server ended with {process.returncode}"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "the server does not listen"
            time.sleep(0.05)
