"""Signed notes, verifier keys and checkpoints of C2SP (signed-note, tlog-checkpoint), with Ed25519 signatures.

```
legion.registry/0123456789abcdef                            origin
42                                                          entries in the tree
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=                root, base64
previous bMq1...=                                           extension line: SHA-256 of the note before, if any
                                                            empty line
— legion.registry/0123456789abcdef Az3g...=                 key ID (4 bytes) and signature (64 bytes), base64
```
The extension line chains the notes, so one signature that holds vouches for every byte of every note before it.
There is one way to write a note: `Checkpoint.parse` writes what it read anew and compares, so that base64's spare
bits, further lines and further signatures are refused.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self, final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from legion.foundation.errors import IntegrityError, InvalidValueError
from legion.neuro_architecture.registry.translog.merkle import HASH_BYTES

__all__ = ["Checkpoint", "Signer", "VerifierKey", "check_name", "checkpoint_head", "verify_note"]

_ED25519: Final = b"\x01"
_ID_BYTES: Final = 4
_SIGNATURE_BYTES: Final = 64
_DASH: Final = "— "
_PREVIOUS: Final = "previous "
_PRIVATE: Final = "PRIVATE+KEY+"
_MAX_SIGNATURES: Final = 16


def check_name(name: str) -> str:
    """`name`, when a key may have it. Source: C2SP signed-note, "Format".

    Raises:
        InvalidValueError: it is empty, or has a space, a plus or a control character.
    """
    if name and not any(character.isspace() or character == "+" or character < " " for character in name):
        return name
    raise InvalidValueError(f"a key cannot be named {name!r}", cause="it may hold no space, plus or control character")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """A public Ed25519 key with its name. Source: C2SP signed-note, "Verifier keys".

    Attributes:
        name: Of the signer; a log's is its origin.
        key_id: SHA-256(name || 0x0A || 0x01 || public)[:4].
        public: 32 bytes, RFC 8032.
    """

    name: str
    key_id: bytes
    public: bytes

    @classmethod
    def of(cls, name: str, public: bytes) -> Self:
        """The key with these 32 bytes.

        Raises:
            InvalidValueError: no key has such a name or length.
        """
        if len(public) != HASH_BYTES:
            raise InvalidValueError(f"a public key has 32 bytes, this one {len(public)}")
        key_id = sha256(check_name(name).encode() + b"\n" + _ED25519 + public).digest()[:_ID_BYTES]
        return cls(name=name, key_id=key_id, public=public)

    @classmethod
    def parse(cls, vkey: str) -> Self:
        """The key in `name+hex+base64`.

        Raises:
            InvalidValueError: it is not such a text, or its parts do not belong together.
        """
        parts = vkey.split("+", 2)
        material = _decode(parts[2]) if len(parts) == 3 else None
        if material is None or material[:1] != _ED25519:
            raise InvalidValueError(f"{vkey!r} is no Ed25519 verifier key", cause="the form is name+hex+base64")
        key = cls.of(parts[0], material[1:])
        if str(key) != vkey:
            raise InvalidValueError(
                f"verifier key {vkey!r} is altered", cause=f"its key ID would be {key.key_id.hex()}"
            )
        return key

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{_encode(_ED25519 + self.public)}"

    def has_signed(self, text: bytes, signature: bytes) -> bool:
        """Whether the 64 bytes are this key's signature of the text."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except InvalidSignature:
            return False
        return True


