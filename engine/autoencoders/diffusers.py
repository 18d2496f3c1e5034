"""Autoencoders of diffusers that are known by name: inside this package, or on the hub."""

from pathlib import Path
from typing import Any

from ..errors import UsageError, WeightsUnavailableError
from .autoencoder import Autoencoder
from .catalogue import CATALOGUE, Entry
from .families.registry import check_kind, wrap
from .files.folder import check_report, from_pretrained, load_folder, read_kind, weight_files
from .files.hub import check_hub
from .files.single_file import load_single_file
from .files.weights import check_file

BUNDLED = Path(__file__).parent / "tiny"
_NAMES = f"Names that exist: {', '.join(CATALOGUE)}"


def load_bundled(entry: Entry, weights: Path | None, token: str | None = None, *, clips: bool = False) -> Autoencoder:
    """Load the autoencoder inside this package, or another of its shape from `weights`."""
    return load_weights(weights or BUNDLED, entry, clips=clips)


def load_hub(entry: Entry, weights: Path | None, token: str | None = None, *, clips: bool = False) -> Autoencoder:
    """Load from `weights`, a local folder or file, where given; else from the hub or its cache.

    Raises `WeightsUnavailableError` where they cannot be had, `UsageError` where they are not all there.
    """
    if weights is not None:
        return load_weights(weights, entry, clips=clips)
    check_reachable(entry, token)
    try:
        subfolder, folder = _find(entry, token)
    except Exception as error:
        raise unavailable(entry, error) from error
    kind, where = read_kind(folder), {"subfolder": subfolder} if subfolder else {}
    check_kind(kind, str(entry.repository))
    try:
        try:
            vae, report = from_pretrained(kind, str(entry.repository), token=token, **where)
        except OSError:  # a repository may hold the half-precision variant only
            vae, report = from_pretrained(kind, str(entry.repository), token=token, variant="fp16", **where)
    except UsageError:
        raise
    except Exception as error:
        for paths in weight_files(folder).values():
            for path in paths:
                check_file(path)
        raise unavailable(entry, error) from error
    check_report(f"the {kind} of {entry.repository}", report)
    return wrap_hub(vae, entry, subfolder, clips=clips)


def load_repository(name: str, token: str | None = None, *, clips: bool = False) -> Autoencoder:
    """Load `owner/name` from the hub or its cache: an autoencoder's repository, or a pipeline's with `vae/` in it."""
    return load_hub(Entry(name, "", name, None, 0, 0, 0, ""), None, token, clips=clips)


def load_weights(weights: Path, entry: Entry, *, clips: bool = False) -> Autoencoder:
    """Load a named autoencoder from a folder or a file of its weights."""
    if weights.is_file():
        return load_single_file(weights, entry.name, entry.scaling, clips=clips, native_size=entry.native_size)
    return load_folder(weights, entry.name, clips=clips)


def check_reachable(entry: Entry, token: str | None) -> None:
    """Raise `WeightsUnavailableError`, soon, where the cache does not have the weights and the hub cannot be reached."""
    option = "--weights FOLDER" if entry.loader else "a FOLDER"
    remedy = f"give {option} in diffusers' layout. {_NAMES}"
    check_hub(_described(entry), str(entry.repository), _places(entry), token, remedy)


def _places(entry: Entry) -> tuple[str | None, ...]:
    """Return the subfolders of the repository in which the autoencoder may be; None is the repository itself."""
    return (entry.subfolder,) if entry.loader else (None, "vae")


def _described(entry: Entry) -> str:
    """Return what messages call the weights: the name, and where they would come from."""
    place = (
        "on the hub; there is no folder or file of this name" if entry.repository == entry.name else entry.repository
    )
    return f"{entry.name!r} ({place})"


def _find(entry: Entry, token: str | None) -> tuple[str | None, Path]:
    """The subfolder of a repository in which an autoencoder is, and where the local cache has it; whatever the hub's client
    raises."""
    from huggingface_hub import hf_hub_download

    places = _places(entry)
    for place in places:
        try:
            return place, Path(
                hf_hub_download(str(entry.repository), "config.json", subfolder=place, token=token)
            ).parent
        except Exception:
            if place == places[-1]:
                raise
    raise AssertionError("unreachable")


def wrap_hub(vae: Any, entry: Entry, subfolder: str | None, *, clips: bool = False) -> Autoencoder:
    """Wrap an autoencoder of the hub, with the repository's name and the revision that the local cache holds."""
    known = {"native_size": entry.native_size} if entry.native_size else {}
    revision = _revision(str(entry.repository), subfolder)
    return wrap(vae, entry.name, clips=clips, repository=entry.repository, revision=revision, **known)


def unavailable(entry: Entry, error: Exception) -> WeightsUnavailableError:
    """Return the error for whatever the hub's client raised, in one line: it uses a dozen exception types, most with a page of
    text."""
    reason = " ".join(str(error).split())
    if len(reason) > 160:
        reason = reason[:157] + "…"
    return WeightsUnavailableError(
        f"the weights of {_described(entry)} cannot be had: {reason} Remedy: go online, accept the "
        f"repository's licence and set HF_TOKEN where it is gated, or give --weights FOLDER in diffusers' layout. {_NAMES}"
    )


def _revision(repository: str, subfolder: str | None) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    file = f"{subfolder}/config.json" if subfolder else "config.json"
    found = try_to_load_from_cache(repository, file)
    if not isinstance(found, str):  # None, or a mark that the file is known not to exist
        return None
    return Path(found).parents[len(Path(file).parts) - 1].name  # …/snapshots/REVISION/file
