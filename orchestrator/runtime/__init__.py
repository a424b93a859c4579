"""Running a search: the session's loop, pools of workers, and what a worker does.

Theory of operation
-------------------
One process, the driver, runs a `Session`. It owns the clock and carries values between three parts
that do not know each other: the search decides, a pool of workers trains, and the log remembers.

    Session ──Assignment, Checkpoint, TrialMessage──► Pool ──► worker ──► Trainer
       ▲                                               │
       └────────── Report, Failure, TrialMessage ──────┘

* An assignment asks for some epochs of one trial. It ends in exactly one Report with `last`, or in
  one Failure, whatever happens to the worker; until then it is under way.
* A message changes a trial between two epochs of its assignment. The worker that carried it out
  sends it back with the epoch, and only then it is logged; one that is lost on the way has changed
  nothing. A worker that trains the trial again carries it out after the same epoch.
* A worker holds no trial: what it needs is in the assignment, and in the trial's checkpoint. A
  checkpoint is a cache; without it, the worker trains the trial again up to the assignment's start.
* Only the session changes the search, the log and the stored checkpoints. A pool returns messages
  and decides nothing about trials; the `Dispatcher` of a pool decides which worker trains what.
* If a worker dies, its assignments come back as failures, and the search asks for them again. If
  the driver dies, the workers end with it; the log says which assignments were under way, and the
  next session asks for them again. Reports of earlier attempts are refused by their number.

Loggers are named `caviar.runtime…`: warnings for losses, info for changes of a worker's state,
debug for each call.
"""
