"""A bundle says what it proves and no more, and every byte of it is accounted for."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st
from tests.registry.bundles import AT, FILES, ORIGIN, Tree, snapshot_of

from legion.foundation.canonical import canonical_json, digest_bytes
from legion.foundation.errors import IntegrityError, InvalidValueError, WorldError
from legion.neuro_architecture.registry.archive import end_of_archive, header_of, padding_of
from legion.neuro_architecture.registry.bundle import open_bundle, read_bundle, verify_bundle, write_bundle
from legion.neuro_architecture.registry.bundle_readme import README
from legion.neuro_architecture.registry.bundle_report import UNVOUCHED
from legion.neuro_architecture.registry.statement import make_statement, sign_statement
from legion.neuro_architecture.registry.translog import TransparencyLog, VerifierKey
from legion.neuro_architecture.spec.entries import TagsEntry

README_DIGEST = "sha256:64f88ac88b3617ae98d4f65ff5115b7819b1b47ee6864209d121d887ee75e45e"


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree()


@pytest.fixture(scope="module")
def sound(tree, tmp_path_factory):
    return tree.write(tmp_path_factory.mktemp("bundle") / "sound.tar")


@pytest.fixture
def damaged(tmp_path):
    """Writes other bytes and gives the report."""

    def check(content: bytes, *trusted: str):
        path = tmp_path / "damaged.tar"
        path.write_bytes(content)
        return verify_bundle(path, trusted)

    return check


def parts_of(path) -> list[tuple[str, bytes]]:
    """Names and contents, read by Python's own tarfile."""
    with tarfile.open(path) as archive:
        return [(member.name, archive.extractfile(member).read()) for member in archive]


def joined(parts) -> bytes:
    return b"".join(header_of(name, len(content)) + content + padding_of(len(content)) for name, content in parts) + (
        end_of_archive()
    )


def test_a_sound_bundle_is_verified_under_the_trusted_key(sound, tree):
    report = verify_bundle(sound, [tree.vkey])
    assert report.is_sound
    assert report.verdict == f"verified under the trusted key {tree.vkey}"
    assert (report.snapshot, report.entry_number, report.log_size) == (tree.snapshot.digest, 3, 7)
    assert (report.num_blobs, report.blob_bytes) == (3, sum(map(len, FILES.values())))
    assert report.has_statement
    assert json.loads(json.dumps(report.to_dict()))["origin"] == ORIGIN


def test_without_a_trusted_key_the_answer_says_that_nobody_vouched(sound, tree):
    report = verify_bundle(sound)
    assert report.is_sound
    assert report.verdict == UNVOUCHED
    assert UNVOUCHED in report.lines()[0]
    assert tree.vkey in report.lines()[-1]


def test_another_trusted_key_is_a_no(sound):
    other = str(VerifierKey.of(ORIGIN, Ed25519PrivateKey.generate().public_key().public_bytes_raw()))
    report = verify_bundle(sound, [other])
    assert not report.is_sound
    assert report.vkey is None
    assert ("key.pub", "key not trusted") in {(flaw.member, flaw.kind) for flaw in report.flaws}


def test_the_same_contents_give_the_same_bytes(sound, tree, tmp_path):
    assert tree.write(tmp_path / "again.tar").read_bytes() == sound.read_bytes()


def test_what_was_written_is_read(sound, tree):
    assert read_bundle(sound, [tree.vkey]) == tree.contents()
    with open_bundle(sound) as bundle:
        for digest, content in FILES.items():
            target = io.BytesIO()
            assert bundle.copy_blob(digest, target) == len(content)
            assert target.getvalue() == content
        with pytest.raises(IntegrityError, match="holds no file"):
            bundle.copy_blob(digest_bytes(b"other"), io.BytesIO())


def test_a_statement_may_be_left_out(tree, tmp_path):
    path = tree.write(tmp_path / "bare.tar", statement=None)
    report = verify_bundle(path, [tree.vkey])
    assert report.is_sound
    assert not report.has_statement
    assert read_bundle(path).statement is None


def _region(sound, position: int) -> tuple[str, int, int]:
    """The file in the archive that a byte belongs to, with where header and padding begin and end."""
    with tarfile.open(sound) as archive:
        for member in archive:
            stop = member.offset_data + member.size + len(padding_of(member.size))
            if member.offset <= position < stop:
                return member.name, member.offset, stop
        return "(archive)", stop, sound.stat().st_size


