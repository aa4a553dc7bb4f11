"""Every test, in two lanes side by side: ``python -m tests.lanes [pytest's flags]``.

Browsers, engines and clients of other languages mostly wait for links, time-outs and each other; one after the other the suite
takes half as long again. What looks at time or memory stands last in the longer lane, when nothing else runs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
FOREIGN = ("interop", "kits", "e2e")
LAST = ("runtime", "bench", "abuse")


def lanes(folder: Path = HERE) -> tuple[list[str], list[str]]:
    """The paths of both, in order; together all that pytest would collect."""
    found = sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.match("test_*.py") or (entry.is_dir() and any(entry.rglob("test_*.py")))
    )
    own = [name for name in found if name not in (*FOREIGN, *LAST)] + [name for name in LAST if name in found]
    return [f"tests/{name}" for name in FOREIGN if name in found], [f"tests/{name}" for name in own]


def main(flags: list[str]) -> int:
    """0 if both lanes passed. The first one's output comes after the second's."""
    foreign, own = lanes()
    pytest = [sys.executable, "-m", "pytest", *flags]
    with tempfile.TemporaryFile("w+") as said:
        beside = subprocess.Popen(
            [*pytest, "-p", "no:cacheprovider", *foreign], stdout=said, stderr=subprocess.STDOUT
        )
        try:
            here = subprocess.run([*pytest, *own], check=False).returncode
            there = beside.wait()
        finally:
            if beside.poll() is None:
                beside.terminate()
                beside.wait()
        said.seek(0)
        print(said.read(), flush=True)
    return here or there


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
