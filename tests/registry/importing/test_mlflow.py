from __future__ import annotations

import json
import sqlite3
import subprocess
import sys

import pytest
from tests.registry.importing.mlflow_stores import DESCRIPTION, PEFT, file_store, sqlite_store, write_adapter

from legion.foundation.errors import InvalidValueError
from legion.neuro_architecture.registry.admission import admit_file
from legion.neuro_architecture.registry.importing import read_mlflow
from legion.neuro_architecture.registry.importing.lora_words import config_of_params, config_of_peft


@pytest.fixture(params=[sqlite_store, file_store])
def store(request, tmp_path):
    return request.param(tmp_path)


def reasons(report):
    return {item.origin: item.reason for item in report.skipped}


def test_versions_that_name_an_adapter_become_drafts(store):
    report = read_mlflow(store)
    assert [draft.version for draft in report.drafts] == ["adapter/1", "adapter/2", "logged/1"]
    by_params, by_file, logged = report.drafts
    assert by_params.config["strategy"] == "LoRA"
    assert (by_params.config["rank"], by_params.config["alpha"], by_params.config["dropout"]) == (8, 16.0, 0.05)
    assert by_params.config["target_modules"] == ["q_proj", "v_proj"]
    assert by_params.files == {}
    assert (by_file.config["rank"], by_file.config["alpha"]) == (4, 8.0)
    assert logged.config["rank"] == 2
    for draft in (by_file, logged):
        assert sorted(draft.files) == ["adapter_config.json", "adapter_model.safetensors"]
        for name, path in draft.files.items():
            admit_file(name, path)


def test_metrics_are_claimed_with_step_and_time_and_never_measured(store):
    first, second, _ = read_mlflow(store).drafts
    assert first.metrics == {"claimed": {"accuracy": {"value": 0.9, "step": 1, "timestamp_ms": 101, "num_points": 2}}}
    assert second.metrics["claimed"]["val/f1"]["value"] == 0.6
    assert "claimed" in first.provenance["imported_from"]["metrics"]


def test_stages_and_tags_become_tags_and_aliases_stay_aliases(store):
    first, second, logged = read_mlflow(store).drafts
    assert (first.tags, first.aliases) == (("archived", "task:classification", "team:x"), ())
    assert (second.tags, second.aliases) == (("production", "team:x"), ("champion",))
    assert (logged.tags, logged.aliases) == ((), ())


def test_lineage_is_kept(store):
    first, second, _ = read_mlflow(store).drafts
    source = first.provenance["imported_from"]
    assert (source["kind"], source["model"], source["version"]) == ("mlflow", "adapter", 1)
    assert source["run_id"] == "a" * 32
    assert source["model_description"] == DESCRIPTION
    assert first.provenance["commit"] == "abc"
    assert first.provenance["params"]["r"] == "8"
    assert second.provenance["base_claimed"] == "tiny"


def test_nothing_is_left_out_in_silence(store):
    said = reasons(read_mlflow(store))
    assert "no adapter_config.json" in said["model 'weird name, \"quoted\" #x' version 1"]
    assert "no folder of this machine" in said["model 'weird name, \"quoted\" #x' version 1, artefacts"]
    assert "u:p" not in json.dumps(said)
    assert "nan" in said["model 'adapter' version 1, metric 'loss'"]
    assert "inf" in said["model 'adapter' version 1, metric 'huge'"]
    assert "MLmodel, python_model.pkl" in said["model 'logged' version 1, artefacts"]
    assert "there is no" in said["model 'adapter' version 1, artefacts"]


def test_importing_again_says_the_same(store):
    assert read_mlflow(store) == read_mlflow(store)


def test_both_stores_say_the_same(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    pairs = zip(
        read_mlflow(sqlite_store(tmp_path / "a")).drafts, read_mlflow(file_store(tmp_path / "b")).drafts, strict=True
    )
    for one, other in pairs:
        assert (one.version, one.config, one.metrics, one.tags, one.aliases) == (
            other.version,
            other.config,
            other.metrics,
            other.tags,
            other.aliases,
        )


def test_reading_writes_nothing(store, tmp_path):
    def seen():
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in tmp_path.rglob("*") if path.is_file()}

    before = seen()
    read_mlflow(store)
    assert seen() == before


