# SPDX-License-Identifier: GPL-2.0
"""The directory on the host by which guests share out the tests of one list, and tell what came of them."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from counts import Counts


@dataclass(frozen=True)
class Shared:
    """What one guest takes from there, and leaves there."""

    directory: Path
    guest: int

    def _take(self, what: str) -> bool:
        """Takes something that one guest can have, unless another one has it."""
        place = self.directory / what
        try:
            place.mkdir()
        except FileExistsError:
            return False
        # By which the host knows what a guest that died has left.
        (place / f"guest.{self.guest}").touch()
        return True

    def tests(
        self, names: Sequence[str], parallel: Collection[str]
    ) -> Iterator[tuple[int, str]]:
        """Yields tests that no other guest has taken, with their numbers.

        One guest at a time does those that need two processors, and does them first.
        """
        numbered = list(enumerate(names, 1))
        if parallel and self._take("parallel"):
            numbered.sort(key=lambda test: test[1] not in parallel)
            parallel = ()
        later = []
        for number, name in numbered:
            if name in parallel:
                later.append((number, name))
            elif self._take(f"claim.{number}"):
                yield number, name
        # If the guest that does those has died meanwhile.
        if later and self._take("parallel"):
            yield from (test for test in later if self._take(f"claim.{test[0]}"))

    def record(
        self, number: int, name: str, counts: Counts, seconds: float = 0
    ) -> None:
        """Tells the host what came of a test; 0 for what is none."""
        with (self.directory / f"results.{self.guest}").open(
            "a", encoding="utf-8"
        ) as results:
            result = {
                "number": number,
                "name": name,
                "guest": self.guest,
                "passed": counts.passed,
                "failed": counts.failed,
                "skipped": counts.skipped,
                "failures": counts.failures,
                "seconds": round(seconds, 1),
            }
            print(json.dumps(result), file=results)
        if counts.failed:
            (self.directory / "failed").touch()

    @property
    def failed(self) -> bool:
        """Whether anything has, in any guest."""
        return (self.directory / "failed").exists()

    def log(self, number: int, name: str) -> Path:
        """Returns where the output of a test is kept."""
        return self.directory / "log" / f"{number:03d}-{Path(name).stem or name}.log"

    def end(self) -> None:
        """Tells the host that this guest has come to the end of the list."""
        (self.directory / f"end.{self.guest}").touch()