@final
class Signer:
    """A private Ed25519 key with its name.

    Args:
        name: Of the signer; a log's is its origin.
        private: The key.
    """

    def __init__(self, name: str, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.verifier = VerifierKey.of(name, private.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, name: str) -> Self:
        """A fresh key from the system's randomness."""
        return cls(name, Ed25519PrivateKey.generate())

    @classmethod
    def parse(cls, secret: str) -> Self:
        """The key in `PRIVATE+KEY+name+hex+base64`, the form of Go's sumdb/note.

        Raises:
            InvalidValueError: it is not such a text; the message does not repeat it.
        """
        parts = secret.removeprefix(_PRIVATE).split("+", 2)
        material = _decode(parts[2]) if secret.startswith(_PRIVATE) and len(parts) == 3 else None
        if material is None or material[:1] != _ED25519 or len(material) != 1 + HASH_BYTES:
            raise InvalidValueError("this is no private Ed25519 key", cause=f"the form is {_PRIVATE}name+hex+base64")
        signer = cls(parts[0], Ed25519PrivateKey.from_private_bytes(material[1:]))
        if signer.secret() != secret:
            raise InvalidValueError(f"the private key of {parts[0]!r} is altered", cause="its key ID is another")
        return signer

    def secret(self) -> str:
        """`PRIVATE+KEY+name+hex+base64`; whoever has it can write the log."""
        key = self.verifier
        return f"{_PRIVATE}{key.name}+{key.key_id.hex()}+{_encode(_ED25519 + self._private.private_bytes_raw())}"

    def sign(self, text: bytes) -> bytes:
        """The note of this text, which ends in a newline."""
        signature = _encode(self.verifier.key_id + self._private.sign(text))
        return text + f"\n{_DASH}{self.verifier.name} {signature}\n".encode()

    def sign_bytes(self, content: bytes) -> bytes:
        """The bare signature of these bytes, 64 bytes. What is signed must tell by itself that it is no note."""
        return self._private.sign(content)

    def checkpoint(self, *, size: int, root: bytes, previous: Checkpoint | None) -> Checkpoint:
        """The signed checkpoint of a tree, chained to the one before."""
        link = previous.digest if previous else None
        note = self.sign(_text(self.verifier.name, size, root, link))
        return Checkpoint(origin=self.verifier.name, size=size, root=root, previous=link, note=note)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a log says of itself at one size. Source: C2SP tlog-checkpoint.

    Attributes:
        origin: The log's name.
        size: Entries in the tree.
        root: Of the tree, 32 bytes.
        previous: SHA-256 of the note before, or None for the first.
        note: The signed note, every byte of it.
    """

    origin: str
    size: int
    root: bytes
    previous: bytes | None
    note: bytes

    @property
    def digest(self) -> bytes:
        """SHA-256 of the note, 32 bytes: what the next one calls `previous`."""
        return sha256(self.note).digest()

    def __str__(self) -> str:
        return f"{self.size} entries, root {self.root.hex()[:12]}"

    @classmethod
    def parse(cls, note: bytes) -> Self:
        """The checkpoint in a note with one signature; the signature is not verified.

        Raises:
            IntegrityError: it has another form, or could be written otherwise.
        """
        try:
            text, signature = note.decode().rsplit("\n\n", 1)
            origin, size, root, *rest = text.split("\n")
            line = rest[0] if rest else ""
            link = _decode(line.removeprefix(_PREVIOUS)) if line else None
            decoded = _decode(root)
            checkpoint = cls(origin=origin, size=int(size), root=decoded or b"", previous=link, note=note)
        except ValueError as error:  # UnicodeDecodeError is one
            raise IntegrityError("this is no checkpoint", cause=f"it has not the lines of one: {error}") from error
        checkpoint._check_form(signature)
        return checkpoint

    def _check_form(self, signature: str) -> None:
        head, _, encoded = signature.removesuffix("\n").rpartition(" ")
        decoded = _decode(encoded) or b""
        rebuilt = _text(self.origin, self.size, self.root, self.previous)
        rebuilt += f"\n{_DASH}{self.origin} {encoded}\n".encode()
        is_whole = len(self.root) == HASH_BYTES and len(decoded) == _ID_BYTES + _SIGNATURE_BYTES
        is_linked = self.previous is None or len(self.previous) == HASH_BYTES
        if not (is_whole and is_linked and head == _DASH + self.origin and rebuilt == self.note and self.size >= 0):
            raise IntegrityError("this is no checkpoint", cause="it is not written as checkpoints are, byte for byte")

    @classmethod
    def open(cls, note: bytes, key: VerifierKey) -> Self:
        """The checkpoint in a note that this key signed.

        Raises:
            IntegrityError: it has another form, or the key did not sign it.
        """
        checkpoint = cls.parse(note)
        checkpoint.verify(key)
        return checkpoint

    def verify(self, key: VerifierKey) -> None:
        """Raises IntegrityError unless the key signed it."""
        text, _, signature = self.note.rpartition(b"\n\n")
        decoded = _decode(signature.decode().rpartition(" ")[2].removesuffix("\n")) or b""
        if self.origin != key.name:
            raise IntegrityError(f"the checkpoint is of log {self.origin!r}, not {key.name!r}")
        if decoded[:_ID_BYTES] != key.key_id:
            raise IntegrityError(
                f"the checkpoint of {self} is signed by another key",
                cause=f"the pinned key has the ID {key.key_id.hex()}, the signer's is {decoded[:_ID_BYTES].hex()}",
            )
        if not key.has_signed(text + b"\n", decoded[_ID_BYTES:]):
            raise IntegrityError(f"the signature under the checkpoint of {self} does not hold", cause=f"key {key}")


def verify_note(note: bytes, key: VerifierKey) -> bytes:
    """The text of any signed note that this key signed; signatures of other keys are passed over.

    Source: C2SP signed-note, "Signatures".

    Raises:
        IntegrityError: it is no note, this key's signature does not hold, or there is none.
    """
    try:
        decoded = note.decode()
    except UnicodeDecodeError as error:
        raise IntegrityError("this is no signed note", cause=str(error)) from error
    text, separator, signatures = decoded.rpartition("\n\n")
    lines = signatures.removesuffix("\n").split("\n")
    if not separator or not signatures.endswith("\n") or len(lines) > _MAX_SIGNATURES or _has_control(decoded):
        raise IntegrityError("this is no signed note", cause="it has not the text, the empty line and the signatures")
    is_signed = False
    for line in lines:
        name, _, encoded = line.removeprefix(_DASH).partition(" ")
        material = _decode(encoded)
        if not line.startswith(_DASH) or not name or material is None or len(material) <= _ID_BYTES:
            raise IntegrityError("this is no signed note", cause=f"{line!r} is no signature")
        if (name, material[:_ID_BYTES]) == (key.name, key.key_id):
            if not key.has_signed(f"{text}\n".encode(), material[_ID_BYTES:]):
                raise IntegrityError("the signature under the note does not hold", cause=f"key {key}")
            is_signed = True
    if not is_signed:
        raise IntegrityError("the note is not signed by the key", cause=f"key {key}")
    return f"{text}\n".encode()


def checkpoint_head(origin: str, size: int, root: bytes, previous: bytes | None) -> bytes:
    """The note of such a checkpoint up to its signature's base64."""
    return _text(origin, size, root, previous) + f"\n{_DASH}{origin} ".encode()


def _has_control(text: str) -> bool:
    return any(character < " " and character != "\n" for character in text)


def _text(origin: str, size: int, root: bytes, previous: bytes | None) -> bytes:
    link = f"{_PREVIOUS}{_encode(previous)}\n" if previous is not None else ""
    return f"{origin}\n{size}\n{_encode(root)}\n{link}".encode()


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _decode(text: str) -> bytes | None:
    """The bytes, or None where the text is not the one way to write them."""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # ValueError: not ASCII
        return None
    return content if _encode(content) == text else None
