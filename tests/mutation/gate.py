"""The gate: which mutants are drawn, and how many must be noticed so that chance alone never says no."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

CHANCE = 1e-4
"""How often the gate may fail where the share is just its room's bound: once in ten thousand trees."""


def least_noticed(shares: list[float], chance: float = CHANCE) -> int:
    """The smallest number of noticed mutants that is not a refusal. Each is noticed by the share of its own room (0 to 1): fewer
    come, where that is what tests notice, with a probability below ``chance`` (the Poisson binomial distribution, exactly).
    """
    odds = [1.0]
    for share in shares:
        after = [*(odd * (1 - share) for odd in odds), 0.0]
        for noticed, odd in enumerate(odds):
            after[noticed + 1] += odd * share
        odds = after
    below = 0.0
    for noticed, odd in enumerate(odds):
        below += odd
        if below >= chance:
            return noticed
    return len(shares)


def seed_of(root: Path) -> int:
    """A number that the source and its tests determine: one tree is judged by one sample, however often it is judged."""
    digest = hashlib.sha256()
    for room in ("gateway", "tests"):
        for path in sorted((root / room).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return int.from_bytes(digest.digest()[:8], "big")


def base_known(base: str) -> bool:
    """Whether git knows of this revision here, and it is not what is judged."""
    return bool(base and _git("rev-parse", "--verify", "--quiet", f"{base}^{{commit}}")) and bool(
        changed_since(base)
    )


def changed_since(base: str) -> list[str]:
    """Modules that differ from where this branch left ``base``."""
    since = _git("merge-base", base, "HEAD").strip() or base
    return _git("diff", "--name-only", since, "--", "gateway").split()


def _git(*words: str) -> str:
    told = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    return told.stdout if told.returncode == 0 else ""
