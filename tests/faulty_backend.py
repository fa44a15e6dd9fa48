"""A backend whose kernels fail in every way a candidate can: `{"fault": (code, argument)}`."""

import os
import signal
import time
from dataclasses import replace

from chameleon_ray.measure.backend import Backend
from chameleon_ray.templates import default_config, design_space

OK, RAISES_IN_BUILD, SEGFAULTS, HANGS_IN_BUILD, HANGS_IN_RUN, EATS_MEMORY, WRONG, RAISES_IN_RUN = (
    range(8)
)
WAITS, KILLS_ITSELF = 8, 9


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
                    hoard.append(bytes(2**26))  # not touched: at once even on a busy machine
            case 6:
                return float("inf")
            case 7:
                raise RuntimeError("device-side assert")
            case 8:
                time.sleep(0.6)
            case 9:
                os.kill(os.getpid(), signal.SIGKILL)
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


def backend(env, target, seed, part="whole"):
    """The faulty backend."""
    return Backend(
        builder=Builder(), runner=Runner(), target=target, compiler="faulty", has_torch=False
    )


def from_environment(env, target, seed):
    """The faulty backend, its compiler named by a variable."""
    return replace(backend(env, target, seed), compiler=os.environ["CHAMELEON_TEST_COMPILER"])


def broken(env, target, seed):
    """A backend whose library is missing."""
    raise OSError("libLLVM.so: cannot open shared object file")


class HashingBuilder:
    """Any config builds; its time follows from its values."""

    def build(self, task, config):
        """A kernel without a fault."""
        return Kernel(OK, 1 + sum(n for choice in config.values() for n in choice) % 97)


class PickyBuilder(HashingBuilder):
    """The default works, and of the other configs a share."""

    def __init__(self, target, share):
        self.target, self.share = target, share

    def build(self, task, config):
        """Raises for the others."""
        space = design_space(task, self.target)
        default = space.describe(default_config(task, self.target))
        kernel = super().build(task, config)
        if dict(config) != dict(default) and kernel.argument % 10 >= 10 * self.share:
            raise RuntimeError("not this one")
        return kernel


def only_default(env, target, seed):
    """A backend for which nothing but the default works."""
    return _picky(target, 0.0)


def one_in_five(env, target, seed):
    """A backend for which most configs fail."""
    return _picky(target, 0.2)


def _picky(target, share):
    return Backend(
        builder=PickyBuilder(target, share),
        runner=Runner(),
        target=target,
        compiler="picky",
        has_torch=False,
    )


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


class WithTorchBuilder(HashingBuilder):
    """A config of nothing stands for torch's own kernel."""

    def build(self, task, config):
        """As any other, but for torch's."""
        return super().build(task, config) if config else Kernel(RAISES_IN_RUN, 1)


def torch_fails(env, target, seed):
    """A backend whose torch fails beside the finalists, and takes them along."""
    return replace(
        alone(env, target, seed), builder=WithTorchBuilder(), runner=Runner(), has_torch=True
    )
