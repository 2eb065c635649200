"""The sections, in order of importance: when the time runs out, the last ones are not run."""

from benchmarks.gpu.day_section import Section
from benchmarks.gpu.sections import (
    asserts,
    custom_code,
    density,
    exhaustion,
    hardware,
    kernels,
    killed,
    loads,
    mix,
    oversubscription,
    start,
    suite,
    swap,
    throughput,
    uploads,
    volley,
)

_SWAP, _REGISTERED = swap.SECTIONS
_LOAD, _WARM_UP = loads.SECTIONS

ALL: tuple[Section, ...] = (
    *start.SECTIONS,
    *suite.SECTIONS,
    *asserts.SECTIONS,
    *uploads.SECTIONS,
    *kernels.SECTIONS,
    _SWAP,
    *oversubscription.SECTIONS,
    *throughput.SECTIONS,
    *volley.SECTIONS,
    *killed.SECTIONS,
    *density.SECTIONS,
    *exhaustion.SECTIONS,
    *custom_code.SECTIONS,
    _REGISTERED,
    _LOAD,
    *mix.SECTIONS,
    *hardware.SECTIONS,
    _WARM_UP,
)
