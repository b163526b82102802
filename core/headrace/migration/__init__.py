"""Moving all that one queue holds to another one, on whatever backends the two are.

*Write first, remove second*: a message is removed where it was when the other queue has confirmed it. A migration that
ends at any line can so be begun again, and then finishes. What was between the two steps is there twice then, unless
the target is `Capabilities.idempotent`.

`engine` says in which order channels are emptied and when that is over, `source` how messages are taken and removed,
`target` how they are stored and looked up, `fitting` what a message must be like for another queue. How all of that is
shown to people is the business of ``headrace migrate``.
"""

from headrace.migration.engine import Migration, Outcome, Plan, Progress
from headrace.migration.source import ORDER, Way
from headrace.migration.target import Stayed

__all__ = ["ORDER", "Migration", "Outcome", "Plan", "Progress", "Stayed", "Way"]
