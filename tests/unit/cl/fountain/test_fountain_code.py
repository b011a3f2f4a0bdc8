# SPDX-License-Identifier: Apache-2.0
"""RaptorQ behind the protocol: any K symbols, or very few more, give the object back."""

import random

import pytest

from meshd.cl.fountain.fountain_code import RaptorQ, count_symbols, fit_symbol, is_symbol_size, source_symbol


@pytest.mark.parametrize("size_bytes", [2, 100, 1424, 1425, 2849, 10_000, 300_000])
def test_a_random_choice_of_symbols_decodes(size_bytes: int) -> None:
    rng = random.Random(size_bytes)
    data = rng.randbytes(size_bytes)
    symbol_bytes = fit_symbol(size_bytes, 1424)
    count = count_symbols(size_bytes, symbol_bytes)
    assert is_symbol_size(size_bytes, symbol_bytes)
    symbols = {esi: source_symbol(data, symbol_bytes, esi) for esi in range(count)}
    code = RaptorQ()
    assert code.decode(size_bytes, symbol_bytes, symbols) == data
    if count > 1:
        repairs = code.repair_source(data, symbol_bytes).repair(count + 2)
        assert [len(each) for each in repairs] == [symbol_bytes] * (count + 2)
        symbols |= {count + number: symbol for number, symbol in enumerate(repairs)}
        chosen = rng.sample(sorted(symbols), count + 2)
        assert code.decode(size_bytes, symbol_bytes, {esi: symbols[esi] for esi in chosen}) == data


def test_more_repair_symbols_begin_with_the_same_ones() -> None:
    source = RaptorQ().repair_source(bytes(range(200)), 8)
    assert list(source.repair(20)[:5]) == list(source.repair(5))


def test_too_few_symbols_give_nothing() -> None:
    assert RaptorQ().decode(100, 8, {0: bytes(8)}) is None


@pytest.mark.parametrize("size_bytes", [1, 1424, 1425, 1424 * 5, 1424 * 5 + 1, 1_048_776])
def test_symbols_are_as_few_as_possible_and_padded_little(size_bytes: int) -> None:
    symbol_bytes = fit_symbol(size_bytes, 1424)
    count = count_symbols(size_bytes, symbol_bytes)
    assert count == count_symbols(size_bytes, 1424)
    assert count * symbol_bytes - size_bytes < 8 * count
