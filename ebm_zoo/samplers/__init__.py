"""Markov chain Monte Carlo on an energy: methods, where chains start, and whether they have converged."""

from ebm_zoo.samplers.base import Energy, Hook, Sampler, Schedule, energy_gradient
from ebm_zoo.samplers.chains import Chains, FromData, Persistent, ShortRun, WarmStart
from ebm_zoo.samplers.diagnostics import effective_sample_size, split_r_hat
from ebm_zoo.samplers.hmc import HMC, hmc
from ebm_zoo.samplers.langevin import Langevin, langevin, unrolled_langevin
from ebm_zoo.samplers.noise import FittedGaussian, Gaussian, Noise, Uniform

__all__ = [
    "HMC",
    "Chains",
    "Energy",
    "FittedGaussian",
    "FromData",
    "Gaussian",
    "Hook",
    "Langevin",
    "Noise",
    "Persistent",
    "Sampler",
    "Schedule",
    "ShortRun",
    "Uniform",
    "WarmStart",
    "effective_sample_size",
    "energy_gradient",
    "hmc",
    "langevin",
    "split_r_hat",
    "unrolled_langevin",
]
