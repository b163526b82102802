"""The options of a ``[backends.NAME]`` table that uses this plugin."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta


@dataclass(frozen=True, slots=True)
class SqsSettings:
    """Where the queues are. Credentials are no options: boto3 finds them where it always does."""

    #: As in ``eu-central-1``. Without it boto3 looks where it looks for credentials; with an ``endpoint_url`` none is
    #: needed.
    region: str | None = None
    #: Something else than AWS that speaks its protocol: an emulator, or a VPC's endpoint.
    endpoint_url: str | None = None
    #: Begins the name of every queue: what keeps applications, or stages of one, apart in an account.
    queue_name_prefix: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{0,40}$")] = ""
    #: Whether a queue that is missing is made. ``false`` where the infrastructure is managed elsewhere: it is then an
    #: error that names the queue and the attributes that it needs.
    create_queues: bool = True
    #: The field of a job by whose value SQS is to be fair, a customer's id say: it is sent as ``MessageGroupId``.
    fair: str | None = None
    #: How many requests for messages may be under way for one queue, where there is more than one of them brings.
    receivers: Annotated[int, Meta(ge=1, le=32)] = 4
    #: How long a request may go without an answer, connecting included, before it fails as unavailable.
    timeout_seconds: Annotated[float, Meta(gt=0)] = 5.0
