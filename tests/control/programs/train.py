"""A trainer without training: a process that connects, tells a step's numbers now and then, and obeys.

Arguments: address, token, run, revision (or `none`), steps a second. Prints a line for each command that it obeys:
number, name, again, arguments as JSON. `do_evaluate` never ends, as an evaluation that a kill cuts off.
"""

from __future__ import annotations

import json
import sys
import time

from control import ActorConnection, CommandKind, EventType, Outcome, Report, Status
from control.bodies import RunBody
from control.fake import TRAINER
from control.protocol import RunStatus


def main() -> None:
    url, token, run, revision, pace = sys.argv[1:6]
    line = ActorConnection(
        url,
        token,
        run=run,
        actor="trainer",
        kind="trainer",
        commands=[fake.spec(name) for name, fake in TRAINER.items()],
        revision=None if revision == "none" else int(revision),
    )
    assert CommandKind.SETTING in {spec.kind for spec in (fake.spec(name) for name, fake in TRAINER.items())}
    line.start()
    line.tell(EventType.RUN, RunBody(status=RunStatus.RUNNING))
    step = 0
    while True:
        for delivery in line.wait(1 / float(pace)):
            command = delivery.command
            print(delivery.number, command.command, delivery.again, json.dumps(command.arguments), flush=True)
            line.report(Report(uuid=command.uuid, status=Status.RUNNING, step=step))
            if command.command == "do_evaluate":
                continue
            line.report(Report(uuid=command.uuid, status=Status.SUCCESS, outcome=Outcome.SUCCESS, step=step))
        step += 1
        line.tell(EventType.METRICS, {"loss": 1.0 / step, "time": time.time()}, step=step)


if __name__ == "__main__":
    main()
