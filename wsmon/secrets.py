"""Where secrets come from, and how those typed into the admin are kept.

A *reference* is ``env:NAME`` (a variable, or the file that ``NAME_FILE`` names) or ``file:PATH``; it is
resolved when used and never stored or exported in clear.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import os
import re
import stat
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

from wsmon.redact import remember

_NAME_BYTES, _NONCE = 4, 12
_LARGEST_FILE = 65_536
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_log = logging.getLogger(__name__)
_complained: set[tuple[str, str]] = set()


class Unresolvable(Exception):
    """A reference, or an encrypted value, has no secret behind it. ``why`` holds no secret."""

    def __init__(self, reference: str, why: str) -> None:
        super().__init__(f"{reference}: {why}")
        self.reference = reference
        self.why = why


def is_reference(text: str) -> bool:
    """True for ``env:...`` and ``file:...``, well-formed or not."""
    return text.startswith(("env:", "file:"))


def lookup(name: str) -> str | None:
    """Return variable ``name``, else the content of the file that ``<name>_FILE`` names, else None.

    An empty value counts as absent, and so does a file that cannot be read (logged once).
    """
    value = os.environ.get(name, "")
    if value:
        return value
    path = os.environ.get(f"{name}_FILE", "")
    if not path:
        return None
    try:
        return read_file(path) or None
    except ValueError as error:
        _complain_once(f"{name}_FILE", str(error))
        return None


def resolve(reference: str) -> str:
    """Return the secret behind ``env:NAME`` or ``file:PATH``; raise :class:`Unresolvable`."""
    scheme, _, target = reference.partition(":")
    value = _resolve_name(reference, target) if scheme == "env" else _resolve_path(reference, scheme, target)
    remember(value)
    return value


def dereference(value: Any) -> Any:
    """A value with every reference in it resolved, in objects and lists too; raise :class:`Unresolvable`."""
    if isinstance(value, str):
        return resolve(value) if is_reference(value) else value
    if isinstance(value, Mapping):
        return {key: dereference(item) for key, item in value.items()}
    return [dereference(item) for item in value] if isinstance(value, list) else value


def encrypt(value: str) -> bytes:
    """Encrypt with the first of ``settings.ENCRYPTION_KEYS``; raise :class:`Unresolvable` without one."""
    return _fernet(tuple(settings.ENCRYPTION_KEYS)).encrypt(value.encode())


def decrypt(encrypted: bytes) -> str:
    """Decrypt with whichever of ``settings.ENCRYPTION_KEYS`` fits; raise :class:`Unresolvable` if none."""
    try:
        value = _fernet(tuple(settings.ENCRYPTION_KEYS)).decrypt(bytes(encrypted)).decode()
    except InvalidToken:
        raise Unresolvable("the encrypted value", "no key in WSMON_ENCRYPTION_KEYS opens it") from None
    remember(value)
    return value


def seal(value: bytes) -> bytes:
    """Encrypt what is personal rather than a secret of ours, such as a payload, with the first key.

    AES-256-GCM (NIST SP 800-38D) with a random nonce: many times cheaper than Fernet, which matters where
    thousands come in a second, and without its base64. The first four bytes say which key it is.
    Raises :class:`Unresolvable` without a key.
    """
    ring = _ring(tuple(settings.ENCRYPTION_KEYS))
    name, key = next(iter(ring.items()))
    nonce = os.urandom(_NONCE)
    return name + nonce + key.encrypt(nonce, value, name)


def unseal(sealed: bytes) -> bytes:
    """The reverse: what was sealed, to the bit. Raises :class:`Unresolvable` when no key opens it."""
    sealed = bytes(sealed)
    name, rest = sealed[:_NAME_BYTES], sealed[_NAME_BYTES:]
    key = _ring(tuple(settings.ENCRYPTION_KEYS)).get(name)
    if key is not None:
        try:
            return key.decrypt(rest[:_NONCE], rest[_NONCE:], name)
        except (InvalidTag, ValueError):
            pass
    raise Unresolvable("the encrypted value", "no key in WSMON_ENCRYPTION_KEYS opens it")


def _resolve_name(reference: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise Unresolvable(reference, "is not the name of an environment variable")
    value = lookup(name)
    if value is None:
        raise Unresolvable(reference, f"neither {name} nor {name}_FILE is set, or it is empty")
    return value


def _resolve_path(reference: str, scheme: str, path: str) -> str:
    if scheme != "file":
        raise Unresolvable("the value", "is no reference; write env:NAME or file:PATH")
    try:
        value = read_file(path)
    except ValueError as error:
        raise Unresolvable(reference, str(error)) from None
    if not value:
        raise Unresolvable(reference, "the file is empty")
    return value


def read_file(path: str) -> str:
    """A small regular file without its last line end; ValueError says why not (a FIFO would hang us).

    "Small" is 64 KiB. The message names neither the path nor anything of the content.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValueError("is not a regular file")
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None
    if len(content) > _LARGEST_FILE:
        raise ValueError(f"is larger than {_LARGEST_FILE} bytes")
    try:
        return content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None


def _complain_once(name: str, why: str) -> None:
    if (name, why) not in _complained:
        _complained.add((name, why))
        _log.warning("the file in %s %s", name, why)


@lru_cache(maxsize=8)
def _fernet(keys: tuple[str, ...]) -> MultiFernet:
    if not keys:
        raise Unresolvable("WSMON_ENCRYPTION_KEYS", "is not set, so that nothing can be encrypted or opened")
    return MultiFernet([Fernet(_fernet_key(key)) for key in keys])


@lru_cache(maxsize=8)
def _ring(keys: tuple[str, ...]) -> dict[bytes, AESGCM]:
    """Keys of their own for :func:`seal`, made of the configured ones, by their names; the first is the newest."""
    if not keys:
        raise Unresolvable("WSMON_ENCRYPTION_KEYS", "is not set, so that nothing can be encrypted or opened")
    made = [hashlib.blake2b(_fernet_key(key), digest_size=32, person=b"wsmon sealing").digest() for key in keys]
    names = [hashlib.blake2b(key, digest_size=_NAME_BYTES, person=b"wsmon key name").digest() for key in made]
    return {name: AESGCM(key) for name, key in zip(names, made, strict=True)}


def _fernet_key(key: str) -> bytes:
    """The key itself when it is a Fernet key (32 bytes in URL-safe base64), else its SHA-256."""
    try:
        if len(base64.b64decode(key, altchars=b"-_", validate=True)) == 32:
            return key.encode()
    except (binascii.Error, ValueError):
        pass
    return base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest())
