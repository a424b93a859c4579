# %% [markdown]
# # Five questions about a run
#
# A run's folder is three Parquet tables: `trials` (one row for each trial), `epochs` (one row for
# each epoch of each trial) and `events` (every decision, with its reason). `docs/schema.md`
# describes each column. The questions are asked in DuckDB's SQL and in pandas; `examples/run` is a
# minute of `caviar search digits`, without its models. You can give the folder of another run.
"""Five questions about a run: `python examples/analyse.py [RUN]`; or cell by cell in an editor."""

# %%
import sys
from pathlib import Path

import duckdb
import pandas as pd

from pipelines.see.run import load_run

RUN = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "run"
run = load_run(RUN)
db = duckdb.connect()
for table in ("trials", "epochs", "events"):
    db.sql(f"create view {table} as select * from '{RUN}/{table}/*.parquet'")
METRIC, MAXIMIZE = run.objective.metric, run.objective.maximize
BEST = "max" if MAXIMIZE else "min"

# %% [markdown]
# ## 1. Which learning rates work?
# By decade: the median is the typical result, the best one shows what is possible.

# %%
print("\n1. Which learning rates work?\n")
print(
    db.sql(f"""
        select floor(log10(config_learning_rate)) as decade, count(*) as trials,
               round(median({METRIC}), 4) as median, round({BEST}({METRIC}), 4) as best
        from trials where {METRIC} is not null group by decade order by decade
    """).df().to_string(index=False)
)  # fmt: skip

# %% [markdown]
# ## 2. Was the fine stage better than the coarse stage?
# The best of the coarse stage against that of the fine one, and what each cost.

# %%
print("\n2. Was the fine stage better than the coarse stage?\n")
print(
    db.sql(f"""
        select stage, count(distinct trial) as trials, count(*) as epochs,
               round(median(e.{METRIC}), 4) as median, round({BEST}(e.{METRIC}), 4) as best
        from epochs e join trials t using (trial) where cause is null group by stage order by stage
    """).df().to_string(index=False)
)  # fmt: skip

# %% [markdown]
# ## 3. How early can the final result be predicted?
# Of the trials that were trained to the end: the rank correlation of each epoch with the last one.

# %%
print("\n3. How early can the final result be predicted?\n")
curves = run.epochs.pivot(index="trial", columns="epoch", values=METRIC).astype(float)
whole = curves.dropna()
correlations = pd.DataFrame(
    {"correlation with the end": whole.corrwith(whole[whole.columns[-1]], method="spearman")}
).round(2)
early = [epoch for epoch in (1, 2, 4, 10, len(correlations) - 1) if 1 <= epoch < len(correlations)]
print(f"{len(whole)} trials\n{correlations.loc[sorted(set(early))].to_string()}")

# %% [markdown]
# ## 4. What did pruning save, and which trials did it stop?

# %%
print("\n4. What did pruning save, and which trials did it stop?\n")
print(
    db.sql("""
        with done as (select status, count(*) as trials, sum(epochs)::int as epochs
                      from trials group by status),
             longest as (select max(epochs) as most from trials)
        select status, trials, epochs, (trials * most - epochs)::int as saved
        from done, longest order by trials desc
    """).df().to_string(index=False)
)  # fmt: skip

# %% [markdown]
# ## 5. What does a good network cost?
# The cheapest trial within half a percent of the best, in seconds of training.

# %%
print("\n5. What does a good network cost?\n")
sign = 1 if MAXIMIZE else -1
good = run.trials[sign * run.trials[METRIC] >= (sign * run.trials[METRIC]).max() - 0.005]
columns = ["trial", METRIC, "epochs", "epoch_seconds", "config_layers", "config_batch_size"]
print(good.sort_values("epoch_seconds")[columns].head(5).round(4).to_string(index=False))
