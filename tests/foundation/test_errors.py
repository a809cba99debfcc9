import inspect

import pytest

from legion.foundation import errors
from legion.foundation.errors import LegionError, UnknownNameError


def _all_errors():
    return [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, LegionError)]


def test_codes_are_unique_and_exit_codes_are_the_documented_ones():
    codes = [cls.code for cls in _all_errors()]
    assert len(codes) == len(set(codes))
    assert {cls.exit_code for cls in _all_errors()} == {1, 2, 3, 4}


@pytest.mark.parametrize("cls", _all_errors())
def test_every_class_stands_in_the_drawn_tree(cls):
    line = next(line for line in (errors.__doc__ or "").splitlines() if f"─ {cls.__name__} " in line.replace("LegionError ", "─ LegionError "))  # fmt: skip  # noqa: E501
    shown = [word for word in line.split() if word.isdigit()]
    assert not shown or int(shown[0]) == cls.exit_code


def test_an_unknown_name_suggests_the_nearest_one():
    error = UnknownNameError.of("strategy", "lora", ["LoRA", "MoE"], hint="see --help")
    assert error.render() == ("error[LGN-204]: unknown strategy 'lora'\n  cause: known: LoRA, MoE\n  hint:  see --help")
    near = UnknownNameError.of("proposal", "lora-7f3a", ["lora-7f3c", "moe-1"])
    assert near.hint == "did you mean 'lora-7f3c'?"


def test_an_error_renders_for_programs_too():
    error = LegionError("x", cause="y", hint="z")
    assert error.to_dict() == {"error": "LGN-001", "message": "x", "cause": "y", "hint": "z", "exit_code": 4}
