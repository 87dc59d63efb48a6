"""The paper's first two case studies as programs, on a small GPT-2 and the text of Python's own manual.

    python -m examples.studies expert      3.1: a scripted expert against static learning rates
    python -m examples.studies tuner       3.2: an agent finds its way out of a rate that is far too large

Every run is steered through a real control server by `control.agents`, so its interventions are commands in the record
like those of people. All arms of a seed begin with the same weights and see the same data in the same order.
"""
