"""`legion registry`: what is registered, what was done with it, and whether it is still what was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from legion.cli.output import emit, format_option, table
from legion.foundation.canonical import short
from legion.foundation.errors import IntegrityError
from legion.foundation.settings import Settings

if TYPE_CHECKING:
    from legion.neuro_architecture.registry import ArchitectureRegistry
    from legion.neuro_architecture.spec.snapshot import ArchitectureSnapshot

__all__ = ["command"]


@click.group("registry")
def command() -> None:
    """Find, tag, prove and verify registered architectures (artifacts/architecture_registry/)."""


def _open(by: str | None = None) -> ArchitectureRegistry:
    from legion.neuro_architecture.registry import ArchitectureRegistry

    return ArchitectureRegistry.of(Settings.load(), by=by)


def _rows(registry: ArchitectureRegistry, snapshots: Any) -> list[list[str]]:
    named: dict[str, list[str]] = {}
    for alias, digest in registry.aliases().items():
        named.setdefault(digest, []).append(alias)
    return [
        [
            short(item.digest),
            item.semantic_hash,
            str(item.revision),
            item.version,
            ",".join(registry.tags(item.digest)),
            ",".join(named.get(item.digest, [])),
            item.created_at,
        ]
        for item in snapshots
    ]


def _emit_snapshots(output_format: str, registry: ArchitectureRegistry, snapshots: Any) -> None:
    emit(
        output_format,
        [_plain(registry, item) for item in snapshots],
        lambda: (
            table(
                ["digest", "semantic hash", "rev", "version", "tags", "aliases", "registered"],
                _rows(registry, snapshots),
            )
            if snapshots
            else "empty"
        ),
        [item.digest for item in snapshots],
    )


def _plain(registry: ArchitectureRegistry, item: ArchitectureSnapshot) -> dict[str, Any]:
    """A snapshot with its digest, and the tags that it has now beside those it was registered with."""
    return item.to_dict() | {"digest": item.digest, "tags_now": list(registry.tags(item.digest))}


@command.command("ls")
@click.option("--tag", "tags", multiple=True, help="Only snapshots with this tag; several mean all of them.")
@click.option("--limit", type=click.IntRange(min=1), default=None, help="Only the newest so many.")
@format_option
def ls(tags: tuple[str, ...], limit: int | None, output_format: str) -> None:
    """List snapshots, oldest first."""
    registry = _open()
    snapshots = registry.get_by_tags(tags) if tags else registry.list_all()
    _emit_snapshots(output_format, registry, snapshots[-limit:] if limit else snapshots)


@command.command("query")
@click.argument("text")
@click.option("--order", default=None, help="A metric to order by.")
@click.option("--descending", is_flag=True, help="Largest first.")
@click.option("--limit", type=click.IntRange(min=1), default=None)
@format_option
def query(text: str, order: str | None, descending: bool, limit: int | None, output_format: str) -> None:
    """Find snapshots: 'accuracy > 0.82 and latency_ms < 12 and tag:production'."""
    registry = _open()
    found = registry.query(text, order=order, is_descending=descending, limit=limit)
    _emit_snapshots(output_format, registry, found)


@command.command("show")
@click.argument("key")
@format_option
def show(key: str, output_format: str) -> None:
    """Show one snapshot by alias, semantic hash (16 hex), digest or the beginning of a digest."""
    registry = _open()
    snapshot = registry.resolve(key)
    plain = _plain(registry, snapshot)
    emit(output_format, plain, lambda: json.dumps(plain, indent=2, ensure_ascii=False), [snapshot.digest])


@command.command("history")
@click.argument("key")
@format_option
def history(key: str, output_format: str) -> None:
    """Everything the log says of a snapshot, and the revisions before and after it."""
    registry = _open()
    snapshot = registry.resolve(key)
    lineage = registry.lineage(key)
    events = registry.events(key)
    plain = {
        "digest": snapshot.digest,
        "ancestors": [item.digest for item in lineage.ancestors],
        "children": [item.digest for item in lineage.children],
        "events": [{"entry": number} | event.to_dict() for number, event in events],
    }
    emit(output_format, plain, lambda: _history_text(plain), [str(number) for number, _ in events])


def _history_text(plain: dict[str, Any]) -> str:
    rows = [
        [str(event["entry"]), event["at"], event["by"] or "–", event["kind"], _said(event)] for event in plain["events"]
    ]
    lines = [table(["entry", "when", "who", "what", "said"], rows)]
    lines += [f"before it: {', '.join(map(short, plain['ancestors'])) or 'nothing'}"]
    lines += [f"after it: {', '.join(map(short, plain['children'])) or 'nothing'}"]
    return "\n".join(lines)


def _said(event: dict[str, Any]) -> str:
    match event["kind"]:
        case "snapshot":
            said = f"revision {event['snapshot']['revision']}, version {event['snapshot']['version']}"
        case "tags":
            said = " ".join([*(f"+{tag}" for tag in event["added"]), *(f"-{tag}" for tag in event["removed"])])
        case "alias":
            said = f"{event['alias']}: {_short(event['previous'])} to {_short(event['snapshot'])}"
        case "approval":
            said = ("approved" if event["is_approved"] else "refused") + (event["reason"] and f": {event['reason']}")
        case "verdict":
            said = f"{event['gate']}: {event['verdict']}"
        case _:
            weight = "" if event["weight"] is None else f", weight {event['weight']:g}"
            said = f"{event['slot']}: {event['event']}{weight}"
    return said


def _short(digest: str | None) -> str:
    return "nothing" if digest is None else short(digest)


@command.command("diff")
@click.argument("one")
@click.argument("other")
@format_option
def diff(one: str, other: str, output_format: str) -> None:
    """What two snapshots differ in: architecture, metrics with their intervals, data, code."""
    from legion.neuro_architecture.registry import diff_snapshots

    registry = _open()
    found = diff_snapshots(registry.resolve(one), registry.resolve(other))
    emit(output_format, found.to_dict(), lambda: "\n".join(found.lines()), found.lines())


@command.command("tag")
@click.argument("key")
@click.argument("tags", nargs=-1)
@click.option("--remove", "removed", multiple=True, help="A tag to take off.")
@click.option("--by", default=None, help="Who does it, as the log shall say.")
@format_option
def tag(key: str, tags: tuple[str, ...], removed: tuple[str, ...], by: str | None, output_format: str) -> None:
    """Put tags on a snapshot, or take them off."""
    held = _open(by).tag(key, tags, removed)
    emit(output_format, list(held), lambda: ", ".join(held) or "no tags", list(held))


@command.command("alias")
@click.argument("alias", required=False)
@click.argument("key", required=False)
@click.option("--expect", default=None, help="What it must name now: a key, or 'nothing'.")
@click.option("--remove", is_flag=True, help="Take the alias away.")
@click.option("--by", default=None, help="Who does it, as the log shall say.")
@format_option
def alias_command(
    alias: str | None,
    key: str | None,
    expect: str | None,
    remove: bool,
    by: str | None,
    output_format: str,
) -> None:
    """List aliases, or let one name a snapshot: legion registry alias champion 1a2b3c4d."""
    registry = _open(by)
    if alias is not None:
        if (key is None) is not remove:
            raise click.UsageError("name what the alias shall name, or give --remove")
        if expect is None:
            registry.set_alias(alias, key)
        else:
            registry.set_alias(alias, key, expected=None if expect == "nothing" else expect)
    aliases = registry.aliases()
    rows = [[name, short(digest)] for name, digest in sorted(aliases.items())]
    emit(output_format, aliases, lambda: table(["alias", "digest"], rows) if rows else "no aliases", sorted(aliases))


@command.command("approve")
@click.argument("key")
@click.option("--by", required=True, help="Who answers for it.")
@click.option("--refuse", is_flag=True, help="Say no.")
@click.option("--reason", default="")
@format_option
def approve(key: str, by: str, refuse: bool, reason: str, output_format: str) -> None:
    """Write down that somebody approves a snapshot, or does not."""
    registry = _open()
    number = registry.approve(key, is_approved=not refuse, by=by, reason=reason)
    emit(output_format, {"entry": number}, lambda: f"entry {number}", [str(number)])


@command.command("restore")
@click.argument("key")
@format_option
def restore(key: str, output_format: str) -> None:
    """Make what an earlier snapshot says the newest revision of its architecture again."""
    snapshot = _open().restore_snapshot(key)
    emit(
        output_format,
        snapshot.to_dict() | {"digest": snapshot.digest},
        lambda: f"revision {snapshot.revision} of {snapshot.semantic_hash}: {short(snapshot.digest)}",
        [snapshot.digest],
    )


@command.command("verify")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--key", "keys", multiple=True, help="With FILE: a verifier key (name+hash+base64) that you trust.")
@click.option(
    "--against",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    help="A signed checkpoint that somebody kept: the log must be a continuation of it.",
)
@format_option
def verify(file: Path | None, keys: tuple[str, ...], against: Path | None, output_format: str) -> None:
    """Read every byte again and say whether each is what was written.

    With FILE, one that `legion registry export` wrote: it is verified by itself, without a registry.
    """
    if file is not None:
        _verify_file(file, keys, output_format)
        return
    if keys:
        raise click.UsageError("--key belongs to a FILE; the registry's own key is pinned")
    from legion.cli.progress import TerminalProgress

    registry = _open()
    report = registry.verify(TerminalProgress())
    emit(
        output_format,
        report.to_dict(),
        lambda: "\n".join(
            [f"{report.num_entries} entries and {report.num_blobs} blobs read, {len(report.problems)} problems"]
            + [f"  {problem}" for problem in report.problems]
        ),
        report.problems,
    )
    if report.problems:
        raise IntegrityError(f"{len(report.problems)} problems in the registry", cause="\n".join(report.problems))
    if against is not None:
        registry.verify_against(against.read_bytes())


def _verify_file(file: Path, keys: tuple[str, ...], output_format: str) -> None:
    from legion.neuro_architecture.registry import verify_bundle

    report = verify_bundle(file, keys)
    emit(output_format, report.to_dict(), lambda: "\n".join(report.lines()), [report.snapshot or ""])
    if not report.is_sound:
        raise IntegrityError(f"{file} is not as it was written", cause="\n".join(map(str, report.flaws)))


@command.command("prove")
@click.argument("key", required=False)
@click.option(
    "--since", type=click.IntRange(min=0), default=None, help="Prove that the log of so many entries is its beginning."
)
@format_option
def prove(key: str | None, since: int | None, output_format: str) -> None:
    """Print the signed checkpoint; with KEY the proof that a snapshot is in the log, with --since that it only grew."""
    registry = _open()
    checkpoint = registry.checkpoint()
    note = checkpoint.note.decode()
    plain: dict[str, Any] = {"checkpoint": note}
    if key is not None:
        plain["inclusion"] = registry.prove(key).to_dict()
    if since is not None:
        plain["consistency"] = registry.prove_consistency(since).to_dict()
    text = note.rstrip() if len(plain) == 1 else json.dumps(plain, indent=2)
    emit(output_format, plain, lambda: text, [checkpoint.root.hex()])


@command.command("export")
@click.argument("key")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@format_option
def export(key: str, file: Path, output_format: str) -> None:
    """Write a snapshot with its files and proofs into one file that anybody can verify offline."""
    path = _open().export_snapshot(key, file)
    emit(output_format, {"file": str(path)}, lambda: f"wrote {path}: legion registry verify {path}", [str(path)])


@command.command("import")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--kind",
    type=click.Choice(["bundle", "mlflow", "prototype", "records"]),
    default="bundle",
    show_default=True,
    help="An exported file, an MLflow store, the prototype's JSON files, or a registry of the first format.",
)
@click.option("--key", "keys", multiple=True, help="A verifier key that you trust, for a bundle.")
@click.option("--dry-run", is_flag=True, help="Only say what would be registered.")
@format_option
def import_command(source: Path, kind: str, keys: tuple[str, ...], dry_run: bool, output_format: str) -> None:
    """Register what another registry holds."""
    registry = _open()
    if kind == "bundle":
        if dry_run:
            raise click.UsageError(f"a bundle is looked at with: legion registry verify {source}")
        snapshot = registry.import_snapshot(source, trusted=keys)
        _emit_snapshots(output_format, registry, [snapshot])
        return
    report = _importer(kind)(source)
    registered = [] if dry_run else registry.import_all(report)
    plain = report.to_dict() | {"registered": [item.digest for item in registered]}
    emit(output_format, plain, lambda: _import_text(plain, is_dry_run=dry_run), plain["registered"])


def _importer(kind: str) -> Any:
    from legion.neuro_architecture.registry import importing

    return {"mlflow": importing.read_mlflow, "prototype": importing.read_prototype, "records": importing.read_records}[
        kind
    ]


def _import_text(plain: dict[str, Any], *, is_dry_run: bool) -> str:
    done = "would be registered" if is_dry_run else "registered"
    lines = [f"{len(plain['drafts'])} snapshots of {plain['source']} {done}, {len(plain['skipped'])} left out"]
    lines += [f"  left out {item['origin']}: {item['reason']}" for item in plain["skipped"]]
    return "\n".join(lines)


@command.command("describe")
@click.argument("key")
@click.option(
    "--as",
    "form",
    type=click.Choice(["statement", "bom", "card"]),
    default="statement",
    show_default=True,
    help="An in-toto statement (SLSA provenance), a CycloneDX bill of materials, or a model card in Markdown.",
)
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Write it to a file.")
def describe(key: str, form: str, out: Path | None) -> None:
    """Print where a snapshot comes from, in a form that others read. What is not known is left out."""
    from legion.foundation.files import write_json, write_text
    from legion.neuro_architecture.data.catalog import CATALOG
    from legion.neuro_architecture.registry import KnownAsset, make_bill_of_materials, make_model_card, make_statement

    snapshot = _open().resolve(key)
    assets = {asset.name: KnownAsset(licence=asset.licence, source=asset.source) for asset in CATALOG}
    if form == "card":
        card = make_model_card(snapshot, assets=assets)
        if out is None:
            click.echo(card, nl=False)
        else:
            write_text(out, card)
        return
    found = make_bill_of_materials(snapshot, assets=assets) if form == "bom" else make_statement(snapshot)
    if out is None:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        write_json(out, found)


@command.command("text")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--check", is_flag=True, help="Write nothing; say what differs.")
@format_option
def text_command(folder: Path, check: bool, output_format: str) -> None:
    """Write every snapshot as a small text file, for version control; the same snapshots give the same bytes."""
    from legion.foundation.errors import RefusedError
    from legion.neuro_architecture.registry import check_text_files, write_text_files

    snapshots = _open().list_all()
    if check:
        differences = [str(item) for item in check_text_files(folder, snapshots)]
        emit(output_format, differences, lambda: "\n".join(differences) or "nothing differs", differences)
        if differences:
            raise RefusedError(
                f"{len(differences)} files in {folder} differ from the registry", hint=f"legion registry text {folder}"
            )
        return
    written = [str(path) for path in write_text_files(folder, snapshots)]
    emit(output_format, written, lambda: f"{len(written)} files written in {folder}", written)


@command.command("gc")
@click.option("--yes", is_flag=True, help="Delete them; without it they are only listed.")
@format_option
def gc(yes: bool, output_format: str) -> None:
    """List blobs that no snapshot names, or delete them."""
    found = _open().collect_garbage(is_dry_run=not yes)
    rows = [[short(digest), str(size)] for digest, size in found]
    done = "deleted" if yes else "would be deleted; legion registry gc --yes"
    emit(
        output_format,
        {"blobs": [{"digest": digest, "bytes": size} for digest, size in found], "is_deleted": yes},
        lambda: "\n".join([table(["blob", "bytes"], rows), done]) if rows else "every blob is named by a snapshot",
        [digest for digest, _ in found],
    )


@command.command("rebuild")
@format_option
def rebuild(output_format: str) -> None:
    """Build the index anew from the log."""
    number = _open().rebuild()
    emit(output_format, {"entries": number}, lambda: f"{number} entries indexed", [str(number)])


@command.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; others need a token.")
@click.option("--port", type=click.IntRange(0, 65535), default=8421, show_default=True, help="0 takes a free one.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    default=None,
    help="File with the token for writes, mode 0600; else LEGION_REGISTRY_TOKEN. Without a token nobody writes.",
)
@click.option("--by", default="http", show_default=True, help="Who moves tags and aliases, as the log shall say.")
@format_option
def serve_command(host: str, port: int, token_file: Path | None, by: str, output_format: str) -> None:
    """Serve the registry over HTTP until interrupted; see docs/registry-api.md."""
    from legion.cli.output import note
    from legion.web import load_token, serve

    token = load_token(token_file)
    writes = "writes need the token" if token else "no writes: no token is configured"
    serve(
        _open(by),
        keys=Settings.load().keys,
        host=host,
        port=port,
        token=token,
        announce=lambda url: emit(output_format, {"url": url}, lambda: f"serving on {url}; {writes}", [url]),
        warn=note,
    )
