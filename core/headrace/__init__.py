"""headrace: a job queue whose backend is one line of configuration."""

from headrace.app import Headrace
from headrace.context import current
from headrace.errors import Drop, Retry
from headrace.events import listen
from headrace.job import Job, job
from headrace.settings import Backoff

__all__ = ["Backoff", "Drop", "Headrace", "Job", "Retry", "__version__", "current", "job", "listen"]

__version__ = "0.1.0"
