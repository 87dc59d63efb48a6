"""The two names of the paper, for scripts that were written for it.

from interactive_training import make_interactive, make_interactive_dataset
"""

from dataset import make_interactive_dataset
from trainer import make_interactive

__all__ = ["make_interactive", "make_interactive_dataset"]
