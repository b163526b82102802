"""What ``headrace new`` makes: a project that another person goes on with.

The words of the contract come from ``headrace.driver`` itself when a project is made, so that a
project never says what the installed headrace does not.
"""
