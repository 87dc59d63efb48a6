"""The deployed app: a web page whose screen is painted by the live model.

It knows Stovetop by two doors only: it posts every step of every visitor to the gateway, stamped with the version that
answered, and it follows the channel of the hub. Serving goes on whatever happens behind either.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from diffusers import UNet2DModel
from fastapi import FastAPI, Response, WebSocket, WebSocketDisconnect
from fastapi.staticfiles import StaticFiles

from examples.desktop.codec import encode_frame
from examples.desktop.errors import InvalidInputs
from examples.desktop.frames import Answer, FrameServer
from examples.desktop.inputs import Inputs
from examples.desktop.model import BASE, load_base, paint_next
from examples.desktop.wire import Shown, pack
from examples.desktop.world import World
from ingest.async_client import AsyncSessionClient
from ingest.errors import ClientError
from publish import Alarms, AlarmSettings, DirectoryHub, Follower, LiveModel, Status
from publish.checks import Rule
from publish.loading import Pretrained
from stovetop.lifeline import watch_lifeline
from stovetop.word import Word

APP = "desktop"
STATIC = Path(__file__).parent / "static"
LARGEST_MESSAGE = 4096
FAREWELL = 5.0
"""Seconds that a visitor's last steps may take to reach the gateway after the tab was closed."""

ALARMS = AlarmSettings(
    enabled=True,
    least=100,
    p95_seconds=Rule(at_most=5.0),
    score=Rule(at_most_worse=0.2, higher_is_better=True),
)
"""What sends a version back on this server: failures, frames that take seconds, and visitors who give up more often. The
score of a frame is 1 where its visitor went on from it, and 0 where the visitor had the screen reset. Others are not told
(`raise_alarm`): that takes the scope `operate`, which whoever serves strangers should not have.
"""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AppOptions:
    """Where the app listens, and its doors. `journal` gets a line of JSON for every change of what is served; with
    `control`, the address of the control server, the app tells there which version of the run it serves."""

    gateway: str
    token: str
    hub: Path
    public_key: str
    cache: Path
    host: str = "127.0.0.1"
    port: int = 7860
    channel: str = "stable"
    base: Path = BASE
    journal: Path | None = None
    threads: int = 1
    control: str = ""
    run: str = "desktop"


def create_app(options: AppOptions) -> FastAPI:
    """The app; its model begins to follow the channel when it starts."""
    base = options.cache.with_name(f"{options.cache.name}-base")
    packaged: Any = load_base(options.base)
    packaged.save_pretrained(base)  # packaged in half precision, published in full: served alike
    live: LiveModel[UNet2DModel] = LiveModel(Pretrained(UNet2DModel), base, warm_up=_warm_up)
    journal = _journal(options.journal)
    word = Word(options.control, options.token, run=options.run, follower=APP) if options.control else None

    def tell(status: Status) -> None:
        journal(status)
        if word is not None:
            word.status(status)

    alarms = Alarms(ALARMS)
    follower = Follower(
        DirectoryHub(options.hub),
        options.channel,
        (options.public_key,),
        options.cache,
        live,
        tell=tell,
        alarms=alarms,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        follower.start()
        frames = FrameServer(live, threads=options.threads)
        async with httpx.AsyncClient(timeout=10.0, limits=httpx.Limits(max_connections=64)) as http:
            app.state.desk = Desk(options, frames, http, alarms)
            yield
            await app.state.desk.close()
        frames.close()
        follower.close()
        if word is not None:
            word.close()

    app = FastAPI(title="A desktop painted by a model", lifespan=lifespan, docs_url=None, redoc_url=None)

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz(response: Response) -> dict[str, object]:
        status = follower.status()
        response.status_code = 200 if status.ready else 503
        return asdict(status)

    @app.websocket("/ws")
    async def play(socket: WebSocket) -> None:
        await app.state.desk.seat(socket)

    app.mount("/", StaticFiles(directory=STATIC, html=True))
    return app


class Desk:
    """Seats visitors: each has a session, and the last frame that it was shown."""

    def __init__(self, options: AppOptions, frames: FrameServer, http: httpx.AsyncClient, alarms: Alarms) -> None:
        self._options, self._alarms = options, alarms
        self._frames = frames
        self._http = http
        self._leaving: set[asyncio.Task[None]] = set()

    async def seat(self, socket: WebSocket) -> None:
        """Serve one visitor until it leaves."""
        await socket.accept()
        session = AsyncSessionClient(self._options.gateway, self._options.token, APP, http=self._http)
        shown = Answer(World().frame, "", "")
        try:
            await socket.send_bytes(pack(Shown(session.session_id, -1, "", shown.frame)))
            while True:
                message = await socket.receive_text()
                shown = await self._step(socket, session, shown, message)
        except (WebSocketDisconnect, InvalidInputs) as left:
            if isinstance(left, InvalidInputs):
                with suppress(RuntimeError, WebSocketDisconnect):
                    await socket.close(1008, str(left)[:120])
        finally:
            task = asyncio.create_task(self._bid_farewell(session))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """Wait until the sessions of those who left are ended, each for a bounded time."""
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=FAREWELL + 1.0)

    async def _step(self, socket: WebSocket, session: AsyncSessionClient, before: Answer, message: str) -> Answer:
        wanted = _read(message)
        if before.digest:
            self._alarms.score(before.digest, 0.0 if wanted is None else 1.0)
        answer = Answer(World().frame, "", "") if wanted is None else await self._frames.next(before.frame, wanted)
        seq = -1
        try:
            seq = await session.post(
                None if wanted is None else wanted.wire(),
                members={"png": encode_frame(answer.frame)},
                is_reset=wanted is None,
                model_version=answer.version or None,
                time=time.time(),
            )
        except ClientError as error:  # the screen must not freeze for a gateway that is away or full
            logger.warning("session %s: a step is not posted: %s", session.session_id, error)
        await socket.send_bytes(pack(Shown(session.session_id, seq, answer.version, answer.frame)))
        return answer

    async def _bid_farewell(self, session: AsyncSessionClient) -> None:
        try:
            await session.end(timeout=FAREWELL)
        except ClientError as error:  # the gateway ends a silent session by itself
            logger.warning("session %s: not ended: %s", session.session_id, error)
        finally:
            await session.close()


