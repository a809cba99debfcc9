from hypothesis import given
from hypothesis import strategies as st

from legion.foundation.rng import RandomStream


@given(st.integers(), st.text(max_size=8), st.text(max_size=8))
def test_a_stream_depends_on_seed_and_name_alone(seed, name, other):
    stream = RandomStream(seed)
    stream.child(other).random().random()
    assert stream.child(name).seed == RandomStream(seed).child(name).seed
    assert (stream.child(name).seed == stream.child(other).seed) == (name == other)


def test_streams_are_frozen_across_releases():
    # A change here would silently change every study's draws.
    assert RandomStream(42).child("generator").seed == 8350944825165295964
    assert RandomStream(42).child("generator").random().randrange(1000) == 813


@given(st.integers())
def test_seeds_fit_their_libraries(seed):
    stream = RandomStream(seed)
    assert 0 <= stream.seed < 2**63
    assert 0 <= stream.seed32 < 2**32
