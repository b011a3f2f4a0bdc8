# SPDX-License-Identifier: Apache-2.0
"""The lab's only error: something named can't be, for a reason, and here is what to do."""


class LabError(Exception):
    """Whoever runs the lab can act on it; the message names the thing, the reason and the remedy."""
