#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0

"""
Many pairs, made and deleted, and nothing left of them.

NETKIT_PAIRS says how many pairs; unless set, 1000, and on a kernel with kmemleak,
which takes minutes to delete so many, 300.
"""

import os
import time
from collections import deque

from lib.py import ksft_eq, ksft_exit, ksft_lt, ksft_pr, ksft_run
from lib.py import KMEMLEAK, Namespace, cases, emptied, kernel_memory, leaks
from lib.py import namespaces, netkit, ns_fd

PAIRS = int(os.environ.get("NETKIT_PAIRS", "300" if KMEMLEAK.exists() else "1000"))
# One struct net_device takes more.  Slabs that are not full, and what else goes
# on in the kernel, were seen to take half of it; smaller leaks are for kmemleak.
KEPT_PER_PAIR = 3072
GROUP = 7


def create(ns: Namespace, other: Namespace) -> None:
    start = time.monotonic()
    with ns_fd(other.name) as fd:
        for number in range(PAIRS):
            ns.rtnl.newlink(
                {"ifname": f"a{number}", "group": GROUP}
                | netkit(peer_info={"ifname": f"b{number}", "net-ns-fd": fd})
            )
    ksft_pr(f"{PAIRS} pairs made in {time.monotonic() - start:.1f} s")
    ksft_eq((len(ns.devices()), len(other.devices())), (PAIRS, PAIRS))


def delete_namespace(other: Namespace, *left: Namespace) -> None:
    start = time.monotonic()
    other.delete()
    for ns in left:
        emptied(ns)
    ksft_pr(f"deleted in {time.monotonic() - start:.1f} s")


def delete_group(ns: Namespace, *left: Namespace) -> None:
    start = time.monotonic()
    ns.rtnl.dellink({"group": GROUP})
    ksft_pr(f"deleted in {time.monotonic() - start:.1f} s")
    for other in (ns, *left):
        ksft_eq(other.devices(), set())


def settled() -> int:
    """The kernel's memory once it does not change any more."""
    seen: deque[int] = deque(maxlen=3)
    for _ in range(20):
        time.sleep(0.5)
        seen.append(kernel_memory())
        alike = max(seen) - min(seen) < PAIRS * KEPT_PER_PAIR // 32
        if alike and len(seen) == seen.maxlen:
            break
    return seen[-1]


def test_pairs() -> None:
    """As a group at first, with one of their namespaces then."""
    ns, second = namespaces(2)
    create(ns, second)
    delete_group(ns, second)
    # Now that slabs and processors have what so many devices need.
    before = None if KMEMLEAK.exists() else settled()
    third = Namespace()
    create(ns, third)
    delete_namespace(third, ns)
    if before is None:
        # Such a kernel is slow to give memory back, and knows better.
        ksft_eq(leaks(), "")
    else:
        kept = (settled() - before) // PAIRS
        ksft_pr(f"kept: {kept} bytes a pair")
        ksft_lt(kept, KEPT_PER_PAIR)


def main() -> None:
    ksft_run(cases(globals()))
    ksft_exit()


if __name__ == "__main__":
    main()
