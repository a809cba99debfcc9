from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from legion.foundation.errors import IntegrityError, InvalidValueError
from legion.neuro_architecture.registry.translog import Checkpoint, Signer, VerifierKey, hash_leaf, verify_note

# The example of C2SP's signed-note.
VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
NOTE = (
    "This is an example message.\n\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()
NAME = "legion.registry/0123456789abcdef"
SIGNER = Signer(NAME, Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
KEY = SIGNER.verifier
FIRST = SIGNER.checkpoint(size=1, root=hash_leaf(b"a"), previous=None)
SECOND = SIGNER.checkpoint(size=7, root=hash_leaf(b"b"), previous=FIRST)


def test_the_example_of_the_specification_verifies():
    key = VerifierKey.parse(VKEY)
    assert (key.name, key.key_id.hex(), str(key)) == ("example.com/foo", "530d903a", VKEY)
    assert verify_note(NOTE, key) == b"This is an example message.\n"


def test_a_signature_of_another_key_is_passed_over_and_one_of_the_key_must_hold():
    key = VerifierKey.parse(VKEY)
    other = NOTE.decode() + SIGNER.sign(b"This is an example message.\n").decode().rpartition("\n\n")[2]
    assert verify_note(other.encode(), key) == b"This is an example message.\n"
    assert verify_note(other.encode(), KEY) == b"This is an example message.\n"
    with pytest.raises(IntegrityError, match="not signed by the key"):
        verify_note(NOTE, KEY)
    with pytest.raises(IntegrityError, match="does not hold"):
        verify_note(NOTE.replace(b"example message", b"altered message"), key)


def test_a_key_id_is_the_hash_that_the_specification_says():
    assert KEY.key_id == hashlib.sha256(f"{NAME}\n".encode() + b"\x01" + KEY.public).digest()[:4]
    assert VerifierKey.parse(str(KEY)) == KEY


def test_cryptography_verifies_the_signature_over_the_text():
    text, _, line = SECOND.note.decode().rpartition("\n\n")
    material = base64.b64decode(line.rsplit(" ", 1)[1])
    assert material[:4] == KEY.key_id
    Ed25519PublicKey.from_public_bytes(KEY.public).verify(material[4:], f"{text}\n".encode())
    assert line.startswith(f"— {NAME} ")


def test_a_checkpoint_has_the_lines_of_tlog_checkpoint_and_names_the_note_before():
    lines = SECOND.note.decode().split("\n")
    assert lines[:3] == [NAME, "7", base64.b64encode(hash_leaf(b"b")).decode()]
    assert lines[3] == "previous " + base64.b64encode(hashlib.sha256(FIRST.note).digest()).decode()
    assert lines[4] == ""
    assert FIRST.note.decode().split("\n")[3] == ""
    assert Checkpoint.open(SECOND.note, KEY) == SECOND
    assert verify_note(SECOND.note, KEY) == SECOND.note.rpartition(b"\n\n")[0] + b"\n"


@given(st.sampled_from([FIRST, SECOND]), st.data())
def test_no_byte_of_a_checkpoint_can_be_changed_removed_or_added(checkpoint, data):
    note = checkpoint.note
    at = data.draw(st.integers(0, len(note) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != note[at]))
    altered = [note[:at] + bytes([byte]) + note[at + 1 :], note[:at] + note[at + 1 :], note[:at]]
    added = note[:at] + bytes([byte]) + note[at:]
    for other in [*altered, added, note + b"\n", b"\n" + note, note.replace(b"\n", b"\r\n")]:
        with pytest.raises(IntegrityError):
            Checkpoint.open(other, KEY)


def test_every_flipped_bit_of_a_checkpoint_is_refused():
    for at in range(len(SECOND.note)):
        for bit in range(8):
            altered = bytearray(SECOND.note)
            altered[at] ^= 1 << bit
            with pytest.raises(IntegrityError):
                Checkpoint.open(bytes(altered), KEY)


def test_spare_bits_of_base64_extra_lines_and_extra_signatures_are_refused():
    note = SECOND.note.decode()
    root = base64.b64encode(SECOND.root).decode()
    spare = root[:-2] + chr(ord(root[-2]) + 1) + "="
    assert base64.b64decode(spare) == SECOND.root
    line = note.rpartition("\n\n")[2]
    tail = line[-3]
    forms = [
        note.replace(root, spare),
        note.replace(tail + "=\n", chr(ord(tail) + 1) + "=\n"),
        note.replace(f"{root}\n", f"{root}\nmore\n"),
        note + line,
        note.replace("\n7\n", "\n07\n"),
        note.replace("\n7\n", "\n+7\n"),
        note.replace("\n7\n", "\n7 \n"),
        note.replace("\n7\n", "\n٧\n"),
        note.replace("— ", "—  "),
        note.replace(root, root.rstrip("=")),
    ]
    for form in forms:
        assert form != note
        with pytest.raises(IntegrityError):
            Checkpoint.open(form.encode(), KEY)


def test_a_checkpoint_of_another_key_or_another_log_is_refused_by_name():
    other = Signer.generate(NAME)
    with pytest.raises(IntegrityError, match="signed by another key") as caught:
        Checkpoint.open(other.checkpoint(size=1, root=hash_leaf(b"a"), previous=None).note, KEY)
    assert KEY.key_id.hex() in caught.value.cause
    stranger = Signer.generate("legion.registry/fedcba9876543210")
    with pytest.raises(IntegrityError, match="of log"):
        Checkpoint.open(stranger.checkpoint(size=1, root=hash_leaf(b"a"), previous=None).note, KEY)


def test_a_private_key_survives_as_text_and_is_not_repeated_in_errors():
    secret = SIGNER.secret()
    assert secret.startswith(f"PRIVATE+KEY+{NAME}+{KEY.key_id.hex()}+")
    assert Signer.parse(secret).verifier == KEY
    for altered in (secret[:-3] + "AA=", secret.replace("PRIVATE", "private"), secret.replace("0123", "0124"), "x", ""):
        with pytest.raises(InvalidValueError) as caught:
            Signer.parse(altered)
        assert secret[-20:] not in caught.value.render()


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u00a0b", "a\nb", "a\tb"])
def test_a_key_cannot_be_named_so(name):
    with pytest.raises(InvalidValueError):
        VerifierKey.of(name, KEY.public)


@pytest.mark.parametrize(
    "vkey", ["", "a", "a+b+c", VKEY[:-1], VKEY + "=", VKEY.replace("530d903a", "530D903A"), VKEY.replace("foo", "bar")]
)
def test_an_altered_verifier_key_is_refused(vkey):
    with pytest.raises(InvalidValueError):
        VerifierKey.parse(vkey)


@pytest.mark.parametrize(
    "note",
    [b"", b"text\n", b"text\n\n", b"\xff\n\n", b"a\tb\n\n" + NOTE.rpartition(b"\n\n")[2], NOTE[:-1], NOTE + b"x\n"],
)
def test_what_is_no_note_is_refused(note):
    with pytest.raises(IntegrityError):
        verify_note(note, VerifierKey.parse(VKEY))
