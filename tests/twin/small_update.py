"""An update.tar.gz that travels fast over a serial line: its program is a script that starts the factory's."""

from __future__ import annotations

import gzip
import io
import random
import tarfile

_SCRIPT = """\
#!/bin/sh
rm -rf /tmp/factory
mkdir -p /tmp/factory
tar -xzf /home/update.tar.gz -C /tmp/factory
exec /tmp/factory/daemon "$@"
# {ballast}
"""
_BALLAST_BYTES = 8 * 1024


def small_update(seed: int = 1) -> bytes:
    """About 16 KB that do not compress further: some pages of flash. The same bytes for the same seed."""
    program = _SCRIPT.format(ballast=random.Random(seed).randbytes(_BALLAST_BYTES).hex()).encode("ascii")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo("daemon")
        member.size, member.mode = len(program), 0o755
        archive.addfile(member, io.BytesIO(program))
    return gzip.compress(buffer.getvalue(), mtime=0)
