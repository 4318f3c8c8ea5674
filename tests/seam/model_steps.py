# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls for the library and the model: valid ones, and ones that break a rule or two."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from hypothesis import strategies as st

from .binding import ALL_ONES
from .machine import (
    CONFIG,
    DISABLE,
    FIRST_HKID,
    GIB,
    INFO,
    INIT,
    KEY_CONFIG,
    LP_INIT,
    LP_SHUTDOWN,
    PAGE,
    RD,
    RDALL,
    SHUTDOWN,
    TDMR_INIT,
    UPDATE,
    Machine,
    Tdmr,
    layout,
)
from .model_pair import Pair, Step
from .model_pseamldr import IS_PSEAMLDR, SEAMLDR_INFO, SEAMLDR_SEAMINFO

LPS = 4
MAX_DEPTH = 2
HV, LEAST_HV = 4, 2
SEAMRR = 0xC0000000
SEAMRR_END = SEAMRR + 0x2000000
KEYID_SHIFT = 46
TDMRS = layout([(4 * GIB, GIB), (6 * GIB, 2 * GIB)], 20 * GIB)
TDMRS[1].reserved = [(0, PAGE), (PAGE, 3 * PAGE), (GIB, GIB)]
ONE_TDMR = layout([(8 * GIB, GIB)], 21 * GIB)
# Arrays for TDH.SYS.CONFIG: well-formed ones, and one whose second entry is bad.
GOOD_ARRAY, OTHER_ARRAY, BAD_ARRAY = 0x200000, 0x210000, 0x220000


U64 = st.one_of(
    st.integers(0, 70),
    st.integers(0, ALL_ONES),
    st.integers(0, 63).map(lambda bit: 1 << bit),
    st.integers(0, 64).map(lambda bit: (1 << bit) - 1),
)


def machine() -> Machine:
    """Two packages of two LPs, with CONFIG's operands in memory."""
    built = Machine(lps=LPS, packages=2)
    for array, tdmrs in ((GOOD_ARRAY, TDMRS), (OTHER_ARRAY, ONE_TDMR), (BAD_ARRAY, TDMRS)):
        write_array(built, array, tdmrs)
    built.memory.write(BAD_ARRAY + 8, (GOOD_ARRAY + 8).to_bytes(8, "little"))
    return built


def write_array(at: Machine, array: int, tdmrs: list[Tdmr]) -> None:
    """An array of addresses with its TDMR_INFOs behind it."""
    for i, tdmr in enumerate(tdmrs):
        info = array + PAGE + 512 * i
        at.memory.write(info, tdmr.pack())
        at.memory.write(array + 8 * i, info.to_bytes(8, "little"))


def addresses(good: int, align: int) -> st.SearchStrategy[int]:
    """A buffer address: mostly fine, else at or beyond the edge of one rule."""
    fine = [good, good | 1 << KEYID_SHIFT, good | 31 << KEYID_SHIFT, SEAMRR - align, SEAMRR_END]
    bad = [
        good + align // 2,
        good + 1,
        good | 32 << KEYID_SHIFT,
        good | 63 << KEYID_SHIFT,
        good | 1 << 52,
        SEAMRR,
        SEAMRR_END - align,
        SEAMRR + align // 2,
        ALL_ONES,
        1 << 63,
    ]
    return st.one_of(st.just(good), st.sampled_from(fine), st.sampled_from(bad))


def _mostly(value: int, others: st.SearchStrategy[int]) -> st.SearchStrategy[int]:
    return st.one_of(st.just(value), st.just(value), st.just(value), others)


