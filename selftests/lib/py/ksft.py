# SPDX-License-Identifier: GPL-2.0

"""
What the selftests' own ksft does not have.
"""

from collections.abc import Callable, Mapping

from net.lib.py.ksft import KsftCaseFunction


def cases(names: Mapping[str, object]) -> list[Callable | KsftCaseFunction]:
    """The test cases of a file, from its globals(), in their order there.

    ksft_run() could look for them too, but passes over those with variants: they
    cannot be called.
    """
    return [case for name, case in names.items() if name.startswith("test_")]
