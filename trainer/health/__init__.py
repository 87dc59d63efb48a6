"""How training does, beyond its loss: cheap looks into the model, and what they mean.

The room promises that looking changes nothing (no random number, no gradient, no step differs), that it costs at most a
settled share of the time, and that a finding is said once, with its level and with commands that would mend it, until it
has passed.

    probe      what one step shows: hidden states, dead units, gradients, updates, the loss of each row
    losses     spikes, and numbers that are not finite
    poison     which layers hold values that are not finite
    alarm      says a finding once
    watch      when to look, and what to say
"""

from trainer.health.alarm import Alarm
from trainer.health.losses import LossWatch, Spike
from trainer.health.poison import Poisoned, poisoned_layers
from trainer.health.probe import LayerNumbers, Probe
from trainer.health.watch import HealthWatch

__all__ = [
    "Alarm",
    "HealthWatch",
    "LayerNumbers",
    "LossWatch",
    "Poisoned",
    "Probe",
    "Spike",
    "poisoned_layers",
]
