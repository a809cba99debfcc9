"""Hostile input is refused, and by name."""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from legion.foundation.errors import IntegrityError, InvalidValueError
from legion.neuro_architecture.registry import pickles
from legion.neuro_architecture.registry.admission import (
    admit_alias,
    admit_file,
    admit_file_name,
    admit_json,
    admit_tags,
    admit_version,
)
from legion.neuro_architecture.registry.tensors import MAX_HEADER_BYTES, inspect_tensors

PATHS = [
    "..",
    ".",
    "../x",
    "a/../b",
    "/etc/passwd",
    "~root",
    "a//b",
    "a/",
    "C:\\x",
    "..\\x",
    "%2e%2e%2fx",
    "%252e%252e/x",
    "a/.. /b",
    "．．／x",
    "‥/x",
    "a%00b",
    "a%0ab",
    "%5cx",
    "path:../x",
    "path:/etc/passwd",
    "https://host/x",
]
ODD = ["", " a", "a\n", "a\0b", "a\x1bb", "a\u202eb", "x" * 101, None, 3, b"a"]


@pytest.mark.parametrize("label", PATHS + ODD)
def test_tags_and_versions_that_climb_or_hide_are_refused(label):
    with pytest.raises(InvalidValueError, match="tag"):
        admit_tags([label])
    with pytest.raises(InvalidValueError, match="version"):
        admit_version(label)


@pytest.mark.parametrize(
    "label", ["production", "task/summarization", "4.1.0-rc.1+build", "50 % data", "точность", "a:b"]
)
def test_plain_tags_and_versions_pass(label):
    assert admit_tags([label, label]) == (label,)
    assert admit_version(label) == label


@pytest.mark.parametrize(
    "name",
    [
        *PATHS,
        *ODD,
        "a b",
        "-x",
        ".x",
        "a/b",
        "é",
        "x" * 65,
        "0123456789abcdef",
        "f" * 64,
        "sha256:" + "0" * 64,
        "sha256",
    ],
)
def test_aliases_that_are_no_plain_word_are_refused(name):
    with pytest.raises(InvalidValueError, match="alias"):
        admit_alias(name)


@pytest.mark.parametrize("name", ["champion", "candidate", "baseline-2", "v1.2_x", "cafe"])
def test_plain_aliases_pass(name):
    assert admit_alias(name) == name


@pytest.mark.parametrize("name", [*PATHS, "a.bin", "a.pt", "a.pkl", "a.json.pickle", "a\n.json", "ä.json", "con"])
def test_file_names_of_paths_and_pickles_are_refused(name):
    with pytest.raises(InvalidValueError):
        admit_file_name(name)


def test_a_hundred_megabytes_of_metrics_are_refused_without_being_written_out(monkeypatch):
    from legion.neuro_architecture.registry import admission

    monkeypatch.setattr(admission, "canonical_json", lambda _value: pytest.fail("it was written out"))
    with pytest.raises(InvalidValueError, match=r"metrics has more than .* at most"):
        admit_json({"text": "x" * 100_000_000}, "metrics")
    with pytest.raises(InvalidValueError, match="metrics has more than"):
        admit_json({"curve": [0.5] * 5_000_000}, "metrics")
    with pytest.raises(InvalidValueError, match="metrics has more than"):
        admit_json({f"{number:0100}": 1 for number in range(20_000)}, "metrics")


def test_values_that_share_and_contain_themselves_are_refused_at_once():
    bomb: list = [0]
    for _ in range(30):
        bomb = [bomb, bomb]
    with pytest.raises(InvalidValueError, match="metrics has more than"):
        admit_json({"bomb": bomb}, "metrics")
    ring: dict = {}
    ring["ring"] = ring
    with pytest.raises(InvalidValueError, match="deeper"):
        admit_json(ring, "metrics")


def nested(depth):
    value: dict = {"a": 1}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


def test_thirty_two_levels_pass_and_no_more():
    assert admit_json(nested(32), "metrics") == nested(32)
    with pytest.raises(InvalidValueError, match="metrics is nested deeper than 32"):
        admit_json(nested(33), "metrics")


@pytest.mark.parametrize(
    "value", [math.nan, -math.inf, [{"x": math.inf}], "\ud800", {"\udfff": 1}, {1: 2}, {1, 2}, 10**400]
)
def test_evidence_that_no_json_says_is_refused_by_name(value):
    with pytest.raises(InvalidValueError, match="metrics"):
        admit_json({"value": value}, "metrics")


