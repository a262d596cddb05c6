"""Whether this Python can have a LayerHub environment: told in a sentence, before anything is installed.

    python tools/preflight.py [--new] [--asked PYTHON] [BACKEND ...]

--new: an environment is about to be made, so the modules for that must be there.
--asked: the Python that the user asked for, while this one, of an environment that exists already, would be used.

It runs on any Python, however old, so that an old one gets the sentence and not a syntax error.
"""

# ruff: noqa: UP010, UP031

from __future__ import print_function

import subprocess
import sys

HERE = sys.version_info[:2]
OLDEST = (3, 11)

# The newest Python that has wheels of the version in constraints.txt; tests/test_packaging.py compares the versions.
NEWEST = {
    "numpy": ("2.4.6", (3, 14)),
    "torch": ("2.13.0", (3, 14)),
    "tensorflow": ("2.21.0", (3, 13)),
    "jax": ("0.10.2", (3, 14)),
}


def main(arguments):
    new, asked, wanted = False, None, ["numpy"]
    words = iter(arguments)
    for word in words:
        if word == "--new":
            new = True
        elif word == "--asked":
            asked = next(words)
        elif word not in wanted:
            wanted.append(word)
    for problem in problems(new, asked, wanted):
        print("LayerHub: " + problem, file=sys.stderr)
        return 1
    return 0


def problems(new, asked, wanted):
    """What stands in the way, the gravest first."""
    this = "%s is Python %s" % (sys.executable, dotted(sys.version_info[:3]))
    choose = "Name another one: make PYTHON=python%s ..." % dotted(min(newest for _, newest in NEWEST.values()))
    if HERE < OLDEST:
        yield "Python %s or newer is needed, but %s. %s" % (dotted(OLDEST), this, choose)
    for name in wanted:
        release, newest = NEWEST.get(name, ("", HERE))
        if newest < HERE:
            known = "%s %s has no wheels for Pythons after %s, but %s. " % (name, release, dotted(newest), this)
            yield known + choose + ("" if name == "numpy" else ", or leave %s out of BACKENDS." % name)
    for module in ("venv", "ensurepip") if new else ():
        if not importable(module):
            yield (
                "this Python cannot make virtual environments: its module %s is missing (%s). "
                "On Debian and Ubuntu: apt install python%s-venv" % (module, this, dotted(HERE))
            )
    if asked is not None:
        version = version_of(asked)
        if version is None:
            yield "PYTHON=%s cannot be run." % asked
        elif version != dotted(HERE):
            yield (
                "PYTHON=%s is Python %s, but in the environment that is already there %s. Remove it (make clean-all), "
                "choose another folder (VENV=...), or leave PYTHON unset." % (asked, version, this)
            )


def importable(module):
    try:
        __import__(module)
    except ImportError:
        return False
    return True


def version_of(python):
    """The version of another Python, as 3.11; None where it does not run."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        process = subprocess.Popen([python, "-c", code], stdout=subprocess.PIPE)
    except OSError:
        return None
    output = process.communicate()[0]
    return None if process.returncode else output.decode().strip()


def dotted(version):
    return ".".join(str(part) for part in version)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
