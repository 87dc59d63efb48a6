"""The deployed app of the demo: a small operating system whose screen a diffusion model paints.

The room promises a true system (`World`) that is deterministic and visible in whole, a model that imitates it
one frame after the other, and a way of judging it only by what people want to get done.
"""