@pytest.fixture
def file_of(tmp_path):
    def write(content: bytes | str, name: str = "file") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "'c' is there twice"),
        ('{"a": 1, "\\u0061": 2}', "'a' is there twice"),
        ('{"a": NaN}', "NaN is no JSON number"),
        ('{"a": -Infinity}', "-Infinity"),
        ('{"a": 1e999}', "1e999 is beyond"),
        ("[" * 70 + "]" * 70, "deeper than 64"),
        ("[" * 200_000, "deeper than 64"),
        ('{"a": ' * 100_000, "deeper than 64"),
        ("1" * 5000, "4300 digits"),
        ('{"a": 1', "delimiter"),
        ("", "Expecting value"),
        (b'{"a": "\xff"}', "utf-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
    ],
)
def test_json_files_that_are_broken_or_say_two_things_are_refused(file_of, content, problem):
    with pytest.raises(InvalidValueError, match=r"a\.json") as raised:
        admit_file("a.json", file_of(content))
    assert problem in raised.value.cause


def test_lines_of_json_are_read_each(file_of):
    admit_file("a.jsonl", file_of('{"a": 1}\n\n{"a": 2}'))
    with pytest.raises(InvalidValueError, match=r"a\.jsonl") as raised:
        admit_file("a.jsonl", file_of('{"a": 1}\n{"a": 1, "a": 2}\n'))
    assert "line 2" in raised.value.cause


def test_json_files_that_are_too_long_are_refused_unread(file_of, monkeypatch):
    from legion.neuro_architecture.registry import admission

    monkeypatch.setattr(admission, "MAX_JSON_FILE_BYTES", 100)
    admit_file("a.json", file_of(b" " * 90 + b"1"))
    for name in ("a.json", "a.jsonl"):
        with pytest.raises(InvalidValueError, match=name):
            admit_file(name, file_of(b" " * 200 + b"1"))


def test_text_is_utf_8_without_zero_bytes_wherever_a_piece_ends(file_of, monkeypatch):
    from legion.neuro_architecture.registry import admission

    monkeypatch.setattr(admission, "_CHUNK_BYTES", 3)
    admit_file("a.txt", file_of("абвгд€ and so on"))
    for content in (b"abc\0", "абв".encode()[:-1], b"\xff"):
        with pytest.raises(InvalidValueError, match=r"a\.txt"):
            admit_file("a.txt", file_of(content))


def test_links_fifos_devices_and_folders_are_refused(file_of, tmp_path):
    link, fifo = tmp_path / "link", tmp_path / "fifo"
    link.symlink_to(file_of("text"))
    os.mkfifo(fifo)
    for path in (link, fifo, tmp_path, Path("/dev/zero")):
        with pytest.raises(InvalidValueError, match="no regular file"):
            admit_file("a.txt", path)
        with pytest.raises(IntegrityError, match="no regular file"):
            inspect_tensors(path)


class Bomb:
    def __reduce__(self):
        return (os.system, ("true",))


def archive_of(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    return file.getvalue()


PICKLES = {
    **{f"protocol {protocol}": pickle.dumps({"a": [1.5, "text"]}, protocol=protocol) for protocol in range(6)},
    **{f"bomb {protocol}": pickle.dumps(Bomb(), protocol=protocol) for protocol in range(6)},
    "bomb before prose": pickle.dumps(Bomb(), protocol=0) + b"\nAnd then some prose.",
    "bomb without an end": b"cos\nsystem\n(S'true'\ntR and then prose",
    "bomb behind a long line": b"V" + b"x" * 200_000 + b"\n0cos\nsystem\n(S'true'\ntR.",
    "bomb behind many opcodes": b"N0" * 100_000 + b"cos\nsystem\n(S'true'\ntR.",
    "old instance": b"(S'true'\nios\nsystem\n.",
    "class": pickle.dumps(dict, protocol=0),
    "zip of a pickle": archive_of(pickle.dumps({"a": 1})),
    "zip behind text": b"plain text\n" + archive_of(b"x"),
}


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.csv", "a.json", "a.jsonl", "a.safetensors"])
@pytest.mark.parametrize("kind", list(PICKLES))
def test_pickles_are_refused_whatever_their_name(file_of, kind, name):
    with pytest.raises(InvalidValueError, match=name):
        admit_file(name, file_of(PICKLES[kind]))


@pytest.mark.parametrize("kind", list(PICKLES))
def test_what_runs_code_is_told_apart_from_what_is_merely_broken(kind):
    assert pickles.code_in(io.BytesIO(PICKLES[kind])) is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "Notes. All of them.",
        "N. Smith wrote this.",
        "1. First\n2. Second\n",
        "count\nvalue\n0.5\n",
        "cost\n.4\n.5\n",
        "cat\ndog\n",
        "(in brief\nit works\n",
        "I1\n2\n",
        "].\nno",
        "The quick brown fox",
        "{}\n",
        '{"a": 1}',
        "PK\x03\x04 is how an archive begins",
    ],
)
def test_words_that_spell_opcodes_are_no_pickle(text):
    assert pickles.code_in(io.BytesIO(text.encode())) is None


