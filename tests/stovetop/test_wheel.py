"""The wheel: installed into an environment of its own, away from the tree, it imports, runs and serves its dashboard."""

from __future__ import annotations

import os
import shutil
import signal
import site
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]
DIST = Path("control", "dashboard", "dist")
ROOMS = ("auth", "control", "dataset", "examples", "ingest", "publish", "stovetop", "trainer")
PATIENCE = 120.0


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment's folder of programs; what the wheel depends on is lent by the environment of the tests."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    left_out = shutil.ignore_patterns(
        "node_modules", ".*", "*.egg-info", "build", "tests", "__pycache__", "demo-output"
    )
    shutil.copytree(ROOT, source, ignore=left_out)
    done([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", place, source])
    [wheel] = place.glob("stovetop-*.whl")
    shutil.rmtree(source)
    environment = place / "environment"
    done([sys.executable, "-m", "venv", "--without-pip", environment])
    [packages] = environment.glob("lib/python*/site-packages")
    lent = "".join(f"{folder}\n" for folder in site.getsitepackages())
    (packages / "lent.pth").write_text(lent)  # a path is added as it is: nothing that is installed there as editable
    python = environment / "bin" / "python"
    done([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel])
    return environment / "bin"


def done(command: Sequence[str | Path], cwd: Path | None = None) -> str:
    ran = subprocess.run(command, cwd=cwd, env=bare(), capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def bare() -> dict[str, str]:
    """The environment of somebody who knows nothing of the tree."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}


def test_every_room_comes_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    program = f"import importlib as i, interactive_training; [print(i.import_module(n).__file__) for n in {ROOMS!r}]"
    files = done([installed / "python", "-c", program], tmp_path).splitlines()
    assert len(files) == len(ROOMS)
    assert all(Path(file).is_relative_to(installed.parent) for file in files), files


def test_the_installed_program_serves_its_dashboard(installed: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "stovetop.toml").write_text(f'data = "data"\n[control]\nport = {port}\n')
    program: list[str | Path] = [installed / "stovetop", "control", "--config", "stovetop.toml"]
    with (tmp_path / "said.txt").open("w") as said:
        serving = subprocess.Popen(program, cwd=tmp_path, env=bare(), stdout=said, stderr=said)
    try:
        page = answer(f"http://127.0.0.1:{port}/", serving, tmp_path / "said.txt")
        index = ROOT / DIST / "index.html"
        if index.is_file():
            assert page.content == index.read_bytes()
            for asset in (ROOT / DIST / "assets").iterdir():
                assert httpx.get(f"http://127.0.0.1:{port}/assets/{asset.name}").content == asset.read_bytes()
        else:  # without Node there is none to ship, and the page says so
            assert "Its dashboard was not built" in page.text
        assert httpx.get(f"http://127.0.0.1:{port}/api/v1/runs").status_code == 401
        serving.send_signal(signal.SIGINT)
        assert serving.wait(PATIENCE) == 0, (tmp_path / "said.txt").read_text()
    finally:
        serving.kill()
        serving.wait()


def answer(address: str, serving: subprocess.Popen[bytes], said: Path) -> httpx.Response:
    """The first answer of a server that is just starting."""
    end = time.monotonic() + PATIENCE
    while True:
        assert serving.poll() is None, said.read_text()
        try:
            return httpx.get(address, timeout=PATIENCE, trust_env=False)
        except httpx.TransportError:
            assert time.monotonic() < end, said.read_text()
            time.sleep(0.05)