def test_a_store_is_found_by_each_of_its_names(tmp_path):
    path = sqlite_store(tmp_path)
    for name in (path, f"sqlite:///{path}", tmp_path):
        assert len(read_mlflow(name).drafts) == 3
    path.unlink()
    mlruns = file_store(tmp_path)
    for name in (mlruns, f"file://{mlruns}", tmp_path):
        assert len(read_mlflow(name).drafts) == 3


def test_what_is_no_store_is_refused(tmp_path):
    (tmp_path / "text.db").write_text("no database" * 100)
    sqlite3.connect(tmp_path / "empty.db").close()
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE VIEW registered_models AS SELECT 1 AS name")
    other.close()
    (tmp_path / "link.db").symlink_to(sqlite_store(tmp_path))
    for name in ("text.db", "empty.db", "other.db", "link.db", "absent.db"):
        with pytest.raises(InvalidValueError):
            read_mlflow(tmp_path / name)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidValueError, match="no store"):
        read_mlflow(tmp_path / "folder")


def test_a_view_in_the_place_of_a_table_is_not_run(tmp_path):
    path = sqlite_store(tmp_path)
    change(path, "ALTER TABLE registered_models RENAME TO hidden")
    change(path, "CREATE VIEW registered_models AS SELECT * FROM hidden")
    with pytest.raises(InvalidValueError, match="no store of MLflow"):
        read_mlflow(path)


def test_one_model_can_be_named(store):
    assert [draft.version for draft in read_mlflow(store, model="logged").drafts] == ["logged/1"]
    with pytest.raises(InvalidValueError, match="absent"):
        read_mlflow(store, model="absent")


def test_an_alias_of_two_models_is_left_out_and_told(tmp_path):
    path = sqlite_store(tmp_path)
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO registered_model_aliases VALUES ('champion', 1, 'logged', 'default')")
    connection.commit()
    connection.close()
    report = read_mlflow(path)
    assert all(draft.aliases == () for draft in report.drafts)
    assert "more than one model" in reasons(report)["model 'logged' version 1, alias 'champion'"]
    assert read_mlflow(path, model="logged").drafts[0].aliases == ("champion",)


def change(path, statement, *values):
    connection = sqlite3.connect(path)
    connection.execute(statement, values)
    connection.commit()
    connection.close()


def test_deleted_and_unready_versions_are_left_out_and_told(tmp_path):
    path = sqlite_store(tmp_path)
    change(path, "UPDATE model_versions SET current_stage = 'Deleted_Internal' WHERE version = 2")
    change(path, "UPDATE model_versions SET status = 'FAILED_REGISTRATION' WHERE version = 1")
    report = read_mlflow(path)
    assert report.drafts == ()
    assert sum("not ready" in reason for reason in reasons(report).values()) == 4


def test_artefacts_of_a_tracking_server_are_found_below_the_folder_that_is_named(tmp_path):
    path = sqlite_store(tmp_path)
    place = f"mlflow-artifacts:/{'b' * 32}/artifacts/model"
    change(path, "UPDATE model_versions SET source = ?, storage_location = ? WHERE name = 'adapter'", place, place)
    assert "tracking server" in reasons(read_mlflow(path))["model 'adapter' version 2, artefacts"]
    assert len(read_mlflow(path, artifacts=tmp_path / "artifacts").drafts) == 3


@pytest.mark.parametrize("inner", ["../../../etc", "model/../../x", "/etc"])
def test_a_place_that_climbs_is_refused(tmp_path, inner):
    path = sqlite_store(tmp_path)
    for place in (f"runs:/{'b' * 32}/{inner}", f"mlflow-artifacts:/x/{inner}", f"models:/m-12ab/{inner}"):
        change(path, "UPDATE model_versions SET source = ?, storage_location = NULL WHERE version = 2", place)
        said = reasons(read_mlflow(path, artifacts=tmp_path / "artifacts"))["model 'adapter' version 2, artefacts"]
        stays_inside = inner == "/etc" and "there is no" in said and str(tmp_path) in said
        assert stays_inside or "climbs out of" in said