def field_ids(known: Sequence[int]) -> st.SearchStrategy[int]:
    """Ids for TDH.SYS.RD and RDALL: known ones, neighbours, flipped bits."""
    one = st.sampled_from(known)
    return st.one_of(
        one,
        st.just(ALL_ONES),
        st.integers(0, 7).map(lambda context: ALL_ONES & ~(context << 52)),
        st.tuples(one, st.integers(-2, 70)).map(lambda pair: (pair[0] + pair[1]) & ALL_ONES),
        st.tuples(one, st.integers(0, 63)).map(lambda pair: pair[0] ^ 1 << pair[1]),
        st.tuples(one, st.integers(0, 63), st.integers(0, 63)).map(
            lambda three: three[0] ^ 1 << three[1] ^ 1 << three[2]
        ),
        U64,
    )


def _shutdown_rcx() -> st.SearchStrategy[int]:
    flags = st.sampled_from([0, 1 << 16, 1 << 17, 1 << 32, 1 << 63])
    return st.one_of(
        st.just(HV),
        st.tuples(st.integers(0, HV + 2), flags).map(lambda pair: pair[0] | pair[1]),
        U64,
    )


def _tdmr_bases() -> st.SearchStrategy[int]:
    odd = [5 * GIB, 7 * GIB, 8 * GIB, 4 * GIB + PAGE, 0]
    odd += [4 * GIB | 1 << KEYID_SHIFT, 4 * GIB | 1 << 52]
    return st.one_of(st.sampled_from([4 * GIB, 6 * GIB]), st.sampled_from(odd), U64)


def operands(known_ids: Sequence[int]) -> Mapping[int, Mapping[str, st.SearchStrategy[int]]]:
    """What each leaf reads, by leaf."""
    last_hkid = FIRST_HKID + 31
    hkids = st.sampled_from([0, 31, 32, last_hkid, last_hkid + 1, 1 << 16 | 32, 1 << 63 | 32])
    return {
        INIT: {"rcx": _mostly(0, U64), "r8": _mostly(0, U64)},
        CONFIG: {
            "rcx": st.one_of(addresses(GOOD_ARRAY, 512), st.sampled_from([OTHER_ARRAY, BAD_ARRAY])),
            "rdx": _mostly(2, st.sampled_from([0, 1, 3, 64, 65, ALL_ONES])),
            "r8": _mostly(FIRST_HKID, hkids),
            "r9": _mostly(0, U64),
            "r10": _mostly(0, U64),
        },
        TDMR_INIT: {"rcx": _tdmr_bases()},
        INFO: {
            "rcx": addresses(0x4000, 1024),
            "rdx": st.sampled_from([1024, 2048, 1023, 0, ALL_ONES]),
            "r8": addresses(0x6000, 512),
            "r9": st.sampled_from([32, 64, 31, 0, ALL_ONES]),
        },
        RD: {"rdx": field_ids(known_ids)},
        RDALL: {"rdx": addresses(0x8000, 4096), "r8": field_ids(known_ids)},
        SHUTDOWN: {"rcx": _shutdown_rcx()},
        UPDATE: {"r9": _mostly(0, U64), "r10": _mostly(0, U64)},
        SEAMLDR_INFO: {"rcx": addresses(0xC000, 256)},
        SEAMLDR_SEAMINFO: {"rcx": addresses(0xA000, 2048)},
    }


# Likelier where they lead on; what is no SYS leaf comes last.
LEAVES = [
    *[INIT, LP_INIT, LP_INIT, LP_INIT, CONFIG, CONFIG, KEY_CONFIG, KEY_CONFIG, TDMR_INIT] * 2,
    *[RD, RDALL, INFO, LP_SHUTDOWN, SHUTDOWN, UPDATE, UPDATE, DISABLE],
    *[0, 3, 8, 22, 24, 30, 38, 46, 55, 200, 254, 0xFFFF, SEAMLDR_INFO, SEAMLDR_SEAMINFO],
    *[IS_PSEAMLDR | leaf for leaf in (1, 2, 4, 0xFE, 1 << 16, 1 << 62)],
]


@st.composite
def raxes(draw: st.DrawFn, leaves: list[int]) -> int:
    leaf = draw(st.sampled_from(leaves))
    if draw(st.integers(0, 9)):
        return leaf
    version = draw(st.sampled_from([0, 1, 2, 255]))
    reserved = draw(st.sampled_from([0, 0, 1 << 24, 1 << 31, 1 << 32, 1 << 62]))
    return leaf | version << 16 | reserved


