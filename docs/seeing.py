"""Makes docs/seeing.md: each command that looks at a run, with what it really printed.

caviar search digits --time 60s --out runs/digits
caviar search digits --time 60s --out runs/digits-1 --seed 1
python docs/seeing.py > docs/seeing.md      (in the same folder)
"""

from __future__ import annotations

import shlex
import subprocess
import sys

from pipelines.see.run import load_run
from pipelines.see.summary import describe_best

RUN = "runs/digits"
SECTIONS = (
    ("What it came to", "", [f"caviar show {RUN}"]),
    (
        "While it runs, from another terminal",
        "Any machine that sees the folder can look; it leaves nothing behind. On a terminal the "
        "panel is drawn anew each second until the run ends or Ctrl-C.",
        [f"caviar watch {RUN}"],
    ),
    ("Why a trial ended as it did", "", ["caviar why {run} {best}", "caviar why {run} {left}"]),
    (
        "Which hyperparameters matter",
        "A functional ANOVA over random forests of all that the log says.",
        [f"caviar show {RUN} --importance"],
    ),
    (
        "Was pruning right?",
        "Trials that pruning left behind, chosen by lot, are trained to the end in a run of its "
        "own. `caviar search --audit 5%` sets a share of a search's epochs aside for the same.",
        [f"caviar audit {RUN} --total-epochs 540 --quiet"],
    ),
    (
        "Is the best one the best?",
        "The few best configurations are trained again on fresh seeds, on the same split of the "
        "data. The test rows choose nothing.",
        [f"caviar finalists {RUN} --top 5 --seeds 5 --quiet"],
    ),
    (
        "Side by side",
        "Runs that differ in their seed alone are of a kind; two kinds with the same seeds are "
        "compared by a paired test.",
        [f"caviar compare {RUN} {RUN}-1"],
    ),
    (
        "One page",
        "It opens offline in any browser; with several runs it shows them side by side.",
        [f"caviar report {RUN}"],
    ),
    (
        "In the tools you have",
        "",
        [f"caviar export {RUN} --to {to}" for to in
         ("optuna", "mlflow", "tensorboard", "csv", "onnx")],
    ),
)  # fmt: skip


def main() -> None:
    """Run them all; the page goes to standard output."""
    run = load_run(RUN)
    top = describe_best(run)
    assert top is not None
    waits = run.trials[run.trials["status"] == "PAUSED"]
    names = {"run": RUN, "best": top["trial"], "left": int(waits["trial"].iloc[len(waits) // 2])}
    print("# Seeing what a run did\n")
    print("What each command printed on `caviar search digits --time 60s` (docs/seeing.py).\n")
    print("![The page of a run](report-light.png)\n\n![The same in the dark](report-dark.png)")
    for title, words, commands in SECTIONS:
        print(f"\n## {title}\n")
        if words:
            print(f"{words}\n")
        for command in commands:
            typed = command.format(**names)
            done = subprocess.run(  # noqa: S603 # the commands above
                shlex.split(typed), capture_output=True, text=True, check=False
            )
            if done.returncode:
                sys.exit(f"{typed}: {done.stderr}")
            print(f"```console\n$ {typed}\n{done.stdout.rstrip()}\n```")


if __name__ == "__main__":
    main()