def test_a_flipped_bit_is_found_and_located_wherever_it_is(sound, tree, damaged):
    content = sound.read_bytes()
    for position in range(0, len(content), 13):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        for trusted in ((), (tree.vkey,)):
            report = damaged(bytes(changed), *trusted)
            assert not report.is_sound, position
            name, start, stop = _region(sound, position)
            assert all(start <= flaw.offset < stop for flaw in report.flaws), (position, report.lines())
            in_header = position - start < 512
            assert in_header or {flaw.member for flaw in report.flaws} == {name}, (position, report.lines())


@settings_of_hypothesis(max_examples=60)
@given(st.data())
def test_no_change_of_any_bytes_goes_unseen(sound, tmp_path_factory, data):
    content = sound.read_bytes()
    start = data.draw(st.integers(0, len(content) - 1))
    stop = data.draw(st.integers(start, min(len(content), start + 600)))
    put = data.draw(st.binary(max_size=64))
    path = tmp_path_factory.mktemp("changed") / "changed.tar"
    path.write_bytes(content[:start] + put + content[stop:])
    assert verify_bundle(path).is_sound == (path.read_bytes() == content)


def test_every_cut_is_a_truncation(sound, damaged):
    content = sound.read_bytes()
    for length in (*range(0, len(content), 1009), len(content) - 1, len(content) - 512, len(content) - 1024):
        assert [flaw.kind for flaw in damaged(content[:length]).flaws] == ["truncated"], length


@pytest.mark.parametrize("tail", [b"x", bytes(512), b"\0"])
def test_what_follows_the_end_is_refused(sound, damaged, tail):
    report = damaged(sound.read_bytes() + tail)
    assert [flaw.kind for flaw in report.flaws] == ["trailing data"]
    assert report.flaws[0].offset == sound.stat().st_size


def _kinds(report) -> set[tuple[str, str]]:
    return {(flaw.member, flaw.kind) for flaw in report.flaws}


def test_a_missing_part_is_named(sound, damaged):
    parts = parts_of(sound)
    for name, _ in parts:
        report = damaged(joined([part for part in parts if part[0] != name]))
        if name == "statement.json":
            assert not report.has_statement
        else:
            assert (name, "missing") in _kinds(report), name


def test_a_repeated_part_is_named(sound, damaged):
    parts = parts_of(sound)
    for place, (name, _) in enumerate(parts):
        assert (name, "duplicate") in _kinds(damaged(joined([*parts[: place + 1], *parts[place:]])))


def test_another_order_is_refused(sound, damaged):
    parts = parts_of(sound)
    for place in range(len(parts) - 1):
        swapped = [*parts[:place], parts[place + 1], parts[place], *parts[place + 2 :]]
        assert (parts[place][0], "out of order") in _kinds(damaged(joined(swapped)))


@pytest.mark.parametrize("name", ["../key.pub", "/etc/passwd", "blobs/sha256/../../x", "a\\b", "blobs/../entry.json"])
def test_a_name_that_leads_out_is_refused(sound, damaged, name):
    assert (name, "forbidden") in _kinds(damaged(joined([*parts_of(sound), (name, b"x")])))


@pytest.mark.parametrize("name", ["notes.txt", "blobs/sha256/" + "0" * 63, "blobs/sha256/" + "G" * 64, "KEY.PUB"])
def test_a_part_of_another_name_is_refused(sound, damaged, name):
    assert (name, "unexpected") in _kinds(damaged(joined([*parts_of(sound), (name, b"x")])))


def test_a_file_that_the_snapshot_does_not_name_is_refused(sound, damaged):
    content = b"stowaway"
    name = "blobs/sha256/" + hashlib.sha256(content).hexdigest()
    parts = sorted([*parts_of(sound)[6:], (name, content)])
    assert (name, "unexpected") in _kinds(damaged(joined([*parts_of(sound)[:6], *parts])))


ODD_TYPES = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"5": "a folder",
    b"6": "a named pipe",
    b"x": "an extended header",
    b"L": "a long name of GNU tar",
    b"S": "a sparse file of GNU tar",
}


@pytest.mark.parametrize("kind", sorted(ODD_TYPES))
def test_whatever_is_no_plain_file_is_refused_by_name(sound, damaged, kind):
    info = tarfile.TarInfo("entry.json")
    info.type, info.linkname, info.mode = kind, "/etc/passwd", 0o644
    content = sound.read_bytes()[:-1024] + info.tobuf(tarfile.USTAR_FORMAT) + end_of_archive()
    (flaw,) = damaged(content).flaws
    assert (flaw.member.rstrip("/"), flaw.kind) == ("entry.json", "forbidden")
    assert ODD_TYPES[kind] in flaw.detail


