# SPDX-License-Identifier: Apache-2.0
"""The link-key file: what is written can be read, what can't be read says why; and the steps of a roll."""

import pytest

from meshd.base.errors import SettingsError
from meshd.security.link_keys import (
    EPOCHS_KEPT,
    EPOCHS_MAX,
    LINK_KEY_FILE_MAX_BYTES,
    LinkKeys,
    pack_link_keys,
    parse_link_keys_untrusted,
)

HEAD = b"meshd-link-keys 1\n"
KEY_1 = b"epoch 1 " + b"00" * 32 + b"\n"
KEY_2 = b"epoch 2 " + b"00" * 32 + b"\n"


@pytest.mark.parametrize("epochs", [(1, 12), (7,), tuple(range(1, EPOCHS_MAX + 1))])
def test_link_keys_survive_their_file(epochs: tuple[int, ...]) -> None:
    keys = LinkKeys({epoch: bytes([epoch]) * 32 for epoch in epochs}, epochs[0])
    assert len(pack_link_keys(keys)) <= LINK_KEY_FILE_MAX_BYTES
    assert parse_link_keys_untrusted(pack_link_keys(keys), "link.key") == keys


def test_one_epoch_needs_no_word_which_is_in_use() -> None:
    assert parse_link_keys_untrusted(HEAD + KEY_1, "link.key") == LinkKeys({1: bytes(32)}, 1)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "first line"),
        (b"\xff", "not ASCII"),
        (b"meshd-link-keys 2\n", "first line"),
        (HEAD, "has 0 keys"),
        (HEAD + b"epoch 1 00\n", "link.key:2"),
        (HEAD + b"epoch 0 " + b"00" * 32 + b"\n", "link.key:2"),
        (HEAD + KEY_1 * 2, "link.key:3"),
        (HEAD + bytes(5000), "first line"),
        (b"".join([HEAD, *(b"epoch %d " % n + b"00" * 32 + b"\n" for n in range(1, 18))]), "17 keys"),
        (HEAD + KEY_1 + KEY_2, "which of its epochs"),
        (HEAD + b"current 3\n" + KEY_1 + KEY_2, "which of its epochs"),
        (HEAD + b"current 1\ncurrent 2\n" + KEY_1 + KEY_2, "link.key:3"),
    ],
)
def test_a_bad_link_key_file_is_refused_without_showing_a_key(data: bytes, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason) as caught:
        parse_link_keys_untrusted(data, "link.key")
    assert "0000" not in str(caught.value)


def test_link_keys_are_not_shown() -> None:
    assert "07" not in repr(LinkKeys({1: b"\x07" * 32}, 1))


def test_a_roll_adds_then_uses_then_drops() -> None:
    keys = LinkKeys({1: b"\x01" * 32}, 1).add(b"\x02" * 32)
    assert (sorted(keys.keys), keys.current, keys.previous) == ([1, 2], 1, 1)
    keys = keys.use_newest()
    assert (keys.current, keys.previous) == (2, 1)
    assert not keys.is_old(1)
    keys = keys.add(b"\x03" * 32).use_newest()
    assert [epoch for epoch in keys.keys if keys.is_old(epoch)] == [1]
    assert sorted(keys.drop_old().keys) == [3]
    with pytest.raises(AssertionError, match="not in use yet"):
        keys.add(b"\x04" * 32).add(b"\x05" * 32)


def test_many_rolls_keep_few_epochs() -> None:
    keys = LinkKeys({1: bytes(32)}, 1)
    for _ in range(10):
        keys = keys.add(bytes(32)).use_newest()
    assert sorted(keys.keys) == list(range(12 - EPOCHS_KEPT, 12))
