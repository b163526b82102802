"""What ``headrace demo`` shows: an application of headrace like any other, on real files.

``counting.py`` is what it does, ``jobs.py`` declares its jobs, ``stage.py`` runs them on a
scratch configuration. How that is shown is the business of `headrace.cli.demo`.
"""
