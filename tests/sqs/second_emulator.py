"""A second SQS of this machine, to hold beside moto's: MiniStack as a private process.

It is faster, and less strict. It keeps all in memory, and answers anybody. It needs an older botocore than boto3
does here, so it stands in an environment of its own: ``HEADRACE_TEST_MINISTACK`` is the path of its program. Run with
the folder of a new environment, this module makes one with it.
"""

import os
import subprocess
import sys
import urllib.request
import venv
from pathlib import Path

from headrace.conformance.servers.moto import ENVIRONMENT
from headrace.conformance.servers.process import PATIENCE, ServerProcess


class MinistackServer(ServerProcess):
    """One server, of nothing but SQS."""

    @property
    def url(self) -> str:
        """For the backend's option ``endpoint_url``."""
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [os.environ["HEADRACE_TEST_MINISTACK"]]

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            **ENVIRONMENT,
            "BIND_HOST": "127.0.0.1",  # else it listens on all addresses
            "GATEWAY_PORT": str(self.port),
            "SERVICES": "sqs",
            "TMPDIR": str(self.folder),
        }

    def answers(self) -> bool:
        with urllib.request.urlopen(f"{self.url}/_ministack/health", timeout=PATIENCE) as answer:
            return bool(answer.status == 200)


def install(folder: Path) -> None:
    """Make an environment with MiniStack, unless it is there."""
    if not (folder / "bin" / "ministack").exists():
        venv.create(folder, with_pip=True)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", "ministack>=1.5.33"], check=True)


if __name__ == "__main__":
    install(Path(sys.argv[1]))
