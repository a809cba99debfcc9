import subprocess

from legion.foundation.revision import describe_revision


def _git(folder, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_a_folder_without_git_is_absent_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    facts = describe_revision(tmp_path)
    assert facts["commit"] is None
    assert "not a git repository" in str(facts["reason"])


def test_a_commit_is_named_and_a_changed_file_makes_it_dirty(tmp_path):
    _git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "a").write_text("1")
    _git(tmp_path, "add", "a")
    _git(tmp_path, "commit", "-q", "-m", "first")
    clean = describe_revision(tmp_path)
    assert (clean["branch"], clean["is_dirty"], clean["reason"]) == ("main", False, None)
    assert len(str(clean["commit"])) == 40
    (tmp_path / "a").write_text("2")
    assert describe_revision(tmp_path)["is_dirty"] is True
