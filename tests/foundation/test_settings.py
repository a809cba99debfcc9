import pytest

from legion.foundation.errors import ConfigError
from legion.foundation.settings import Settings


def test_flag_beats_environment_beats_file_beats_default(tmp_path):
    (tmp_path / "legion.toml").write_text('threads = 1\ndevice = "cpu"\nrisk_threshold = 0.7\n')
    environment = {"LEGION_THREADS": "2", "LEGION_DEVICE": ""}
    from_file = Settings.load(workspace=tmp_path, environment={})
    assert (from_file.threads, from_file.device, from_file.eval_examples) == (1, "cpu", 0)
    assert Settings.load(workspace=tmp_path, environment=environment).threads == 2
    assert Settings.load(workspace=tmp_path, environment=environment, threads=3).threads == 3
    assert Settings.load(workspace=tmp_path, environment=environment, threads=None).threads == 2
    assert Settings.load(workspace=tmp_path, environment=environment).device == "cpu"


def test_an_unknown_key_is_an_error_with_a_suggestion(tmp_path):
    (tmp_path / "legion.toml").write_text("thread = 1\n")
    with pytest.raises(ConfigError, match="unknown key 'thread'") as caught:
        Settings.load(workspace=tmp_path, environment={})
    assert "threads" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("name", "value"),
    [("threads", "-1"), ("threads", "two"), ("device", "tpu"), ("risk_threshold", "1.5"), ("eval_examples", "x")],
)
def test_values_out_of_range_are_named(tmp_path, name, value):
    with pytest.raises(ConfigError, match=name):
        Settings.load(workspace=tmp_path, environment={"LEGION_" + name.upper(): value})


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "legion.toml").write_text("threads = \n")
    with pytest.raises(ConfigError, match=r"legion\.toml"):
        Settings.load(workspace=tmp_path, environment={})


def test_the_password_of_a_database_is_never_written_down():
    settings = Settings.load(environment={}, registry_index="postgresql://team:secret@db.example:5432/registry")
    assert settings.to_dict()["registry_index"] == "postgresql://team:***@db.example:5432/registry"
