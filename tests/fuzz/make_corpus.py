# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of every target into tests/fuzz/corpus: `python -m tests.fuzz.make_corpus`.

Files that a long run found and somebody added by hand (they are called by their SHA-1) are left alone.
"""

from tests.fuzz.target import CORPUS, load, names


def main() -> None:
    """Write what is not there yet."""
    for name in names():
        folder = CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        for seed, data in load(name).seeds().items():
            (folder / seed).write_bytes(data)


if __name__ == "__main__":
    main()
