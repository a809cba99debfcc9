"""The one form of an archive, beside Python's own reader and writer."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from legion.neuro_architecture.registry.archive import (
    MAX_MEMBER_BYTES,
    FlawError,
    end_of_archive,
    header_of,
    padding_of,
    read_members,
)

NAMES = st.text(st.sampled_from("abcXYZ019._-/"), min_size=1, max_size=100)


@given(NAMES, st.integers(0, MAX_MEMBER_BYTES))
def test_pythons_own_reader_finds_name_size_and_nothing_else(name, size):
    info = tarfile.TarInfo.frombuf(header_of(name, size), "ascii", "strict")
    assert (info.name.rstrip("/"), info.size) == (name.rstrip("/"), size)
    assert (info.mode, info.uid, info.gid, info.mtime, info.uname, info.gname) == (0o644, 0, 0, 0, "", "")


@given(st.lists(st.tuples(NAMES, st.binary(max_size=1500)), max_size=5))
def test_what_was_written_is_found_where_it_was_written(parts):
    content = b"".join(header_of(name, len(body)) + body + padding_of(len(body)) for name, body in parts)
    content += end_of_archive()
    found = list(read_members(io.BytesIO(content), len(content)))
    assert [(member.name, content[member.start : member.start + member.size]) for member in found] == parts
    assert sum(member.stop - member.start + 512 for member in found) + 1024 == len(content)


@given(NAMES, st.binary(max_size=600), st.data())
def test_no_other_byte_of_header_padding_or_end_passes(name, body, data):
    content = header_of(name, len(body)) + body + padding_of(len(body)) + end_of_archive()
    places = [place for place in range(len(content)) if not 512 <= place < 512 + len(body)]
    place = data.draw(st.sampled_from(places))
    changed = bytearray(content)
    changed[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[place]))
    with pytest.raises(FlawError):
        list(read_members(io.BytesIO(bytes(changed)), len(changed)))


@pytest.mark.parametrize(("name", "size"), [("", 0), ("x" * 101, 0), ("x", -1), ("x", 8**11), ("é", 0)])
def test_what_has_no_header_is_refused(name, size):
    with pytest.raises(ValueError):
        header_of(name, size)
