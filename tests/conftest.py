"""What holds for all tests."""

import signal


def pytest_configure() -> None:
    """Let what is started here hear Ctrl-C: a shell has what it runs in the background ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
