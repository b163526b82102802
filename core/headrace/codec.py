"""A job's fields as bytes, and back.

The body is JSON: readable in any backend's own tools, and nothing in it is executed or
imported. msgspec does both ways and names the field that does not fit. Owns no names of
jobs and no envelope: ids, attempts and headers are the message's, not the body's.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import msgspec

from headrace.errors import InvalidPayload, JobError, UnknownJob
from headrace.job import Job

J = TypeVar("J", bound=Job)

_encoder = msgspec.json.Encoder()
_keys_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


class JobCodec(Generic[J]):
    """Encodes and decodes the jobs of one class.

    Raises `JobError` when it is made, if the class has no handler, or a field of a type that JSON cannot carry.
    """

    def __init__(self, job_class: type[J]) -> None:
        self._job_class = job_class
        self._name = job_class.job_options.name
        self._fields = frozenset(field.name for field in dataclasses.fields(job_class))  # type: ignore[arg-type]
        where = job_class.job_options.source
        if job_class.handle is Job.handle:
            raise JobError(f"{where} has no handle(), so that no worker could run it: is the method's name misspelt?")
        try:
            self._decoder = msgspec.json.Decoder(job_class)
            fields = msgspec.inspect.type_info(job_class).fields  # type: ignore[attr-defined]
            kinds = {field.name: list(_kinds_in(field.type)) for field in fields}
            foreign = [(name, each.cls) for name in kinds for each in kinds[name] if _is_foreign(each)]
        except (TypeError, NameError, RecursionError) as error:
            raise JobError(f"{where}: its fields cannot be carried: {error}") from error
        for name, kind in foreign:
            raise JobError(f"{where}: its fields cannot be carried: {name!r} holds {kind!r}, which JSON cannot")
        #: Whether some field leaves open what it holds, so that a value could change its type on the way.
        self._compares = any(isinstance(each, _OPEN) for found in kinds.values() for each in found)

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
        """The job of a body. Raises `InvalidPayload`, or `UnknownJob` for a field that is not known here.

        The unknown field goes first: beside it, one that is missing may have been renamed.
        """
        try:
            unknown = _keys_decoder.decode(body).keys() - self._fields
            if not unknown:
                return self._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, JobError) as error:
            raise InvalidPayload(f"{self._name}: {error}") from None
        except Exception as error:  # a field type's own __post_init__
            raise InvalidPayload(f"{self._name}: {error!r}") from error
        raise UnknownJob(f"{self._name} has no field {min(unknown)!r} here; a newer version may have pushed it")


#: The types of msgspec whose values may be of any type.
_OPEN = (msgspec.inspect.AnyType, msgspec.inspect.CustomType)


def _is_foreign(kind: Any) -> bool:
    """Whether a type is not msgspec's own, and nothing that JSON gives could be a value of it."""
    return isinstance(kind, msgspec.inspect.CustomType) and not any(
        issubclass(given, kind.cls) for given in (str, int, float, bool, list, dict, type(None))
    )


def _kinds_in(info: Any, seen: set[int] | None = None) -> Iterator[Any]:
    """A type and the types in it, as msgspec describes them."""
    seen = set() if seen is None else seen
    if id(info) in seen:
        return
    seen.add(id(info))
    if isinstance(info, msgspec.inspect.Type | msgspec.inspect.Field):
        yield info
        info = tuple(getattr(info, name) for name in info.__struct_fields__)
    if isinstance(info, tuple):
        for part in info:
            yield from _kinds_in(part, seen)
