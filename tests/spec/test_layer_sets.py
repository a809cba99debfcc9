import pytest
from hypothesis import given
from hypothesis import strategies as st

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.space.traits import block_label
from legion.neuro_architecture.spec.architecture import parse_architecture


def _layers(written, strategy="LoRA"):
    return parse_architecture({"strategy": strategy, "layers": written}).layers


@pytest.mark.parametrize(
    ("written", "indices"),
    [
        ("0-3,5", (0, 1, 2, 3, 5)),
        (" 5 , 0 - 3 ", (0, 1, 2, 3, 5)),
        ("7", (7,)),
        ("2-2", (2,)),
        ("03,1", (1, 3)),
        ("9999", (9999,)),
        ([0, "1-3", 5], (0, 1, 2, 3, 5)),
        (["4,2", "0-1"], (0, 1, 2, 4)),
        ((3, 1, 1), (1, 3)),
        ("all", None),
        (" all ", None),
        (None, None),
    ],
)
@pytest.mark.parametrize("strategy", ["LoRA", "Adapter", "MoE", "SplitLayer", "IA3"])
def test_blocks_are_written_as_ranges_or_lists(strategy, written, indices):
    assert _layers(written, strategy) == indices


@pytest.mark.parametrize(
    "written",
    [
        *["", ",", "0-", "-1", "3-1", "0--3", "0-1-2", "1.0", "a", "0-99999", "10000", "\u0663", "0x1", "ALL"],
        *[["all"], [[0]], 3, ["0-2", -1], [True, "x"], {"0": 1}],
    ],
)
def test_what_is_no_set_of_blocks_is_refused(written):
    with pytest.raises(InvalidValueError, match="LoRA architecture is not valid"):
        _layers(written)


@given(st.none() | st.sets(st.integers(0, 40), min_size=1))
def test_the_label_of_a_recipe_is_read_back(indices):
    layers = None if indices is None else tuple(sorted(indices))
    assert _layers(block_label(layers)) == layers
