"""What botocore and SQS report, as headrace's errors: one table, used at every edge.

SQS answers with codes, some of which have an older name with dots: the part after the last dot is
looked up. Texts of SQS are shown only where they name what is forbidden to whom, and never what was
signed with a secret; of credentials that could not be had, only who should have given them is told.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, Final

from botocore import exceptions, parsers  # type: ignore[import-untyped]

from headrace.errors import BackendError, BackendUnavailable


class QueueMissing(BackendError):
    """SQS has no such queue."""


#: Of codes that an answer has, or an entry of a batch. `BackendUnavailable` where the same call may succeed later
#: without anybody mending anything but the world outside: SQS, the network, or credentials, which are read anew.
_MEANINGS: Final[dict[str, tuple[type[BackendError], str]]] = {
    "AccessDenied": (BackendError, "forbids it to these credentials"),
    "ExpiredToken": (BackendUnavailable, "says that the credentials have expired: renew them where boto3 finds them"),
    "InternalError": (BackendUnavailable, "had an error of its own"),
    "InvalidClientTokenId": (BackendError, "does not know these credentials: look where boto3 finds them"),
    "InvalidMessageContents": (BackendError, "refuses characters of a message"),
    "MissingAuthenticationToken": (BackendError, "was sent no credentials"),
    "OverLimit": (BackendUnavailable, "hands out no more of a queue until some of its messages are settled"),
    "QueueDeletedRecently": (BackendUnavailable, "makes no queue again within a minute of its end: try again then"),
    "QueueNameExists": (BackendError, "has a queue of that name with other attributes"),
    "RequestTimeTooSkewed": (BackendError, "finds that the clock of this machine is wrong: set it"),
    "SignatureDoesNotMatch": (BackendError, "does not accept the secret that belongs to these credentials"),
    "ServiceUnavailable": (BackendUnavailable, "is not available"),
    "Throttling": (BackendUnavailable, "is asked too often, and refuses some requests"),
}

#: Other names of some of them, across protocols and services.
_SAME: Final[dict[str, str]] = {
    "AccessDeniedException": "AccessDenied",
    "AuthFailure": "InvalidClientTokenId",
    "ExpiredTokenException": "ExpiredToken",
    "IncompleteSignature": "SignatureDoesNotMatch",
    "InternalFailure": "InternalError",
    "InternalServerError": "InternalError",
    "InvalidAccessKeyId": "InvalidClientTokenId",
    "InvalidSecurity": "InvalidClientTokenId",
    "InvalidSignatureException": "SignatureDoesNotMatch",
    "KmsThrottled": "Throttling",
    "NonExistentQueue": "QueueDoesNotExist",
    "QueueAlreadyExists": "QueueNameExists",
    "RequestExpired": "ExpiredToken",
    "RequestLimitExceeded": "Throttling",
    "RequestThrottled": "Throttling",
    "RequestThrottledException": "Throttling",
    "ServiceUnavailableException": "ServiceUnavailable",
    "SlowDown": "Throttling",
    "ThrottledException": "Throttling",
    "ThrottlingException": "Throttling",
    "TokenRefreshRequired": "ExpiredToken",
    "TooManyRequestsException": "Throttling",
    "UnrecognizedClientException": "InvalidClientTokenId",
}

#: Codes whose text says who may not do what: an ARN and an action.
_TOLD: Final = frozenset({"AccessDenied"})

#: What botocore raises when no answer came, or only part of one.
_UNREACHED: Final = (exceptions.HTTPClientError, exceptions.ConnectionError, exceptions.IncompleteReadError)

#: And when it found no credentials, or could not have those that it was told of.
_NO_CREDENTIALS: Final = (
    exceptions.NoCredentialsError,
    exceptions.PartialCredentialsError,
    exceptions.NoAuthTokenError,
    exceptions.ProfileNotFound,
    exceptions.SSOError,
    exceptions.LoginError,
    exceptions.TokenRetrievalError,
)

#: What comes of reading an answer that is none of SQS's.
_UNREADABLE: Final = (AttributeError, LookupError, TypeError, ValueError)

#: What a call to boto3 may raise. It checks regions and endpoints with ValueErrors of its own, reports credentials that
#: were renewed and are expired all the same as a RuntimeError, and falls over answers that are none of SQS's.
FOREIGN: Final = (
    exceptions.BotoCoreError,
    exceptions.ClientError,
    parsers.ResponseParserError,
    OSError,
    RuntimeError,
    *_UNREADABLE,
)


def code_of(error: BaseException) -> str:
    """The code of an answer, by the name that is in the table; empty if it is no answer."""
    response: Any = getattr(error, "response", None)
    if not isinstance(error, exceptions.ClientError) or not isinstance(response, dict):
        return ""
    return known_code(str(response.get("Error", {}).get("Code", "")))


def known_code(code: str) -> str:
    short = code.rpartition(".")[2]
    return _SAME.get(short, short)


def cause_of(error: BackendError) -> str:
    """The code of the answer that became this error; empty if it was none."""
    return code_of(error.__cause__) if error.__cause__ is not None else ""


def of_entry(failed: dict[str, Any], place: str) -> BackendError:
    """What one entry of a batch met. The sender's fault will be one again."""
    code = known_code(str(failed.get("Code", "")))
    kind, meaning = _MEANINGS.get(code, (BackendError, f"refused an entry ({code}): {failed.get('Message', '')}"))
    if not failed.get("SenderFault", True):
        kind = BackendUnavailable
    return kind(f"{place} {meaning}")