def test_a_size_beyond_the_file_costs_no_memory_and_is_named(damaged):
    (flaw,) = damaged(header_of("README.txt", 8**11 - 1) + b"x" * 600).flaws
    assert (flaw.member, flaw.kind) == ("README.txt", "truncated")


def test_a_part_larger_than_its_bound_is_not_read(sound, damaged):
    parts = [(name, content + b" " * 5000 if name == "key.pub" else content) for name, content in parts_of(sound)]
    assert ("key.pub", "too large") in _kinds(damaged(joined(parts)))


def test_who_recomputes_everything_without_the_key_is_found(tree, tmp_path):
    forger = Tree(
        snapshot=snapshot_of(metrics={"accuracy": 0.99}), private=Ed25519PrivateKey.from_private_bytes(bytes(32))
    )
    path = forger.write(tmp_path / "forged.tar")
    assert verify_bundle(path).verdict == UNVOUCHED
    report = verify_bundle(path, [tree.vkey])
    assert not report.is_sound
    assert "not verified" in report.verdict


def test_a_statement_about_another_snapshot_is_refused(tree, tmp_path):
    other = sign_statement(make_statement(snapshot_of(revision=2)), tree.private.sign, tree.vkey)
    with pytest.raises(IntegrityError, match="make no bundle") as caught:
        tree.write(tmp_path / "x.tar", statement=other)
    assert "statement.json" in caught.value.cause
    assert list(tmp_path.iterdir()) == []


def test_an_entry_that_registers_no_snapshot_is_refused(tree, tmp_path):
    entry = canonical_json(TagsEntry(at=AT, snapshot=tree.snapshot.digest, added=("a",)).to_dict())
    with pytest.raises(IntegrityError, match="make no bundle") as caught:
        tree.write(tmp_path / "x.tar", entry=entry)
    assert "registers no snapshot" in caught.value.cause


@pytest.mark.parametrize("digest", ["../../etc/passwd", "sha256:0", "md5:" + "0" * 32])
def test_a_signer_who_names_files_by_something_else_than_a_digest_is_refused(tmp_path, digest):
    signer = Tree(snapshot=snapshot_of(blobs={"a.txt": digest}))
    with pytest.raises(IntegrityError, match="make no bundle") as caught:
        signer.write(tmp_path / "x.tar", statement=None)
    assert "which is no digest" in caught.value.cause


def test_what_no_reader_would_read_is_not_written(tree, tmp_path):
    with pytest.raises(IntegrityError, match="make no bundle") as caught:
        tree.write(tmp_path / "x.tar", statement=bytes((16 << 20) + 1))
    assert "too large" in caught.value.cause


def test_a_proof_of_another_entry_is_refused(tree, tmp_path):
    proof = tree.contents().proof
    with pytest.raises(IntegrityError) as caught:
        tree.write(tmp_path / "x.tar", proof=replace(proof, number=2))
    assert "proof.json" in caught.value.cause


def test_a_file_that_is_not_what_its_digest_says_makes_no_bundle(tree, tmp_path):
    with pytest.raises(IntegrityError, match="is not what its digest says"):
        write_bundle(tmp_path / "x.tar", tree.contents(), lambda _digest: io.BytesIO(b"other"))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_is_one_error_and_leaves_nothing(tree, tmp_path):
    def refuse(_digest):
        raise OSError(28, "No space left on device")

    with pytest.raises(WorldError, match="cannot write"):
        write_bundle(tmp_path / "x.tar", tree.contents(), refuse)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "none"):
        with pytest.raises(InvalidValueError):
            verify_bundle(path)


def test_a_file_changed_after_it_was_verified_is_found_when_it_is_copied(tree, tmp_path):
    path = tree.write(tmp_path / "x.tar")
    digest = max(FILES, key=lambda each: len(FILES[each]))
    with open_bundle(path) as bundle:
        assert bundle.verify([tree.vkey]).is_sound
        at = path.read_bytes().index(FILES[digest][:40])
        with path.open("r+b") as file:
            file.seek(at)
            file.write(b"!")
        with pytest.raises(IntegrityError, match="was altered"):
            bundle.copy_blob(digest, io.BytesIO())


