"""TLS for backends that connect to a server: their options for it, and Python's context of these.

For authors of plugins: settings that derive from `TlsSettings` have the same four options, and refuse a file that
cannot be used in the same words, whatever the server.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path

from headrace.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """What our side of a connection trusts and shows."""

    #: Files in PEM: the authorities to trust beside the system's, and our own certificate and key, where the server
    #: asks for them. A relative path starts from the configuration's folder.
    tls_ca: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    #: ``false`` trusts any certificate and any name: for tests.
    tls_verify: bool = True


def context(settings: TlsSettings) -> ssl.SSLContext:
    """What the settings say. Raises `ConfigError` that names a file which cannot be used."""
    made = ssl.create_default_context()
    if not settings.tls_verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    if settings.tls_ca is not None:
        try:
            made.load_verify_locations(settings.tls_ca)
        except OSError as error:  # which ssl's own errors are, too
            raise _unusable("tls_ca", settings.tls_ca, error) from error
    if settings.tls_certificate is not None:
        try:
            # A password of none: for a key that wants one it would ask at the terminal, and wait.
            made.load_cert_chain(settings.tls_certificate, settings.tls_key, "")
        except OSError as error:
            option = "tls_key" if settings.tls_key and settings.tls_certificate.is_file() else "tls_certificate"
            raise _unusable(option, getattr(settings, option), error) from error
    return made


def _unusable(option: str, path: Path, error: OSError) -> ConfigError:
    why = error.strerror if path.is_file() else "there is no such file"
    return ConfigError(f"{option} is {path}, which cannot be used: {why}")
