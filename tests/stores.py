"""An object store of this machine, for tests of runs whose journal is at a URL."""

import logging
import random
import socket
import urllib.request
from contextlib import suppress

from moto.server import ThreadedMotoServer

BUCKET = "measured"


def _free_port():
    """One that the system gives to nobody by itself: a store that was lost comes back to it."""
    for port in random.sample(range(20_000, 30_000), 100):
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


class Store:
    """moto's S3 in a thread, with one bucket.

    Args:
        environment: pytest's monkeypatch; credentials go there.
    """

    def __init__(self, environment):
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "of-nobody")
        self.port = _free_port()
        self.start()
        self.request("POST", "/moto-api/reset")  # what other tests left in this process
        self.request("POST", "/moto-api/reset-auth", b"inf")
        self.request("PUT", f"/{BUCKET}")

    def url(self, folder, *, bucket=BUCKET):
        """Of a folder in its bucket."""
        query = f"endpoint_override=127.0.0.1:{self.port}&scheme=http&region=us-east-1"
        return f"s3://{bucket}/{folder}?{query}"

    def request(self, method, path, content=None):
        """Speak to the server itself."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            data=content,
            headers={"Content-Type": "text/plain"},
        )
        with urllib.request.urlopen(request) as answer:
            return answer.read()

    def refuse(self):
        """From now on the credentials are not good enough."""
        self.request("POST", "/moto-api/reset-auth", b"0")

    def start(self):
        """Answer, with what was kept before."""
        self._server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._server.start()

    def stop(self):
        """From now on nobody answers."""
        self._server.stop()
