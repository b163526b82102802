"""What redis-py and the server report, as headrace's errors: one table, used at every edge.

The server's errors begin with a code in capitals. For each code the table has the class,
what is wrong and what helps, and `is_passing` those after which the same call may be sent
again at once: nothing was done, and the server will be ready within moments.
"""

import re
import ssl
from typing import Final

from redis import exceptions
from redis.asyncio.sentinel import MasterNotFoundError

from headrace.errors import BackendError, BackendUnavailable

#: `BackendUnavailable` where the same call may succeed later without anybody mending anything.
_MEANINGS: Final[dict[str, tuple[type[BackendError], str]]] = {
    "ASK": (BackendUnavailable, "is moving the queue's slot to another node"),
    "BUSY": (BackendUnavailable, "is busy with a script of another program: end that with SCRIPT KILL"),
    "CLUSTERDOWN": (BackendUnavailable, "has no node that serves the queue's slot"),
    "CROSSSLOT": (BackendError, "has the queue's keys on several nodes: give its prefix braces, as in {mail}"),
    "LOADING": (BackendUnavailable, "is reading its data from disk"),
    "MASTERDOWN": (BackendUnavailable, "is a replica that has lost its master"),
    "MISCONF": (BackendUnavailable, "takes no writes as it cannot save to its disk: look at the disk and at its log"),
    "MOVED": (BackendUnavailable, "has moved the queue's slot to another node"),
    "NOAUTH": (BackendError, "asks for a password: set username and password"),
    "NOPERM": (BackendError, "forbids a command to this user: allow it +@all ~PREFIX:* or look at ACL LOG"),
    "NOREPLICAS": (BackendUnavailable, "takes no writes while it has too few replicas"),
    "OOM": (BackendUnavailable, "is out of memory: let workers drain it, or raise maxmemory"),
    "READONLY": (BackendUnavailable, "is a replica: the url must name the master, or Sentinels that know it"),
    "TRYAGAIN": (BackendUnavailable, "is moving the queue's slot to another node"),
    "UNBLOCKED": (BackendUnavailable, "has just become a replica"),
    "WRONGPASS": (BackendError, "does not know this username and password"),
    "WRONGTYPE": (BackendError, "has something else under the queue's keys: change the queue's prefix"),
}

#: Codes after which the call is sent again: no human need do anything, and it was not run.
_PASSING: Final = frozenset(
    {"ASK", "BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MOVED", "READONLY", "TRYAGAIN", "UNBLOCKED"}
)

_CODE: Final = re.compile(r"[A-Z]+(?= |\Z)")

#: What redis-py says with a class of its own instead of the code, most special first.
_CLASSES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (exceptions.AuthenticationError, "WRONGPASS"),
    (exceptions.BusyLoadingError, "LOADING"),
    (exceptions.ClusterCrossSlotError, "CROSSSLOT"),
    (exceptions.MasterDownError, "MASTERDOWN"),
    (exceptions.ClusterDownError, "CLUSTERDOWN"),
    (exceptions.SlotNotCoveredError, "CLUSTERDOWN"),
    (exceptions.MovedError, "MOVED"),
    (exceptions.AskError, "ASK"),
    (exceptions.NoPermissionError, "NOPERM"),
    (exceptions.OutOfMemoryError, "OOM"),
    (exceptions.ReadOnlyError, "READONLY"),
    (exceptions.TryAgainError, "TRYAGAIN"),
)

#: Alerts by which one side tells the other that it does not trust it, or shares no form of TLS with it.
_DISTRUST: Final = re.compile(r"ALERT_(ACCESS_DENIED|HANDSHAKE_FAILURE|PROTOCOL_VERSION|UNKNOWN_CA|.*CERTIFICATE.*)\Z")

#: How redis-py tells that the connection broke. An `AttributeError` is what it meets where another task
#: has taken a connection's streams away, as when Sentinel names another master.
_CUT: Final = (exceptions.ConnectionError, OSError, AttributeError)

#: What a driver's call to redis-py may raise. Its `RedisClusterException` is no `RedisError`.
FOREIGN: Final = (exceptions.RedisError, exceptions.RedisClusterException, *_CUT)


def _code(error: BaseException) -> str:
    code = getattr(error, "status_code", None)
    if code in _MEANINGS:
        return str(code)
    for kind, code in _CLASSES:
        if isinstance(error, kind):
            return code
    if isinstance(error, exceptions.ResponseError):
        found = _CODE.match(str(error))
        return found[0] if found else ""
    return ""


def _of_tls(error: BaseException) -> ssl.SSLError | None:
    """What TLS met, if no later attempt can succeed unless somebody mends it; redis-py wraps it up to three times."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause
        if isinstance(cause, ssl.SSLError) and _DISTRUST.search(str(cause.reason)):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


def is_distrust(error: BaseException) -> bool:
    """Whether one side does not trust the other's certificate, or both have no form of TLS in common."""
    return _of_tls(error) is not None


def is_passing(error: BaseException) -> bool:
    """Whether the call was not run, and can be soon."""
    return _code(error) in _PASSING


def is_cut(error: BaseException) -> bool:
    """Whether the connection broke, so that nobody knows if the call was run; silence is not meant."""
    silent = isinstance(error, exceptions.TimeoutError | TimeoutError)
    return not silent and not _code(error) and isinstance(error, _CUT) and not is_distrust(error)


def translate(error: BaseException, place: object) -> BackendError:
    """The error to raise ``from`` this one. ``place`` is shown; it must have no secret."""
    if isinstance(error, BackendError):
        return error
    code = _code(error)
    if code in _MEANINGS:
        kind, meaning = _MEANINGS[code]
        return kind(f"{place} {meaning} ({code})")
    met = _of_tls(error)
    if isinstance(met, ssl.SSLCertVerificationError):
        fix = "set tls_ca to the authority that signed it, and the url's host to a name in it"
        return BackendError(f"{place} has a certificate that is not trusted here ({met.verify_message}): {fix}")
    if met is not None:
        fix = "if it asks for a certificate of ours, look at tls_certificate and tls_key"
        return BackendError(f"{place} refuses the TLS that it is offered ({met.reason}): {fix}")
    if isinstance(error, MasterNotFoundError):
        # Its own text shows each client with all its parameters, and of what they met only the kind.
        return BackendUnavailable(f"{place}: no Sentinel that answers knows a master of that service")
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return BackendUnavailable(f"{place} did not answer in time")
    if isinstance(error, _CUT):
        return BackendUnavailable(f"{place} is out of reach: {error}")
    if isinstance(error, exceptions.RedisClusterException):
        return BackendUnavailable(f"{place} cannot be used as a Cluster: {error}")
    return BackendError(f"{place} refused a call: {error}")
