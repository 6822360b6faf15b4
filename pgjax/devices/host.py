"""The main memory of this machine."""

import os


def free_host_bytes() -> int:
    """Returns the bytes of main memory that programs can still use."""
    try:
        with open("/proc/meminfo") as f:
            fields = dict(line.split(":") for line in f)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except OSError:  # not Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
