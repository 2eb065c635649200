"""The sections, in order of importance: when the time runs out, the last ones are not run."""

from benchmarks.gpu.section import Section
from benchmarks.gpu.sections import (
    asserts,
    custom_code,
    density,
    exhaustion,
    hardware,
    killed,
    loads,
    mix,
    oversubscription,
    start,
    suite,
    swap,
    throughput,
    volley,
)

_SWAP, _REGISTERED = swap.SECTIONS
_LOAD, _WARM_UP = loads.SECTIONS

ALL: tuple[Section, ...] = (
    *start.SECTIONS,
    *suite.SECTIONS,
    *asserts.SECTIONS,
    _SWAP,
    *oversubscription.SECTIONS,
    *throughput.SECTIONS,
    *volley.SECTIONS,
    *killed.SECTIONS,
    *density.SECTIONS,
    _LOAD,
    *exhaustion.SECTIONS,
    *custom_code.SECTIONS,
    _REGISTERED,
    _WARM_UP,
    *hardware.SECTIONS,
    *mix.SECTIONS,
)