def test_other_readers_of_archives_agree(sound, tmp_path):
    subprocess.run(["tar", "-xf", str(sound), "-C", str(tmp_path)], check=True)
    found = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == dict(parts_of(sound))
    assert {name.removeprefix("blobs/sha256/") for name in found if name.startswith("blobs")} == {
        digest.removeprefix("sha256:") for digest in FILES
    }


def test_the_readme_is_part_of_the_format():
    assert digest_bytes(README) == README_DIGEST, "a bundle with another README is another format"


def _script() -> str:
    return README.decode().split("-" * 118 + "\n")[1]


def _unpacked(sound, folder):
    subprocess.run(["tar", "-xf", str(sound), "-C", str(folder)], check=True)
    (folder / "check.sh").write_text(_script().replace("python3 -I", f"{sys.executable} -I"))
    return folder


def _check(folder):
    return subprocess.run(["sh", "check.sh"], cwd=folder, capture_output=True, text=True, check=False)


def test_the_readmes_own_script_verifies_a_bundle_without_legion(sound, tree, tmp_path):
    done = _check(_unpacked(sound, tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"all of it holds, if this is the registry's key: {tree.vkey}"
    assert done.stdout.count("Verified Successfully") == 2


ALTERATIONS = {
    "entry.json": lambda content: content.replace(b'"accuracy":0.8', b'"accuracy":0.9'),
    "checkpoint": lambda content: content.replace(b"\n7\n", b"\n8\n"),
    "key.pub": lambda content: content.replace(b"0123456789abcdef", b"0123456789abcdee"),
    "statement.json": lambda content: content.replace(b'"payload":"ey', b'"payload":"eyJ4IjoxfQ'),
    "proof.json": lambda content: content.replace(b'"number":3', b'"number":2'),
}


@pytest.mark.parametrize("name", sorted(ALTERATIONS))
def test_the_readmes_own_script_finds_an_altered_part(sound, tmp_path, name):
    folder = _unpacked(sound, tmp_path)
    before = (folder / name).read_bytes()
    (folder / name).write_bytes(ALTERATIONS[name](before))
    assert (folder / name).read_bytes() != before
    done = _check(folder)
    assert done.returncode != 0
    assert "all of it holds" not in done.stdout


def test_the_readmes_own_script_finds_an_altered_file(sound, tmp_path):
    folder = _unpacked(sound, tmp_path)
    blob = max((folder / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    blob.write_bytes(blob.read_bytes() + b"x")
    done = _check(folder)
    assert done.returncode != 0
    assert blob.name in done.stderr


def test_a_snapshot_of_a_real_log_makes_a_bundle_that_its_key_verifies(tree, tmp_path):
    log = TransparencyLog(tmp_path / "log", keys=tmp_path / "keys")
    log.append([b"%d" % number for number in range(300)])
    (number,) = log.append([tree.entry])
    log.append([b"later"])
    contents = tree.contents(
        proof=log.inclusion_proof(number), checkpoint=log.checkpoint().note, vkey=str(log.key), statement=None
    )
    path = write_bundle(tmp_path / "x.tar", contents, lambda digest: io.BytesIO(FILES[digest]))
    report = verify_bundle(path, [str(log.key)])
    assert report.is_sound, report.lines()
    assert (report.entry_number, report.log_size) == (300, 302)
    assert not verify_bundle(path, [tree.vkey]).is_sound


def test_spare_bits_of_base64_are_no_second_form(sound, damaged):
    """`YQ==` and `YR==` decode to the same byte; only one of them may stand in a signed note or a key."""
    parts = dict(parts_of(sound))
    for name in ("checkpoint", "statement.json"):
        encoded = parts[name].decode()
        place = encoded.rindex("=") - 1 if encoded.count("==") == 0 else encoded.rindex("==") - 1
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        spare = alphabet[alphabet.index(encoded[place]) ^ 1]
        other = encoded[:place] + spare + encoded[place + 1 :]
        token = encoded[: place + 3].split('"')[-1].split(" ")[-1].strip("\n")
        changed = other[: place + 3].split('"')[-1].split(" ")[-1].strip("\n")
        assert base64.b64decode(token) == base64.b64decode(changed)
        report = damaged(joined([(key, other.encode() if key == name else value) for key, value in parts.items()]))
        assert {flaw.member for flaw in report.flaws} == {name}
