"""Something between clients and an SQS that meddles with single requests: it speaks HTTP, and knows the operations.

Owns the passing on, and what is done to a request or its answer; a test says to which. It serves on threads, so
that a test's own loop may be as busy as it likes.
"""

import http.client
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

#: A request or an answer, as JSON.
Document = dict[str, Any]

#: What is answered instead of asking SQS: a status and a document; or ``None``, to pass it on.
Before = Callable[[str, Document], tuple[int, Document] | None]

#: What is answered instead of SQS's own answer; or ``None``, to hang up without one.
After = Callable[[str, Document, Document], Document | None]


def refusal(code: str, message: str = "no") -> Document:
    """What SQS answers to a request that it refuses."""
    return {"__type": f"com.amazonaws.sqs#{code}", "message": message}


class Meddler:
    """Passes requests on to ``port`` of 127.0.0.1. As a context manager it starts and ends."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.before: Before = lambda operation, request: None
        self.after: After = lambda operation, request, answer: answer
        self.is_down = False  #: connections are taken and ended at once
        self.delay = 0.0  #: seconds before each request is passed on
        self.seen: Counter[str] = Counter()  #: requests, by operation
        self.authorizations: list[str] = []
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = False
        self._server.meddler = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Meddler":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.is_down = True
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def handle_one_request(self) -> None:
        if self._meddler.is_down:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        super().handle_one_request()

    @property
    def _meddler(self) -> Meddler:
        meddler: Meddler = self.server.meddler  # type: ignore[attr-defined]
        return meddler

    def do_POST(self) -> None:
        meddler = self._meddler
        body = self.rfile.read(int(self.headers["Content-Length"]))
        operation = self.headers["X-Amz-Target"].rpartition(".")[2]
        request = json.loads(body)
        with meddler.lock:
            meddler.seen[operation] += 1
            meddler.authorizations.append(self.headers["Authorization"])
            instead = meddler.before(operation, request)
        time.sleep(meddler.delay)
        if instead is not None:
            self._answer(*instead)
            return
        status, answer = self._pass_on(json.dumps(request).encode())
        if status == 200:
            with meddler.lock:
                changed = meddler.after(operation, request, answer)
            if changed is None:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            answer = changed
        self._answer(status, answer)

    def _pass_on(self, body: bytes) -> tuple[int, Document]:
        connection = http.client.HTTPConnection("127.0.0.1", self._meddler.target, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name != "Content-Length"}
            connection.request("POST", self.path, body, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"{}")
        finally:
            connection.close()

    def _answer(self, status: int, document: Document) -> None:
        content = json.dumps(document).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except ConnectionError:
            pass  # the client is gone

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's word
        """Nothing: requests are counted instead."""
