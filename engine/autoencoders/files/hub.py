"""Whether weights can be had from the hub, asked in one short request before its client tries for half a minute."""

from collections.abc import Sequence
from pathlib import Path

from ...errors import WeightsUnavailableError
from .folder import weight_files

# names of the classes of errors without a connection, in the libraries that the hub's client has used: httpx2, httpx, requests
_NO_CONNECTION = {"ConnectError", "ConnectTimeout", "ConnectionError", "ProxyError"}


def check_hub(name: str, repository: str, places: Sequence[str | None], token: str | None, remedy: str) -> None:
    """Raise `WeightsUnavailableError` if a repository's weights are not in the local cache and the hub cannot be reached.

    name: what the message calls the weights. places: the subfolders in which they may be, None being the repository itself.
    remedy: the last of the message's remedies. The request waits for a connection as long as HF_HUB_ETAG_TIMEOUT says, 10
    seconds by default. A hub that answers, even slowly or with an error, is left to its client.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    if any(_is_cached(repository, place) for place in places):
        return
    url = hf_hub_url(repository, "config.json", subfolder=places[0])
    try:
        get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT, token=token)
    except Exception as error:
        if _NO_CONNECTION.isdisjoint(kind.__name__ for kind in type(error).__mro__):
            return
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else " ".join(str(error).split())[:100]
        raise WeightsUnavailableError(
            f"the weights of {name} cannot be had: they are not in the cache {constants.HF_HUB_CACHE}, and "
            f"{constants.ENDPOINT} cannot be reached ({why}). Remedy: go online, or download {repository} into a cache "
            f"elsewhere and copy it here (HF_HOME says where), or {remedy}"
        ) from error


def _is_cached(repository: str, place: str | None) -> bool:
    """Return whether the cache has a configuration, and weights beside it, in this subfolder of a repository."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, f"{place}/config.json" if place else "config.json")
    return isinstance(found, str) and bool(weight_files(Path(found).parent))
