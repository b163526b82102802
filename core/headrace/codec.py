"""A job's fields as bytes, and back.

The body is JSON: readable in any backend's own tools, and nothing in it is executed or
imported. msgspec does both ways and names the field that does not fit. Owns no names of
jobs and no envelope: ids, attempts and headers are the message's, not the body's.
"""

import dataclasses
from typing import Any, Generic, TypeVar

import msgspec

from headrace.errors import InvalidPayload, JobError, UnknownJob
from headrace.job import Job

J = TypeVar("J", bound=Job)

_encoder = msgspec.json.Encoder()
_keys_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


class JobCodec(Generic[J]):
    """Encodes and decodes the jobs of one class.

    Raises `JobError` when it is made, if a field has a type that JSON cannot carry.
    """

    def __init__(self, job_class: type[J]) -> None:
        self._job_class = job_class
        self._name = job_class.job_options.name
        self._fields = frozenset(field.name for field in dataclasses.fields(job_class))  # type: ignore[arg-type]
        try:
            self._decoder = msgspec.json.Decoder(job_class)
            loose = _holds_any(msgspec.inspect.type_info(job_class))
        except (TypeError, NameError, RecursionError) as error:
            raise JobError(f"{job_class.job_options.source}: its fields cannot be carried: {error}") from error
        self._compares = loose

    def encode(self, job: J) -> bytes:
        """The job's body. Raises `InvalidPayload` unless a worker would get the same job back."""
        try:
            body = _encoder.encode(job)
        except (TypeError, ValueError, msgspec.MsgspecError, RecursionError) as error:
            raise InvalidPayload(f"{self._name}: {error}") from error
        try:
            back = self._decoder.decode(body)
        except msgspec.ValidationError as error:
            raise InvalidPayload(f"{self._name}: {error}") from None
        if self._compares and back != job:
            for name in sorted(self._fields):
                if getattr(back, name) != getattr(job, name):
                    raise InvalidPayload(
                        f"{self._name}: {getattr(job, name)!r} would reach the worker as {getattr(back, name)!r} "
                        f"- at `$.{name}`; annotate the field with the type that it holds"
                    )
        return body

    def decode(self, body: bytes) -> J:
        """The job of a body. Raises `InvalidPayload`, or `UnknownJob` for a field that is not known here."""
        try:
            job = self._decoder.decode(body)
            unknown = _keys_decoder.decode(body).keys() - self._fields
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, JobError) as error:
            raise InvalidPayload(f"{self._name}: {error}") from None
        except Exception as error:  # a field type's own __post_init__
            raise InvalidPayload(f"{self._name}: {error!r}") from error
        if unknown:
            raise UnknownJob(f"{self._name} has no field {min(unknown)!r} here; a newer version may have pushed it")
        return job


def _holds_any(info: Any, seen: set[int] | None = None) -> bool:
    """Whether a type leaves open what it holds, so that a value could change its type on the way."""
    seen = set() if seen is None else seen
    if id(info) in seen:
        return False
    seen.add(id(info))
    if isinstance(info, msgspec.inspect.AnyType):
        return True
    if isinstance(info, msgspec.inspect.Type | msgspec.inspect.Field):
        parts = [getattr(info, name) for name in info.__struct_fields__]
    elif isinstance(info, tuple):
        parts = list(info)
    else:
        return False
    return any(_holds_any(part, seen) for part in parts)
