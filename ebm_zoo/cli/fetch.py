"""`ebm-zoo download` and `verify`."""

from collections.abc import Callable, Iterator
from functools import partial

from ebm_zoo.errors import ZooError, printable
from ebm_zoo.zoo.catalog import Entry, catalog, find
from ebm_zoo.zoo.client import Access, announced, cached
from ebm_zoo.zoo.resolve import Source, resolve


def download_command(names: list[str], all: bool, force: bool) -> int:
    """Fetch models into the Hub's cache, checked; 1 if any fails."""
    if bool(names) == all:
        raise ZooError("Name the models to download, or give --all.")
    wanted = list(names)
    for entry in catalog().values() if all else ():
        if entry.hub is None:
            print(printable(f"absent  {entry.name}: not on the Hub yet"))
        else:
            wanted.append(entry.name)
    return _report((name, partial(_downloaded, name, force)) for name in wanted)


def verify_command(names: list[str], hub: bool) -> int:
    """Check the copies at hand, and with ``hub`` what the Hub says it has; 1 if any fails."""
    entries = [find(name) for name in names] or list(catalog().values())
    return _report(check for entry in entries for check in _checks(entry, hub))


def _report(checks: Iterator[tuple[str, Callable[[], str]]]) -> int:
    failed = 0
    for title, check in checks:
        try:
            print(printable(f"ok      {title}{check()}"), flush=True)
        except ZooError as error:
            failed += 1
            print(printable(f"FAILED  {title}: {error}"), flush=True)
    return 1 if failed else 0


def _downloaded(name: str, force: bool) -> str:
    found = resolve(name, source="hub", access=Access(force=force))
    return f"  {found.sha256}  {found.path}"


def _checks(entry: Entry, hub: bool) -> Iterator[tuple[str, Callable[[], str]]]:
    here = entry.hub is None or entry.folder.exists()
    if here:
        yield entry.name, partial(_loads, entry, "embedded")
    if entry.hub is None:
        if hub:
            print(printable(f"absent  {entry.name}: not on the Hub yet"))
        return
    if cached(entry.hub.repo, "model.safetensors", entry.hub.revision, Access()):
        yield f"{entry.name} (cached)", partial(_loads, entry, "hub")
    elif not here:
        print(printable(f"absent  {entry.name}: not downloaded yet"))
    if hub:
        yield f"{entry.name} (Hub)", partial(_announced, entry)


def _loads(entry: Entry, source: Source) -> str:
    from ebm_zoo.zoo import from_pretrained

    model = from_pretrained(entry.name, source=source, local_files_only=True)
    count = sum(p.numel() for p in model.parameters())
    if count != entry.weights.parameters:
        raise ZooError(f"{count:,} parameters, the catalog says {entry.weights.parameters:,}.")
    return ""


def _announced(entry: Entry) -> str:
    assert entry.hub is not None
    found = announced(entry.hub.repo, "model.safetensors", entry.hub.revision, Access())
    if (found.etag, found.size) != (entry.weights.sha256, entry.weights.size):
        raise ZooError(
            f"{entry.hub} has weights with sha256 {found.etag} and {found.size} bytes, the catalog names "
            f"{entry.weights.sha256} and {entry.weights.size}. Push again, or correct the catalog."
        )
    return ""