def _read(message: str) -> Inputs | None:
    """A visitor's message: inputs, or None for a reset. Raises InvalidInputs."""
    if len(message) > LARGEST_MESSAGE:
        raise InvalidInputs(f"message: {len(message)} characters, but at most {LARGEST_MESSAGE} are taken")
    try:
        content = json.loads(message)
    except ValueError:
        raise InvalidInputs(f"message: {message[:40]!r} is not JSON") from None
    if isinstance(content, dict) and content.get("reset") is True:
        return None
    return Inputs.parse(content)


def _warm_up(model: UNet2DModel) -> None:
    paint_next(model, World().frame[None], [Inputs(0, 0)])


def _journal(path: Path | None) -> Callable[[Status], None]:
    """A listener that writes down what is served and since when, once for each version."""
    last = [""]

    def tell(status: Status) -> None:
        if path is not None and status.label != last[0]:
            last[0] = status.label
            with path.open("a") as file:
                entry = {"time": time.time(), "version": status.version, "load_seconds": status.load_seconds}
                file.write(json.dumps(entry) + "\n")

    return tell


def main() -> None:
    """`python -m examples.desktop.app --gateway URL --token-file FILE --hub FOLDER --public-key KEY …`."""
    parser = argparse.ArgumentParser(description="The deployed desktop.")
    parser.add_argument("--gateway", required=True)
    parser.add_argument("--token-file", type=Path, required=True)
    parser.add_argument("--hub", type=Path, required=True)
    parser.add_argument("--public-key", required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--host", default=AppOptions.host)
    parser.add_argument("--port", type=int, default=AppOptions.port)
    parser.add_argument("--channel", default=AppOptions.channel)
    parser.add_argument("--journal", type=Path)
    parser.add_argument("--control", default=AppOptions.control)
    parser.add_argument("--run", default=AppOptions.run)
    given = parser.parse_args()
    watch_lifeline()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    options = AppOptions(
        gateway=given.gateway,
        token=given.token_file.read_text().strip(),
        hub=given.hub,
        public_key=given.public_key,
        cache=given.cache,
        host=given.host,
        port=given.port,
        channel=given.channel,
        journal=given.journal,
        control=given.control,
        run=given.run,
    )
    uvicorn.run(
        create_app(options),
        host=options.host,
        port=options.port,
        log_level="warning",
        ws_max_size=LARGEST_MESSAGE * 4,
        timeout_graceful_shutdown=3,
    )


if __name__ == "__main__":
    main()
