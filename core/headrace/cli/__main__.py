"""``python -m headrace.cli``, for where the ``headrace`` script is not on the path."""

from headrace.cli import main

main()