def test_links_among_the_artefacts_are_not_taken(tmp_path):
    path = sqlite_store(tmp_path)
    model = tmp_path / "artifacts" / ("b" * 32) / "artifacts" / "model"
    (model / "adapter_model.safetensors").rename(tmp_path / "outside")
    (model / "adapter_model.safetensors").symlink_to(tmp_path / "outside")
    (draft,) = [draft for draft in read_mlflow(path).drafts if draft.version == "adapter/2"]
    assert list(draft.files) == ["adapter_config.json"]


def test_two_adapters_in_one_version_are_left_out_and_told(tmp_path):
    path = sqlite_store(tmp_path)
    write_adapter(tmp_path / "artifacts" / ("b" * 32) / "artifacts" / "model" / "other")
    assert "which one" in reasons(read_mlflow(path))["model 'adapter' version 2"]


def test_a_file_that_disagrees_with_the_run_counts_and_that_is_told(tmp_path):
    path = sqlite_store(tmp_path)
    for key, value in {"r": "16", "lora_alpha": "8", "target_modules": "q_proj,v_proj"}.items():
        change(path, "INSERT INTO params VALUES (?, ?, ?)", key, value, "b" * 32)
    report = read_mlflow(path, model="adapter")
    assert report.drafts[1].config["rank"] == 4
    assert "'rank': 16" in reasons(report)["model 'adapter' version 2, params"]


def test_labels_that_cannot_be_are_left_out_and_told(tmp_path):
    path = sqlite_store(tmp_path)
    change(path, "INSERT INTO model_version_tags VALUES ('path', '../x', 'adapter', 2, 'default')")
    change(path, "INSERT INTO model_version_tags VALUES ('mlflow.internal', 'x', 'adapter', 2, 'default')")
    change(path, "INSERT INTO registered_model_aliases VALUES ('a/b', 2, 'adapter', 'default')")
    report = read_mlflow(path)
    draft = report.drafts[1]
    assert (draft.tags, draft.aliases) == (("production", "team:x"), ("champion",))
    said = reasons(report)
    assert "a/b" in said["model 'adapter' version 2, alias"]
    assert "../x" in said["model 'adapter' version 2, tag"] or "path:" in said["model 'adapter' version 2, tag"]


def test_a_meta_file_that_is_no_flat_yaml_is_told(tmp_path):
    mlruns = file_store(tmp_path)
    (mlruns / "models" / "adapter" / "version-1" / "meta.yaml").write_text("a: !!python/object:os.system {}\n")
    (mlruns / "models" / "logged" / "meta.yaml").write_text("- a\n")
    said = reasons(read_mlflow(mlruns))
    assert "meta.yaml cannot be read" in said["model 'adapter' version 1"]
    assert "meta.yaml cannot be read" in said["model 'logged'"]


@pytest.mark.parametrize(
    "change",
    [
        {"peft_type": "IA3"},
        {"r": None},
        {"target_modules": "model\\.layers\\..*"},
        {"target_modules": []},
        {"bias": "all"},
        {"modules_to_save": ["head"]},
        {"init_lora_weights": "pissa"},
        {"never_heard_of": 3},
    ],
)
def test_a_config_that_asks_for_more_than_an_architecture_says_is_refused(change):
    with pytest.raises(InvalidValueError):
        config_of_peft(PEFT | change)


def test_params_name_strategies_of_ours_too():
    config, _ = config_of_params({"strategy": "moe", "num_experts": "4", "load_balancing": "true", "lr": "0.1"})
    assert config == {"strategy": "MoE", "num_experts": 4, "load_balancing": True}


@pytest.mark.parametrize(
    "params", [{}, {"rank": "8"}, {"r": "8", "lora_alpha": "1"}, {"r": "8", "target_modules": "q"}]
)
def test_params_that_name_no_whole_adapter_are_refused(params):
    with pytest.raises(InvalidValueError):
        config_of_params(params)


def test_what_had_to_be_assumed_is_said():
    config, assumed = config_of_params({"lora_r": "8", "lora_alpha": "16", "target_modules": "all-linear"})
    assert config == {"strategy": "LoRA", "rank": 8, "alpha": 16, "target_modules": ["all-linear"]}
    assert assumed == {"dropout": 0.0}


def test_an_import_loads_no_mlflow_and_no_torch():
    code = (
        "import sys, legion.neuro_architecture.registry.importing;"
        "sys.exit(any(name in sys.modules for name in ('mlflow', 'torch', 'yaml')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
