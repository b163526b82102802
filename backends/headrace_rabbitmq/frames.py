"""The frames that name queues and exchanges, for names that pamqp would refuse.

The protocol's first version allowed few characters in a name. RabbitMQ takes any of UTF-8, as
the braces of ``{mail}``; pamqp still holds our side to the old rule. Names that RabbitMQ refuses
it refuses itself, and says why.
"""

from pamqp import commands


class _AnyName:
    def validate(self) -> None:
        """Leave it to the broker."""


class QueueDeclare(_AnyName, commands.Queue.Declare):
    """Makes a queue, or tells how many messages one has that are ready."""


class QueueBind(_AnyName, commands.Queue.Bind):
    """Lets an exchange put messages into a queue."""


class QueuePurge(_AnyName, commands.Queue.Purge):
    """Deletes the messages of a queue that are ready."""


class QueueDelete(_AnyName, commands.Queue.Delete):
    """Deletes a queue; one that is not there is no error."""


class ExchangeDeclare(_AnyName, commands.Exchange.Declare):
    """Makes an exchange."""


class ExchangeBind(_AnyName, commands.Exchange.Bind):
    """Lets an exchange hand messages on to another one."""


class ExchangeDelete(_AnyName, commands.Exchange.Delete):
    """Deletes an exchange; one that is not there is no error."""


class Consume(_AnyName, commands.Basic.Consume):
    """Asks for the messages of a queue."""


class Publish(_AnyName, commands.Basic.Publish):
    """Sends a message."""
