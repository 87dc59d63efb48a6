"""The commands of the paper (A.2), and `publish_checkpoint`; importing this package registers them."""

from trainer.commands import checkpoints, data, evaluation, flow, layers, length, optimizer, publishing

__all__ = ["checkpoints", "data", "evaluation", "flow", "layers", "length", "optimizer", "publishing"]
