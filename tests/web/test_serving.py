"""The command that serves: tokens, addresses, and one real server from start to stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import httpx2
import pytest

from legion.foundation.errors import InvalidValueError, UsageError, WorldError
from legion.neuro_architecture.registry import ArchitectureRegistry
from legion.web import WriteToken, load_token, serve
from legion.web.serving import is_loopback

TOKEN = "correct-horse-battery-staple"


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return path


def test_the_token_comes_from_a_private_file_or_the_environment(token_file):
    assert load_token(token_file, environment={}).matches(TOKEN.encode())
    assert load_token(environment={"LEGION_REGISTRY_TOKEN": TOKEN}).matches(TOKEN.encode())
    assert not load_token(token_file, environment={}).matches(TOKEN.encode() + b"\n")
    assert load_token(environment={}) is None
    assert load_token(environment={"LEGION_REGISTRY_TOKEN": ""}) is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_token_that_others_may_read_is_refused(token_file, mode):
    token_file.chmod(mode)
    with pytest.raises(UsageError, match="others may read") as caught:
        load_token(token_file)
    assert TOKEN not in caught.value.render()


def test_a_token_file_that_is_no_file_is_refused(token_file, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(token_file)
    for path in (link, tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError):
            load_token(path)


@pytest.mark.parametrize("secret", ["short", "with blanks in its middle", "umläute-umläute-umläute", "x" * 513])
def test_a_token_that_is_guessed_or_cannot_be_sent_is_refused_and_not_repeated(secret):
    with pytest.raises(InvalidValueError) as caught:
        WriteToken.of(secret, where="here")
    assert secret not in caught.value.render()


def test_nothing_prints_a_token():
    token = WriteToken.of(TOKEN, where="here")
    assert TOKEN not in repr(token) + str(token)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104
        ("::", False),
        ("192.0.2.1", False),
        ("localhost.example", False),
    ],
)
def test_only_addresses_of_this_machine_are_private(host, expected):
    assert is_loopback(host) is expected


def _serve(registry, keys, warned=None, **options):
    serve(
        registry,
        keys=keys,
        announce=lambda url: pytest.fail(f"it listens on {url}"),
        warn=(warned if warned is not None else []).append,
        **({"host": "127.0.0.1", "port": 0, "token": None} | options),
    )


def test_others_are_served_only_where_a_token_says_who_writes(registry, keys):
    with pytest.raises(UsageError, match="no token is configured"):
        _serve(registry, keys, host="0.0.0.0")  # noqa: S104
    warned = []
    with pytest.raises(WorldError, match="cannot listen"):  # an address for documentation is nobody's
        _serve(registry, keys, warned, host="192.0.2.1", token=WriteToken.of(TOKEN, where="here"))
    assert "without encryption" in warned[0]


def test_a_port_that_is_taken_is_named(registry, keys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(WorldError, match=f"port {port}"):
            _serve(registry, keys, port=port)


def test_a_real_server_serves_writes_and_stops_when_told(tmp_path, token_file):
    keys, workspace = tmp_path / "keys", tmp_path / "workspace"
    root = workspace / "artifacts" / "architecture_registry"
    first = ArchitectureRegistry(root, keys=keys).register("1", {"strategy": "LoRA"}, {"accuracy": 0.8})
    command = [sys.executable, "-W", "error", "-m", "legion.cli", "registry", "serve", "--port", "0"]
    server = subprocess.Popen(
        [*command, "--token-file", str(token_file), "--format", "quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"LEGION_WORKSPACE": str(workspace), "LEGION_KEYS": str(keys)},
    )
    try:
        url = server.stdout.readline().strip()
        with httpx2.Client(base_url=url) as client:
            page = client.get("/v1/snapshots").json()
            bundle = client.get(f"/v1/snapshots/{first.digest}/bundle")
            refused = client.put("/v1/aliases/champion", json={"key": first.digest})
            client.headers["Authorization"] = f"Bearer {TOKEN}"
            moved = client.put("/v1/aliases/champion", json={"key": first.digest})
            stranger = client.get("/healthz", headers={"Host": "evil.example"})
    finally:
        server.send_signal(signal.SIGTERM)
        out, err = server.communicate()
    assert [item["digest"] for item in page["snapshots"]] == [first.digest]
    assert len(bundle.content) == int(bundle.headers["content-length"])
    assert "server" not in bundle.headers
    assert (refused.status_code, moved.status_code, stranger.status_code) == (401, 200, 421)
    assert ArchitectureRegistry(root, keys=keys).aliases() == {"champion": first.digest}
    assert (server.returncode, out, err) == (0, "", "")
