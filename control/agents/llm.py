"""The language-model agent of the paper's section 3.2: a model reads the log and doubles, halves or keeps the rate.

Any server with the OpenAI chat interface will do. Training never waits for the model; where it does not answer, or
answers nonsense, nothing is changed, and that is in the record.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field

from control.agents import prompt
from control.agents.observation import Observation
from control.agents.policy import AgentError, Decision

MAX_ANSWER = 1 << 20


class LLMSettings(BaseModel):
    """Where the model answers. `key` names the environment variable that holds its key; times in seconds.

    `answers` "wide" lets it also go back, evaluate, save and change the mixture. `max_calls` is for the life of the
    process. `extra` goes into the request as it is (a temperature, a response format).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = "https://api.openai.com/v1"
    model: str = "o4-mini"
    key: str = "OPENAI_API_KEY"
    task: str = "train the model to a low validation loss"
    history: int = Field(20, ge=1, le=500, description="points of each history that it is shown")
    answers: Literal["lr", "wide"] = "lr"
    timeout: float = Field(120.0, gt=0)
    attempts: int = Field(2, ge=1, le=5, description="times that it is asked for an answer that can be used")
    max_calls: int | None = Field(None, ge=0)
    extra: Mapping[str, Any] = {}


class LLMAgent:
    """See `LLMSettings`. `transport` is for tests; see httpx."""

    def __init__(self, settings: LLMSettings, transport: httpx.BaseTransport | None = None) -> None:
        self._settings = settings
        self._answers = prompt.LR_ANSWERS if settings.answers == "lr" else prompt.WIDE_ANSWERS
        self._http = httpx.Client(
            base_url=settings.url.rstrip("/") + "/",
            timeout=settings.timeout,
            transport=transport,
            headers={"Authorization": f"Bearer {key}"} if (key := os.environ.get(settings.key)) else {},
        )
        self._calls = 0
        self.by = f"llm:{settings.model}"

    def decide(self, seen: Observation) -> Decision | None:
        """See `Policy`. Raises `AgentError` where the model did not come up with something that can be followed."""
        if not seen.metrics.get("loss"):
            return None
        question = prompt.asked(seen, self._settings.task, self._answers, self._settings.history)
        talk = [{"role": "user", "content": question}]
        for attempt in range(1, self._settings.attempts + 1):
            text = self._ask(talk)
            try:
                reply = prompt.read(text, self._answers)
                wanted = prompt.actions(reply, seen)
            except AgentError as error:
                if attempt == self._settings.attempts:
                    raise AgentError(f"{error} (asked {attempt} times; it said {text[:200]!r})") from error
                talk += [{"role": "assistant", "content": text[:2000]}, {"role": "user", "content": f"{error}. Again."}]
                continue
            saw = {"step": seen.step, "learning_rate": seen.learning_rate, "answer": reply.action, "asked": attempt}
            return Decision(self.by, _words(reply.explanation) or reply.action, wanted, saw, notable=True)
        return None

    def acted(self, decision: Decision) -> None:
        """See `Policy`; the next question shows it."""

    def _ask(self, talk: list[dict[str, str]]) -> str:
        settings = self._settings
        if settings.max_calls is not None and self._calls >= settings.max_calls:
            raise AgentError(f"its {settings.max_calls} calls of {settings.model} are spent")
        self._calls += 1
        body = {"model": settings.model, "messages": talk, **settings.extra}
        try:
            with self._http.stream("POST", "chat/completions", json=body) as response:
                content = b""
                for part in response.iter_bytes():
                    content += part
                    if len(content) > MAX_ANSWER:
                        raise AgentError(f"{settings.url} answers more than {MAX_ANSWER} bytes")
        except httpx.HTTPError as error:
            raise AgentError(f"{settings.model} at {settings.url} does not answer: {error!r}") from error
        if response.is_error:
            said = content[:300].decode(errors="replace")
            raise AgentError(f"{settings.model} at {settings.url} answers {response.status_code}: {said}")
        try:
            text = httpx.Response(200, content=content).json()["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise AgentError(f"{settings.url} does not answer as a chat does ({error!r})") from error
        if not isinstance(text, str):
            raise AgentError(f"{settings.url} answers without text")
        return text


def _words(text: str, most: int = 100) -> str:
    words = text.split()
    return " ".join(words[:most]) + (" …" if len(words) > most else "")
