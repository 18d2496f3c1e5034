"""Room for many open files: the soft limit is often 1,024 or 256, the hard one far higher."""

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

OTHERS = 128  # files, pipes and sockets of everything else
UNKNOWN = 400  # where limits cannot be asked for; C's own limit on Windows is 512


def allow_open_files(count: int) -> int:
    """Raise this process's soft limit where `count` files more do not fit; -> how many of them may be open."""
    if resource is None:
        return min(count, UNKNOWN)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + OTHERS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        except (ValueError, OSError):  # macOS has one more limit that it does not tell
            soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return count if soft == resource.RLIM_INFINITY else max(1, min(count, soft - OTHERS))
