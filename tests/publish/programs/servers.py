"""A hub's server as a process of its own, until its standard input ends.

python servers.py s3                 an S3 server; prints its address
python servers.py juicefs FOLDER     another one, which ignores conditions on writes
python servers.py embedded FOLDER    the embedded hub over FOLDER/hub, FOLDER/repositories and FOLDER/tokens.json
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from auth import TokenStore
from publish import DirectoryHub, HubSettings
from publish.server import HubThread


def main() -> None:
    if sys.argv[1] == "s3":
        from moto.server import ThreadedMotoServer

        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        print(f"http://{host}:{port}", flush=True)
        sys.stdin.read()
        return
    root = Path(sys.argv[2])
    if sys.argv[1] == "juicefs":
        with _juicefs(root) as url:
            print(url, flush=True)
            sys.stdin.read()
        return
    settings = HubSettings(port=0, repositories=root / "repositories")
    hub = DirectoryHub(root / "hub", create=True)
    with HubThread(settings, hub, "stovetop/desktop", TokenStore(root / "tokens.json")) as running:
        print(running.url, flush=True)
        sys.stdin.read()


@contextmanager
def _juicefs(root: Path) -> Iterator[str]:
    program = str(Path(sys.executable).parent / "juicefs")
    meta = f"sqlite3://{root / 'meta.db'}"
    form = [program, "format", "--storage", "file", "--bucket", f"{root / 'data'}/", meta, "test"]
    subprocess.run(form, check=True, capture_output=True, timeout=60)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    secrets = {
        "MINIO_ROOT_USER": os.environ["AWS_ACCESS_KEY_ID"],
        "MINIO_ROOT_PASSWORD": os.environ["AWS_SECRET_ACCESS_KEY"],
    }
    command = ["timeout", "7200", program, "gateway", "--no-usage-report", "--multi-buckets", meta, address]
    quiet = subprocess.DEVNULL
    running = subprocess.Popen(command, env={**os.environ, **secrets}, stdout=quiet, stderr=quiet)
    try:
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 1):
                break
            time.sleep(0.1)
        yield f"http://{address}"
    finally:
        running.terminate()
        running.wait(20)


if __name__ == "__main__":
    main()
