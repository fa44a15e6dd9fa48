"""A backend whose kernels fail in every way a candidate can: `{"fault": (code, argument)}`."""

import os
import signal
import time

from chameleon_ray.measure.backend import Backend

OK, RAISES_IN_BUILD, SEGFAULTS, HANGS_IN_BUILD, HANGS_IN_RUN, EATS_MEMORY, WRONG, RAISES_IN_RUN = (
    range(8)
)


class Kernel:
    """Fails in its run, if it was told to."""

    def __init__(self, fault, argument):
        self.fault, self.argument = fault, argument

    def time(self, calls):
        """Milliseconds, as the argument says."""
        return self.argument / 1000

    def error(self):
        """Where the faults of a run happen."""
        match self.fault:
            case 2:
                os.kill(os.getpid(), signal.SIGSEGV)
            case 4:
                time.sleep(60)
            case 5:
                hoard = []
                while True:
                    hoard.append(bytearray(2**26))
            case 6:
                return float("inf")
            case 7:
                raise RuntimeError("device-side assert")
        return 0.0


class Builder:
    """Fails in its build, if it was told to."""

    def build(self, task, config):
        """A kernel that may fail."""
        fault, argument = config["fault"]
        if fault == RAISES_IN_BUILD:
            raise ValueError("no such intrinsic")
        if fault == HANGS_IN_BUILD:
            time.sleep(60)
        return Kernel(fault, argument)


class Runner:
    """One repeat each."""

    def run(self, kernel, best_seconds):
        """Error and times; the second time shows what was known as the best."""
        return kernel.error(), (kernel.time(1), best_seconds or 0.0)

    def compare(self, kernels):
        """Times of all."""
        for kernel in kernels:
            kernel.error()
        return [(kernel.time(1),) for kernel in kernels]


def backend(env, target, seed):
    """The faulty backend."""
    return Backend(
        builder=Builder(), runner=Runner(), target=target, compiler="faulty", has_torch=False
    )


def broken(env, target, seed):
    """A backend whose library is missing."""
    raise OSError("libLLVM.so: cannot open shared object file")


class HashingBuilder:
    """Any config builds; its time follows from its values."""

    def build(self, task, config):
        """A kernel without a fault."""
        return Kernel(OK, 1 + sum(n for choice in config.values() for n in choice) % 97)


class RefusingRunner(Runner):
    """Times kernels alone, but never together."""

    def compare(self, kernels):
        """Refuses."""
        raise RuntimeError("no two at once")


def alone(env, target, seed):
    """A backend whose finalists cannot be compared."""
    return Backend(
        builder=HashingBuilder(),
        runner=RefusingRunner(),
        target=target,
        compiler="alone",
        has_torch=False,
    )
