"""An SQS of this machine: moto's server as a private process.

It keeps all in memory: a restart begins with nothing. It answers anybody, whatever the credentials.
Run as a program, this module is that server, as `MotoServer` starts it.
"""

import functools
import importlib
import importlib.util
import os
import sys
import time
import urllib.request
from typing import Any, Final

from headrace.conformance.servers.process import PATIENCE, ServerNotFound, ServerProcess

#: What clients have to say, though any region would do.
REGION: Final = "us-east-1"

#: Credentials where boto3 looks for them first: none of this machine's are then sent anywhere.
ENVIRONMENT: Final = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_DEFAULT_REGION": REGION}

#: Seconds that a thread may go on while others could: beyond what any request takes.
_UNDISTURBED: Final = 1000.0


class MotoServer(ServerProcess):
    """One server."""

    def __init__(self) -> None:
        if importlib.util.find_spec("moto") is None:
            raise ServerNotFound("there is no moto here: pip install 'moto[server]'")
        super().__init__()

    @property
    def url(self) -> str:
        """For the backend's option ``endpoint_url``."""
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [sys.executable, "-m", __name__, "-H", "127.0.0.1", "-p", str(self.port)]

    def environment(self) -> dict[str, str]:
        return {**os.environ, **ENVIRONMENT}

    def answers(self) -> bool:
        # A question about queues: it loads what has to do with them when it is first asked, which may take seconds.
        headers = {
            "Authorization": f"AWS4-HMAC-SHA256 Credential=nobody/20200101/{REGION}/sqs/aws4_request",
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": "AmazonSQS.ListQueues",
        }
        request = urllib.request.Request(self.url, b"{}", headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return bool(answer.status == 200)


def _serve() -> None:
    """Run the server, mended in what keeps several clients from using it at once."""
    # Its queues have no locks: two requests at once would hand out one message twice, or lose one that is just being
    # sent. So threads change only where one of them waits.
    sys.setswitchinterval(_UNDISTURBED)
    models: Any = importlib.import_module("moto.sqs.models")
    # For each message that it looks at it asks the time, by way of dates.
    models.unix_time = time.time
    models.unix_time_millis = lambda: 1000 * time.time()
    models.camelcase_to_underscores = functools.cache(models.camelcase_to_underscores)
    # For each that it hands out it looks up how long the queue keeps messages. Nothing is kept for days here.
    models.SQSBackend.is_message_valid_based_on_retention_period = lambda *_: True
    _count_only_when_asked(models)
    importlib.import_module("moto.server").main(sys.argv[1:])


def _count_only_when_asked(models: Any) -> None:
    """Counts are attributes of a queue, and for each that it looks up moto makes all of them anew."""
    plainly = models.SQSBackend.get_queue_attributes
    counts = {name for name in models.Queue.BASE_ATTRIBUTES if name.startswith("Approximate")}
    models.Queue.BASE_ATTRIBUTES = [name for name in models.Queue.BASE_ATTRIBUTES if name not in counts]

    def get_queue_attributes(backend: Any, queue_name: str, names: list[str]) -> dict[str, Any]:
        found = dict(plainly(backend, queue_name, [name for name in names if name not in counts]))
        queue = backend.get_queue(queue_name)
        for name in counts if "All" in names else counts.intersection(names):
            found[name] = getattr(queue, models.camelcase_to_underscores(name))
        return found

    models.SQSBackend.get_queue_attributes = get_queue_attributes


if __name__ == "__main__":
    _serve()