class Calls:
    """Strategies of calls, by how deep others may be inside."""

    def __init__(self, known_ids: Sequence[int], without: Sequence[int] = ()) -> None:
        """known_ids: of metadata fields, as the reference has them; without: leaves."""
        self._raxes = raxes([leaf for leaf in LEAVES if leaf not in without])
        self._registers = {
            leaf: st.fixed_dictionaries(dict(reads)) for leaf, reads in operands(known_ids).items()
        }
        self._steps = [self._strategy()]
        for _ in range(MAX_DEPTH):
            self._steps.append(self._strategy(inside=self._steps[-1]))

    def steps(self, depth: int = 0) -> st.SearchStrategy[Step]:
        """A call; with a depth perhaps with calls of other LPs while it is inside."""
        return self._steps[depth]

    def registers(self, leaf: int) -> st.SearchStrategy[dict[str, int]]:
        """What a leaf may be given."""
        return self._registers.get(leaf, st.just({}))

    def _strategy(self, inside: st.SearchStrategy[Step] | None = None) -> st.SearchStrategy[Step]:
        inner = st.just([]) if inside is None else st.lists(inside, max_size=2)
        return st.builds(self._step, st.data(), st.integers(0, LPS - 1), self._raxes, inner)

    def _step(self, data: st.DataObject, lp: int, rax: int, inner: list[Step]) -> Step:
        leaf = rax if rax & IS_PSEAMLDR else rax & 0xFFFF
        registers = data.draw(self.registers(leaf))
        return Step(lp, rax, registers, tuple(_elsewhere(step, {lp}) for step in inner))


def _elsewhere(step: Step, taken: set[int]) -> Step:
    """On an LP that is not inside already."""
    lp = next(lp for n in range(LPS) if (lp := (step.lp + n) % LPS) not in taken)
    inner = tuple(_elsewhere(other, taken | {lp}) for other in step.inner)
    return dataclasses.replace(step, lp=lp, inner=inner)


# How far a module is before the calls of a test: what to do, from the state before.


def _init(pair: Pair) -> None:
    assert pair.status(Step(0, INIT, {"rcx": 0})) == "TDX_SUCCESS"


def _lp_init(*lps: int) -> Callable[[Pair], None]:
    def run(pair: Pair) -> None:
        for lp in lps:
            assert pair.status(Step(lp, LP_INIT)) == "TDX_SUCCESS"

    return run


def _config(pair: Pair) -> None:
    good = {"rcx": GOOD_ARRAY, "rdx": 2, "r8": FIRST_HKID}
    assert pair.status(Step(1, CONFIG, good)) == "TDX_SUCCESS"


def _key_config(lp: int) -> Callable[[Pair], None]:
    def run(pair: Pair) -> None:
        assert pair.status(Step(lp, KEY_CONFIG)) == "TDX_SUCCESS"

    return run


def _begin_a_tdmr(pair: Pair) -> None:
    pair.run(Step(2, TDMR_INIT, {"rcx": 6 * GIB}, repeat=3))


def _shut_down(pair: Pair) -> None:
    assert pair.status(Step(3, SHUTDOWN, {"rcx": HV})) == "TDX_SUCCESS"


def _update_module(pair: Pair) -> None:
    pair.reload(keep_handoff=True)
    _init(pair)
    _lp_init(0, 1, 2, 3)(pair)


STAGES: list[Callable[[Pair], None]] = [
    _init,
    _lp_init(0, 1, 2),
    _lp_init(3),
    _config,
    _key_config(1),
    _key_config(2),
    _begin_a_tdmr,
    _shut_down,
    _update_module,
]


def bring_to(pair: Pair, stage: int) -> None:
    """Runs the first stages."""
    for advance in STAGES[:stage]:
        advance(pair)