def translate(error: BaseException, place: str) -> BackendError:
    """The error to raise ``from`` this one. ``place`` is shown; it must have no secret."""
    if isinstance(error, BackendError):
        return error
    if isinstance(error, exceptions.ClientError):
        return _of_answer(error, place)
    if isinstance(error, _NO_CREDENTIALS):
        return BackendError(
            f"no credentials for {place}; boto3 takes them from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            f"a profile or a role: {_without_details(error)}"
        )
    if isinstance(error, exceptions.CredentialRetrievalError | exceptions.MetadataRetrievalError):
        provider = getattr(error, "kwargs", {}).get("provider", "the machine's metadata service")
        return BackendUnavailable(f"no credentials for {place}: {provider} did not give them")
    if isinstance(error, exceptions.SSLError):
        return BackendError(f"{place} has a certificate that is not trusted here: look at AWS_CA_BUNDLE")
    if isinstance(error, exceptions.ReadTimeoutError | exceptions.ConnectTimeoutError):
        return BackendUnavailable(f"{place} did not answer in time")
    if isinstance(error, _UNREACHED):
        return BackendUnavailable(f"{place} is out of reach ({type(error).__name__})")
    if isinstance(error, exceptions.NoRegionError):
        return BackendError("no region is set: set the option region, or AWS_DEFAULT_REGION")
    if isinstance(error, parsers.ResponseParserError | AttributeError | LookupError | TypeError):
        return _no_sqs(place)
    if isinstance(error, RuntimeError):
        return BackendUnavailable(f"{place} cannot be asked now: {error}")
    if isinstance(error, OSError):
        return BackendUnavailable(f"{place} is out of reach: {error}")
    return BackendError(f"{place} cannot be used: {' '.join(str(error).split())}")


@contextlib.contextmanager
def reading(place: str) -> Iterator[None]:
    """What is read in this block out of an answer may not be there: who answers is then no SQS."""
    try:
        yield
    except _UNREADABLE as error:
        raise _no_sqs(place) from error


def _no_sqs(place: str) -> BackendError:
    return BackendError(f"{place} does not answer as SQS does: look at endpoint_url")


def _of_answer(error: BaseException, place: str) -> BackendError:
    code = code_of(error)
    response: Any = error.response  # type: ignore[attr-defined]
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code == "QueueDoesNotExist":
        return QueueMissing(f"{place} has no such queue")
    if code in _MEANINGS:
        kind, meaning = _MEANINGS[code]
        told = f": {response['Error'].get('Message', '')}" if code in _TOLD else ""
        return kind(f"{place} {meaning} ({code}){told}")
    if status >= 500:
        return BackendUnavailable(f"{place} had an error of its own ({status})")
    if code.isdecimal():
        return BackendError(f"{place} does not answer as SQS does ({status}): look at endpoint_url")
    return BackendError(f"{place} refused a request ({code}): {response['Error'].get('Message', '')}")


def _without_details(error: BaseException) -> str:
    """What is missing, without what a provider's program or service has printed."""
    if isinstance(error, exceptions.TokenRetrievalError | exceptions.SSOTokenLoadError | exceptions.LoginError):
        return f"log in again ({type(error).__name__})"
    return str(error)
