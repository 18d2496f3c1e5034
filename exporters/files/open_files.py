"""The limit on open files: the soft limit is often 1,024 or 256, the hard limit far higher."""

try:
    import resource
except ImportError:  # The module does not exist on Windows.
    resource = None  # type: ignore[assignment]

OTHERS = 128  # Reserved for the files, pipes and sockets of everything else in the process.
UNKNOWN = 400  # Assumed where the limit cannot be queried; the C runtime's own limit on Windows is 512.


def allow_open_files(count: int) -> int:
    """Raise this process's soft limit if `count` more files do not fit, and return how many of them may be open."""
    if resource is None:
        return min(count, UNKNOWN)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + OTHERS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        except (ValueError, OSError):  # macOS has another limit that it does not report.
            soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return count if soft == resource.RLIM_INFINITY else max(1, min(count, soft - OTHERS))
