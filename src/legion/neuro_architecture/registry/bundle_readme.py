"""What a bundle tells whoever opens it. It is part of the format: a bundle holds exactly these bytes."""

from __future__ import annotations

from typing import Final

__all__ = ["README"]

README: Final = rb"""One snapshot of a Legion architecture registry, with the proof that the registry holds it.
Bundle format 1.

  key.pub          the registry's public key: name+ID+base64 of 0x01 and the Ed25519 key (C2SP signed-note)
  checkpoint       what the registry signed: its name, its number of entries, the root of its Merkle tree (C2SP
                   tlog-checkpoint)
  proof.json       which entry this is, and the path from it to that root (RFC 9162)
  entry.json       the entry itself, byte for byte: architecture, metrics, where it comes from, digests of its files
  statement.json   where it comes from as an in-toto statement with SLSA provenance, signed in a DSSE envelope (may be
                   left out)
  blobs/sha256/    its files, each named by the SHA-256 of its bytes

Is key.pub the right key? Nothing in this file can tell you. Compare it with the key that the registry's owner gave you
by another way. With the wrong key all that follows says only that whoever has THAT key signed it.

With legion: `legion registry verify --help` says how to give it this file and that key.

Without legion, in an empty folder, with tar, python3 (nothing beyond its standard library) and openssl (1.1.1 or
later): unpack with `tar -xf FILE`, then save the lines between the two rulers as check.sh and run `sh check.sh`. It
ends with "all of it holds", or says what does not.

----------------------------------------------------------------------------------------------------------------------
set -e
python3 -I - <<'END'
import base64, hashlib, json, os, sys

def read(name):
    with open(name, "rb") as file:
        return file.read()

def write(name, content):
    with open(name, "wb") as file:
        file.write(content)

def check(holds, problem):
    if not holds:
        sys.exit("DOES NOT HOLD: " + problem)

def sha256(data):
    return hashlib.sha256(data).digest()

# The key, as openssl reads it.
name, key_id, encoded = read("key.pub").decode().rstrip("\n").split("+", 2)
material = base64.b64decode(encoded, validate=True)
check(material[:1] == b"\1" and len(material) == 33, "key.pub holds no Ed25519 key")
check(sha256(name.encode() + b"\n" + material).hex()[:8] == key_id, "key.pub is altered")
write("key.der", bytes.fromhex("302a300506032b6570032100") + material[1:])

# What was signed, and the signature, for openssl below.
text, _, signed = read("checkpoint").decode().rpartition("\n\n")
dash, signer, encoded = signed.rstrip("\n").split(" ")
signature = base64.b64decode(encoded, validate=True)
check(signer == name and signature[:4].hex() == key_id, "checkpoint is signed by another key")
write("checkpoint.message", text.encode() + b"\n")
write("checkpoint.signature", signature[4:])
origin, size, root = text.split("\n")[:3]
check(origin == name, "checkpoint is of another registry")

# From the entry to the root (RFC 9162, section 2.1.3.2).
entry, proof = read("entry.json"), json.loads(read("proof.json"))
first, last, node = proof["number"], int(size) - 1, sha256(b"\0" + entry)
check(0 <= first <= last, "proof.json names no entry of that tree")
for sibling in map(bytes.fromhex, proof["path"]):
    check(last > 0, "proof.json has too many steps")
    if first & 1 or first == last:
        node = sha256(b"\1" + sibling + node)
        while first and not first & 1:
            first, last = first >> 1, last >> 1
    else:
        node = sha256(b"\1" + node + sibling)
    first, last = first >> 1, last >> 1
check(last == 0 and node == base64.b64decode(root), "entry.json is not in the signed tree")

# The files.
snapshot = json.loads(entry)["snapshot"]
wanted = {digest.split(":")[1] for digest in snapshot["blobs"].values()}
found = set(os.listdir("blobs/sha256")) if os.path.isdir("blobs/sha256") else set()
check(found == wanted, "blobs/sha256 does not hold exactly the snapshot's files")
for digest in sorted(wanted):
    state = hashlib.sha256()
    with open("blobs/sha256/" + digest, "rb") as file:
        while chunk := file.read(1 << 20):
            state.update(chunk)
    check(state.hexdigest() == digest, "blobs/sha256/" + digest + " is altered")

# The statement, if it is there: what was signed, for openssl below (DSSE's pre-authentication encoding).
if os.path.exists("statement.json"):
    envelope = json.loads(read("statement.json"))
    kind, body = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"], validate=True)
    write("statement.message", b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(body), body))
    write("statement.signature", base64.b64decode(envelope["signatures"][0]["sig"], validate=True))
    subjects = {subject["digest"]["sha256"] for subject in json.loads(body)["subject"]}
    check(wanted < subjects, "statement.json does not speak of the snapshot's files")
END
for signed in checkpoint statement; do
  if [ -e "$signed.message" ]; then
    openssl pkeyutl -verify -pubin -keyform DER -inkey key.der -rawin -in "$signed.message" -sigfile "$signed.signature"
  fi
done
echo "all of it holds, if this is the registry's key: $(cat key.pub)"
----------------------------------------------------------------------------------------------------------------------

The same for the files alone: (cd blobs/sha256 && sha256sum *) prints each name twice.
"""
