"""An HTTP server that throws bodies away and answers as the gateway does: the most that a client can post here.

python -m benchmarks.nothing        prints its port and serves until it is killed
"""

from __future__ import annotations

import socket
import threading

OPENED = b'{"session_id": "nothing-is-kept"}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(OPENED), OPENED)
PIECE = 1 << 20


def _serve(connection: socket.socket) -> None:
    piece = bytearray(PIECE)
    with connection:
        held = b""
        while True:
            while b"\r\n\r\n" not in held:
                more = connection.recv(PIECE)
                if not more:
                    return
                held += more
            head, _, body = held.partition(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            left = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0) - len(body)
            while left > 0:
                count = connection.recv_into(piece, min(left, PIECE))
                if not count:
                    return
                left -= count
            held = b""
            connection.sendall(ANSWER)


def main() -> None:
    """A thread for each connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
