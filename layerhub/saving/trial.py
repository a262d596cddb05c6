"""A process that reads all of an HDF5 file through the library, so that it is this process that dies or hangs of it.

``python -m layerhub.saving.trial START LENGTH``, with the file as its input; see ``hdf5.tried``. It answers 0 where the
file can be read, and 3 where it is refused, with the reason.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from layerhub.errors import FileFormatError
from layerhub.saving.files import Window

REFUSED = 3


def main(start: int, length: int) -> int:
    """Read the file, and say what came of it."""
    from layerhub.saving import hdf5

    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no picture of its memory is wanted
    with open(0, "rb", closefd=False) as file:
        window = Window(file, start, length)
        try:
            with hdf5.library().File(window, "r") as opened:
                hdf5.Foreign(opened, window).read_all()
        except (FileFormatError, OSError, RuntimeError, LookupError, ValueError, TypeError, MemoryError) as problem:
            print(str(problem)[:1000])
            return REFUSED
    return 0


if __name__ == "__main__":
    code = main(int(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.flush()
    os._exit(code)  # the library, which a damaged file may have spoilt, is not asked to tidy up
