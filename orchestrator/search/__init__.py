"""The search as a pure state machine: it uses no Ray, no clock and no files.

Theory of operation
-------------------

A run is a list of entries, the log. An entry is an *event* (one decision; events.py) or an
*observation* (one epoch's report; messages.py). `Search.apply` takes the entries one by one and is
the only method that changes the search (state.py). Everything else follows:

* A run is resumed by applying its log to a fresh search.
* A run is replayed by deciding again at every entry and comparing (replay.py).
* A damaged log is repaired by applying the entries that are still valid (salvage.py).
* A search is simulated with reports of simulated workers (simulate.py).

`suggest`, `observe`, `fail`, `stop` and `evict` (search.py) decide: they build events
(decisions.py), apply them, and return them to the driver, which writes them to the log. A decision
depends only on the applied entries and the seed. Random numbers come from generators that are keyed
by (seed, trial, purpose) (random_streams.py), so no decision shifts the random numbers of another.

The transitions of a trial (trial.TRANSITIONS; anything else is an `InvalidEntry`)::

    start ──► RUNNING ── pause ──► PAUSED ── promote ──► RUNNING …
                 │                   └────── prune ────► PRUNED
                 ├── complete ► COMPLETED     the trial has trained max_epochs
                 ├── diverge ─► DIVERGED      a metric was not finite, or the loss exploded
                 ├── fail ────► FAILED        the trainer raised an error, or workers died too often
                 ├── prune ───► PRUNED        the median rule
                 ├── retry ───► RUNNING       the worker was lost: the same assignment, attempt + 1
                 └── stop ────► STOPPED ── retry ──► RUNNING   the session ended in between

Between start, promote or retry and the next event of a trial, one *assignment* is under way: its
epochs start_epoch + 1 … stop_epoch are reported one by one and in order. A report is accepted only
if its attempt is the present one and its epoch the next one, so an abandoned worker cannot change
anything. validation.py defines what `apply` refuses, and the invariants that hold between two
decisions (`Search.validate`).

The search *method* (methods/: one file each) decides which configuration is tried, and which trials
wait, go on, or are given up. A method is notified of what was applied and is asked for decisions;
its state is rebuilt from the log like everything else. It consists of a sampler (samplers/), a
pruning rule (pruning/) and, for method caviar, a Gaussian process (surrogate/). Two parts belong to
the search itself: the fine stage (fine_stage.py, zoom.py) narrows the space to boxes around the
best trials, once in each cycle of the budget (budget.py); audits (audits.py) measure what pruning
misses.

After a crash the search needs no repair: entries that were applied but not written are lost, and
the session that resumes the run stops the trials that were RUNNING and hands them out again.
"""
