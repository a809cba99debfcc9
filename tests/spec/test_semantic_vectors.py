"""The frozen names of version 1, made twice: by the package and by the Perl program that shares no code with it."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.spec.architectures import configs

from legion.foundation.canonical import canonical_json, digest_bytes, digest_json
from legion.neuro_architecture.spec.architecture import parse_architecture, strategy_names
from legion.neuro_architecture.spec.semantics import (
    SEMANTIC_VERSION,
    semantic_digest,
    semantic_form,
    semantic_hash,
)

PROGRAM = Path(__file__).parents[2] / "tools" / "semantic_hash" / "semantic_hash.pl"
VECTORS = json.loads((Path(__file__).parent / "semantic_hash_vectors.json").read_text(encoding="utf-8"))
NUM_FROZEN = 101
FROZEN = "sha256:8852c7a12b34a1735775436277e1ece953ce10f87cad0cc0963aae6ecd3652be"


def second_opinion(configs, what):
    perl = shutil.which("perl")
    assert perl, (
        "perl is not installed: the second implementation of the semantic hash cannot be asked (git needs it too)"
    )
    asked = "\n".join(json.dumps(config) for config in configs)
    answer = subprocess.run(
        [perl, PROGRAM, what], input=asked, capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert not answer.stderr
    return answer.stdout.removesuffix("\n").split("\n")


def test_vectors_never_change():
    """Names are stored for ever: a new rule is a new version, with vectors of its own behind these."""
    assert digest_json(VECTORS[:NUM_FROZEN]) == FROZEN
    assert SEMANTIC_VERSION == 1


def test_vectors_speak_of_every_strategy():
    assert {vector["config"]["strategy"] for vector in VECTORS} == set(strategy_names())
    assert len({vector["digest"] for vector in VECTORS}) >= 60


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["about"])
def test_the_package_makes_the_vectors(vector):
    architecture = parse_architecture(vector["config"])
    assert canonical_json(semantic_form(architecture)).decode() == vector["form"]
    assert semantic_digest(architecture) == vector["digest"] == digest_bytes(vector["form"].encode())
    assert semantic_hash(architecture) == vector["hash"] == vector["digest"].removeprefix("sha256:")[:16]


@pytest.mark.parametrize(("what", "field"), [("--form", "form"), ("--digest", "digest"), ("--hash", "hash")])
def test_the_second_implementation_makes_the_vectors(what, field):
    assert second_opinion([vector["config"] for vector in VECTORS], what) == [vector[field] for vector in VECTORS]


# one process for many configs: its start takes longer than they do
@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(st.sampled_from(strategy_names()).flatmap(configs), min_size=20, max_size=40))
def test_the_second_implementation_agrees_on_any_config(drawn):
    expected = [canonical_json(semantic_form(parse_architecture(config))).decode() for config in drawn]
    assert second_opinion(drawn, "--form") == expected


@given(st.floats(min_value=0, exclude_min=True, allow_infinity=False))
def test_numbers_are_written_with_the_fewest_digits_that_twelve_allow(alpha):
    form = canonical_json(semantic_form(parse_architecture({"strategy": "LoRA", "rank": 1, "alpha": alpha})))
    assert json.loads(form)["scale"] == float(f"{alpha:.11e}")


def test_the_second_implementation_writes_any_double_as_ecmascript_does():
    """Forms hold twelve digits; its printer is right for all seventeen, beside powers of two as well."""
    numbers = [sign * base**power for sign in (1, -1) for base in (2.0, 10.0, 3.0, 7.1) for power in range(-60, 60, 3)]
    numbers += [5e-324, 1.7976931348623157e308, 2.0**-1022, 2.0**-44, 123456789012345.678, 9007199254740993.0, 0.0]
    script = (
        "do $ARGV[0] or die; print es6_number($_), qq(\\n) for map { unpack 'd>', pack 'H*', $_ } split ' ', $ARGV[1]"
    )
    hexes = " ".join(_hex(number) for number in numbers)
    answer = subprocess.run(
        ["perl", "-e", script, PROGRAM, hexes], input="", capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert answer.stdout.split() == [canonical_json(number).decode() for number in numbers]


def _hex(number):
    return struct.pack(">d", number).hex()


@pytest.mark.parametrize(
    "config", [{"strategy": "LORA"}, {"strategy": "LoRA", "depth": 3}, {"strategy": "IA3", "rank": 2}]
)
def test_the_second_implementation_refuses_what_it_does_not_know(config):
    answer = subprocess.run(["perl", PROGRAM], input=json.dumps(config), capture_output=True, text=True, check=False)
    assert answer.returncode != 0
    assert not answer.stdout