@settings(max_examples=60, deadline=None)
@given(st.recursive(st.none() | st.integers() | st.text() | st.binary() | st.floats(), st.lists), st.integers(0, 5))
def test_every_pickle_is_told(value, protocol):
    assert pickles.code_in(io.BytesIO(pickle.dumps(value, protocol=protocol))) is not None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_break_the_telling(content):
    pickles.code_in(io.BytesIO(content))


def tensor_file(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "too few"),
        (b"\0" * 7, "too few"),
        (struct.pack("<Q", 1 << 63), "too few"),
        (tensor_file(b" " * (MAX_HEADER_BYTES + 1)), "at most"),
        (tensor_file({"a": entry([1], 0, 4)}, b"\0" * 4, length=9), "its header"),
        (tensor_file([]), "no object"),
        (tensor_file(b'{"a": {}, "a": {}}'), "twice"),
        (tensor_file(b"[" * 100_000), "deeper"),
        (tensor_file({"__metadata__": {"a": 1}}), "__metadata__"),
        (tensor_file({"a": {"dtype": "F32", "shape": []}}), "has not just"),
        (tensor_file({"a": entry([1], 0, 4) | {"x": 1}}, b"\0" * 4), "has not just"),
        (tensor_file({"a": entry([1], 0, 4, "F33")}, b"\0" * 4), "unknown dtype"),
        (tensor_file({"a": entry([-1], 0, 4)}, b"\0" * 4), "shape"),
        (tensor_file({"a": entry([True], 0, 4)}, b"\0" * 4), "shape"),
        (tensor_file({"a": entry([1], 4, 0)}, b"\0" * 4), "shape"),
        (tensor_file({"a": entry([2**40, 2**40], 0, 4)}, b"\0" * 4), "needs"),
        (tensor_file({"a": entry([2], 0, 4)}, b"\0" * 4), "needs 8 bytes, not 4"),
        (tensor_file({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, b"\0" * 12), "overlaps"),
        (tensor_file({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, b"\0" * 4), "overlaps"),
        (tensor_file({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, b"\0" * 12), "hole"),
        (tensor_file({"a": entry([1], 4, 8)}, b"\0" * 8), "hole"),
        (tensor_file({"a": entry([1], 0, 4)}, b"\0" * 5), "there are 5"),
        (tensor_file({"a": entry([2], 0, 8)}, b"\0" * 4), "there are 4"),
        (tensor_file({"a": entry([1], 0, 1, "F4")}, b"\0"), "needs 0.5 bytes"),
    ],
)
def test_cunning_tensor_files_are_refused_and_told(file_of, content, problem):
    path = file_of(content, "a.safetensors")
    with pytest.raises(InvalidValueError, match=r"a\.safetensors") as raised:
        inspect_tensors(path)
    assert problem in raised.value.cause
    with pytest.raises(InvalidValueError, match=r"b\.safetensors"):
        admit_file("b.safetensors", path)


BAD = {
    "F64": [numpy.array([1, value], "<f8").tobytes() for value in (math.nan, math.inf, -math.inf)],
    "F32": [numpy.array([1, value], "<f4").tobytes() for value in (math.nan, math.inf, -math.inf)],
    "F16": [numpy.array([1, value], "<f2").tobytes() for value in (math.nan, math.inf, -math.inf)],
    "BF16": [struct.pack("<HH", 0x3F80, bits) for bits in (0x7F80, 0xFF80, 0x7FC0, 0x7F81)],
    "F8_E5M2": [bytes([0x3C, bits]) for bits in (0x7C, 0xFC, 0x7E, 0x7D)],
    "F8_E4M3": [bytes([0x38, bits]) for bits in (0x7F, 0xFF)],
    "F8_E8M0": [bytes([0x7F, 0xFF])],
    "C64": [struct.pack("<4f", 1, 1, 1, value) for value in (math.nan, math.inf)],
}
LARGEST = {
    "F64": numpy.array([1, numpy.finfo("f8").max], "<f8").tobytes(),
    "F32": numpy.array([-numpy.finfo("f4").max, 1e-45], "<f4").tobytes(),
    "F16": numpy.array([65504, -65504], "<f2").tobytes(),
    "BF16": struct.pack("<HH", 0x7F7F, 0xFF7F),
    "F8_E5M2": bytes([0x7B, 0xFB]),
    "F8_E4M3": bytes([0x7E, 0xFE]),
    "F8_E8M0": bytes([0xFE, 0x00]),
    "C64": struct.pack("<4f", 3e38, -3e38, 0, 1),
    "I64": b"\xff" * 16,
    "U8": b"\xff\xff",
    "BOOL": b"\x01\x00",
}


@pytest.mark.parametrize(("dtype", "data"), [(dtype, data) for dtype, datas in BAD.items() for data in datas])
def test_weights_that_are_no_numbers_are_refused_by_name(file_of, dtype, data):
    header = {"fine": entry([4], 0, 4, "U8"), "broken.weight": entry([2], 4, 4 + len(data), dtype)}
    path = file_of(tensor_file(header, b"\xff" * 4 + data))
    inspection = inspect_tensors(path)
    assert [tensor.num_non_finite for tensor in inspection.tensors] == [0, 1]
    assert not inspection.is_finite
    with pytest.raises(InvalidValueError, match=r"file 'w\.safetensors' holds NaN or infinity") as raised:
        admit_file("w.safetensors", path)
    assert raised.value.cause == "broken.weight (1 in [2])"


@pytest.mark.parametrize("dtype", list(LARGEST))
def test_the_largest_and_smallest_numbers_are_numbers(file_of, dtype):
    path = file_of(tensor_file({"a": entry([2], 0, len(LARGEST[dtype]), dtype)}, LARGEST[dtype]))
    assert inspect_tensors(path).is_finite
    admit_file("w.safetensors", path)


def test_an_inspection_tells_what_a_library_wrote(tmp_path):
    path = tmp_path / "w.safetensors"
    arrays = {
        "lora_A": numpy.arange(12, dtype=numpy.float32).reshape(3, 4),
        "empty": numpy.zeros((0, 4), numpy.float16),
        "scalar": numpy.array(2, numpy.int64),
        "large": numpy.full(700_000, 0.5, numpy.float64),
    }
    save_file(arrays, path, metadata={"format": "pt"})
    inspection = inspect_tensors(path)
    assert inspection.metadata == {"format": "pt"}
    assert {tensor.name: tensor.shape for tensor in inspection.tensors} == {k: v.shape for k, v in arrays.items()}
    assert {tensor.name: tensor.dtype for tensor in inspection.tensors} == {
        "lora_A": "F32",
        "empty": "F16",
        "scalar": "I64",
        "large": "F64",
    }
    assert inspection.is_finite
    arrays["large"][[5, 699_999]] = math.nan
    save_file(arrays, path)
    assert {tensor.name: tensor.num_non_finite for tensor in inspect_tensors(path).tensors}["large"] == 2


def test_a_tensor_file_that_is_also_an_archive_is_refused(file_of):
    tail = archive_of(pickle.dumps(Bomb()))
    path = file_of(tensor_file({"a": entry([len(tail)], 0, len(tail), "U8")}, tail))
    assert inspect_tensors(path).is_finite
    with pytest.raises(InvalidValueError, match=r"w\.safetensors") as raised:
        admit_file("w.safetensors", path)
    assert "zip archive" in raised.value.cause


def test_a_string_that_skips_a_header_hides_no_pickle():
    """A length of BINUNICODE may skip what looks like a tensor file's header to the calls behind it."""
    header = json.dumps({"a": entry([512], 0, 512, "U8")}).encode()
    content = b"X" + struct.pack("<I", 3 + len(header)) + b"\0\0\0" + header + b"0cos\nsystem\n(S'true'\ntR."
    assert pickles.code_in(io.BytesIO(content)) == "it is a pickle"
