"""What a search decides, as a pure state machine: no Ray, no clock, no files.

Theory of operation
-------------------

A run is a list of entries, the log. An entry is an *event* (one decision; events.py) or an
*observation* (one epoch's report; messages.py). `Search.apply` takes the entries one by one and is
the only method that changes the search, so everything else follows:

* A run is resumed by applying its log to a fresh search.
* A run is replayed by deciding again at every entry and comparing (replay.py).
* A damaged log is repaired by applying what still follows (salvage.py).
* A search is simulated by feeding it reports of made-up workers (simulate.py).

`suggest`, `observe`, `fail`, `stop` and `evict` decide: they build events, apply them, and return
them to the driver, which writes them down. A decision depends on the applied entries and on the
seed alone. Random numbers come from streams that are keyed by (seed, trial, purpose)
(random_streams.py), so no decision shifts the random numbers of another one.

The life of a trial, as trial.TRANSITIONS has it (anything else is an `InvalidEntry`)::

    start ──► RUNNING ── pause ──► PAUSED ── promote ──► RUNNING …
                 │                   └────── prune ────► PRUNED
                 ├── complete ► COMPLETED     its last epoch is max_epochs
                 ├── diverge ─► DIVERGED      a metric was not finite, or the loss exploded
                 ├── fail ────► FAILED        the trainer raised, or its workers died too often
                 ├── prune ───► PRUNED        the median rule
                 ├── retry ───► RUNNING       the worker was lost: the same assignment, attempt + 1
                 └── stop ────► STOPPED ── retry ──► RUNNING     the session ended in between

Between start, promote or retry and the next event of the trial, one *assignment* is under way:
epochs start_epoch + 1 … stop_epoch, reported one by one and in order. A report is accepted only if
its attempt is the present one and its epoch the next one, so a worker that was given up cannot
change anything. What `apply` refuses stands in validation.py, and so do the invariants that hold
between two decisions (`Search.validate`).

Which configuration is tried, who waits, who goes on and who is given up is decided by the search
*method* (methods/: one file each). A method is told what was applied and is asked for decisions;
its state is rebuilt from the log like everything else. It is put together from a sampler
(samplers/), a pruning rule (pruning/) and, for method caviar, a Gaussian process (surrogate/). The
fine stage (fine_stage.py, zoom.py) belongs to the search: it narrows the space to boxes around the
best trials, once in each cycle of the budget (budget.py).

After a crash nothing in here needs attention: what was applied but not written never happened, and
the session that resumes the run stops the trials that were RUNNING and hands them out again.
"""
