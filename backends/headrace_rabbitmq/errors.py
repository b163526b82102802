"""What the broker and aiormq report, as headrace's errors: one table, used at every edge."""

import asyncio
import errno
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiormq import exceptions
from pamqp.exceptions import PAMQPException

from headrace.errors import BackendError, BackendUnavailable

#: The protocol's reply codes: what they mean here, and whether the same call may succeed later without
#: anybody mending anything.
_MEANINGS: Final[dict[int, tuple[type[BackendError], str]]] = {
    320: (BackendUnavailable, "has closed the connection"),
    403: (BackendError, "forbids this to the user: give the user's permissions on the vhost, or another prefix"),
    404: (BackendUnavailable, "does not have a queue that was there before"),
    405: (BackendError, "keeps a queue for another connection: change the queue's prefix"),
    406: (BackendUnavailable, "ended a channel"),
    506: (BackendUnavailable, "lacks the resources"),
    530: (BackendError, "does not allow the connection: look at the vhost's name and the user's permissions on it"),
    541: (BackendUnavailable, "met an error of its own"),
}

#: The classes by which aiormq tells a reply code.
_CODES: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (exceptions.ChannelAccessRefused, 403),
    (exceptions.ChannelNotFoundEntity, 404),
    (exceptions.ChannelLockedResource, 405),
    (exceptions.ChannelPreconditionFailed, 406),
    (exceptions.ConnectionResourceError, 506),
    (exceptions.ConnectionNotAllowed, 530),
    (exceptions.ConnectionInternalError, 541),
)

#: Words in the text of a refused connection after which waiting may help.
_PASSING: Final = ("connection limit", "is down")

#: What a call of aiormq may raise. Its channels tell a close by a `RuntimeError`, too.
FOREIGN: Final = (exceptions.AMQPError, exceptions.ChannelInvalidStateError, PAMQPException, OSError, TimeoutError)


def reply(error: BaseException) -> tuple[int, str]:
    """The reply code and text that the broker closed a channel or connection with; 0 if it did not."""
    if isinstance(error, exceptions.ChannelClosed | exceptions.ConnectionClosed):
        if len(error.args) == 2:
            return error.args[0] or 0, str(error.args[1])
        for kind, code in _CODES:
            if isinstance(error, kind):
                return code, str(error.args[0]) if error.args else ""
    return 0, ""


def is_missing(error: BaseException | None) -> bool:
    """Whether the broker, or a call, says that a queue or exchange is not there."""
    origin = error.__cause__ if isinstance(error, BackendError) else error
    return isinstance(origin, exceptions.ChannelNotFoundEntity)


@contextmanager
def translated(place: object) -> Iterator[None]:
    """Let what aiormq raises out as headrace's errors; what shall end by a time limit has that limit inside of this."""
    try:
        yield
    except asyncio.CancelledError as error:
        # aiormq also tells so that a connection was closed. What was cancelled in earnest knows it.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise BackendUnavailable(f"{place} is out of reach: the connection was closed") from error
    except FOREIGN as error:
        raise translate(error, place) from error


def translate(error: BaseException, place: object) -> BackendError:
    """The error to raise ``from`` this one. ``place`` is shown; it must have no secret."""
    if isinstance(error, BackendError):
        return error
    code, text = reply(error)
    if code == 530 and any(word in text for word in _PASSING):
        return BackendUnavailable(f"{place} takes no connection now: {text}")
    if code in _MEANINGS:
        kind, meaning = _MEANINGS[code]
        return kind(f"{place} {meaning} ({text})")
    if isinstance(error, exceptions.ProbableAuthenticationError | exceptions.AuthenticationError):
        return BackendError(f"{place} does not know this username and password")
    if isinstance(error, TimeoutError):
        return BackendUnavailable(f"{place} did not answer in time")
    return _connection_error(error, place)


def _connection_error(error: BaseException, place: object) -> BackendError:
    origin = error.__cause__ if isinstance(error, exceptions.AMQPConnectionError) else error
    if isinstance(origin, ssl.SSLCertVerificationError):
        return BackendError(f"{place} shows a certificate that is not trusted: {origin.verify_message}")
    if isinstance(origin, ssl.SSLError) and origin.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return BackendError(f"{place} does not speak TLS: the url must begin with amqp instead of amqps")
    if isinstance(origin, ssl.SSLError) and "ALERT" in (origin.reason or ""):
        return BackendError(
            f"{place} refuses our side's certificate: set tls_certificate and tls_key ({origin.reason})"
        )
    if isinstance(origin, OSError) and origin.errno == errno.ECONNREFUSED:
        return BackendUnavailable(f"{place} is out of reach: connection refused")
    if isinstance(error, exceptions.ChannelInvalidStateError | exceptions.AMQPConnectionError | OSError):
        return BackendUnavailable(f"{place} is out of reach: {_words(origin or error)}")
    return BackendUnavailable(f"{place} broke the protocol: {_words(error)}")


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
