"""A message of one queue as another queue can take it: signature, unique key, size and delay.

Nothing here moves anything.
"""

from typing import TYPE_CHECKING

import msgspec

from headrace.delays import after_hop, is_hop, split
from headrace.driver import Channel, Message
from headrace.errors import CapabilityError, InvalidSignature, MessageTooLarge

if TYPE_CHECKING:
    from headrace.queue import Queue


class Fitting:
    """Makes messages of ``source`` fit ``target``. ``drop_unique``: without their keys, where the target has none."""

    def __init__(self, source: "Queue", target: "Queue", *, drop_unique: bool) -> None:
        self._source = source
        self._target = target
        self._drop_unique = drop_unique

    def fit(self, message: Message, channel: Channel) -> Message:
        """The message as it is to be stored in that channel; its ``delay`` may become one of several hops.

        Raises `MessageTooLarge`, and `CapabilityError` if it owns a unique key and the target honours none.
        """
        longest = self._target.capabilities.max_body
        if len(message.body) > longest:
            raise MessageTooLarge(self._target.settings.backend, len(message.body), longest)
        if message.unique_key is not None:
            message = self._keyed(message, channel)
        if message.delay > self._target.capabilities.max_delay:
            left = message.delay + (after_hop(message).delay if is_hop(message) else 0.0)
            message = split(message, left, self._target.capabilities.max_delay)
        return self._signed(message)

    def _keyed(self, message: Message, channel: Channel) -> Message:
        """With its key where it has a meaning there: in the channels where a key is owned, and where messages rest.

        Who owns a key is not told. It is none that has run before; of the others the target keeps one that is there
        already, so that none of them replaces another.
        """
        is_pending = channel in ("waiting", "delayed")
        owns = is_pending and not message.attempt and not message.deaths
        if self._target.capabilities.unique:
            key = message.unique_key if owns or not is_pending else None
            return msgspec.structs.replace(message, unique_key=key, on_duplicate="keep")
        if owns and not self._drop_unique:
            raise CapabilityError(
                self._target.settings.backend,
                "unique",
                f"the message {message.id!r} on the queue {self._source.name!r} has a unique key, and others may have "
                "one; --drop-unique moves them without it",
            )
        return msgspec.structs.replace(message, unique_key=None)

    def _signed(self, message: Message) -> Message:
        """Signed for the other queue, if it was for this one. What was not stays as it is: no worker shall run it."""
        signer = self._target.signer
        if (
            self._source.signer is None
            or signer is None
            or self._source.settings.prefix == self._target.settings.prefix
        ):
            return message
        try:
            self._source.signer.verify(message)
        except InvalidSignature:
            return message
        return signer.sign(message)
