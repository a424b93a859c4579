"""The folder of a run on disk: tables, checkpoints, lock and mirror.

Theory of operation
===================

A run is a folder. One process at a time may write to it, and any number may read it at any moment.

    spec.yaml       what makes the run this run; written once, before the first row
    run.lock        the writer holds an flock on it and on the folder; the kernel releases both when
                    the process ends
    events/         every decision, one row each                   append-only
    epochs/         every epoch that was reported, one row each    append-only
    trials/         one row for each trial, derived from the other two tables
    checkpoints/    the states of trials that may go on: a cache
    best/           the best model so far
    damaged-N/      the tables that a repair has replaced, and files that were no parts of a table

Events and epochs are the truth. They share one counter, `seq`: the order in which the driver took
things in. Applying both tables in that order gives the search its state back, so nothing else has
to be saved. A table is a folder of parts. Only the last part changes: it is rewritten under a
hidden name, synchronised to the disk and renamed, so a reader sees the old part or the new one.
When it holds 100,000 rows, the next part begins.

All writing goes through `files`. A run may have come from somebody else, so `run_files` refuses one
whose files are links or pipes before anything is read or written, and no write follows a link. What
a writer finds to be moved, deleted or replaced under its lock (`Lock.require_held`, before each
flush) ends its session: another process may be writing there.

Who may change what. `Log` alone writes events, epochs and trials; `CheckpointStore` alone writes
checkpoints; both belong to the process that holds `Lock`. Readers (`reading`) take no lock and
change nothing. `Mirror` reads the folder as it was at one moment (`snapshot`) and replaces a copy
elsewhere all at once (`mirror_store`), if that copy is this run's past (`mirror_identity`).
A run whose tables an older version wrote is only read: this version would append rows of another
schema.

In which order a flush writes: first checkpoints and the best model, because rows speak of them;
then the new events under a hidden name, together with the number of epochs that they go with; then
the epochs; then the events get their name. The trials table follows, at most 2 % of the time.

What a crash leaves behind:

    before the epochs are renamed     hidden files; the tables end at the flush before
    between epochs and events         epochs whose events are still hidden: the next `Log` counts
                                      the epochs and renames the events that belong to them
    after the events are renamed      a trials table that is behind; readers add the newest events,
                                      and the next writer writes it anew
    in the middle of a checkpoint     a hidden file; the trial trains again from its last state
    in the middle of a hidden file    a file that no reader opens; the next writer removes it, as
                                      no process holds an flock on it

So opening a run for writing repairs all that a crash can do. What a crash cannot do, a file that
was damaged, lost, copied or edited, makes readers name the file or the row (`DamageError`);
`caviar repair` then keeps every row that fits and moves the old tables to damaged-N/. A part of
another version, or one that may not or cannot be read now, is not damage: nothing changes it. A
checkpoint that cannot be read is never an error: the trial trains again.

A run may come from a foreign machine, so nothing in its tables is trusted. `parquet_errors` turns
what pyarrow raises into errors of ours; `cells` checks each part alone: sizes before memory is
taken, types, ranges; `reading` checks names of parts and numbers of rows; `agreement` and the
search check that rows follow from each other.
"""
