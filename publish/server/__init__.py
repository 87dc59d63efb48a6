"""The embedded hub: the directory hub, over the Hugging Face Hub's HTTP API and a live one of our own.

It promises that an unmodified `huggingface_hub` client works against it (`HF_ENDPOINT=http://127.0.0.1:7080`), and with
it every `from_pretrained`; that a follower hears of a moved channel within milliseconds; and that nobody reads or writes
without a token. It is trusted with nothing: followers verify what they fetch from here as from anywhere.

The service's own versions are one repository, in which channels are branches and versions are tags. It is read-only:
versions come from the publisher, who signs them. Beside it, `create_repo` makes plain repositories to read and write.
"""

from __future__ import annotations

from publish.server.app import create_app
from publish.server.serve import HubServer, HubThread
from publish.server.stored import Repositories

__all__ = ["HubServer", "HubThread", "Repositories", "create_app"]
