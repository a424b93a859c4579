"""Write docs/seeing.md: each command that looks at a run, with what it printed.

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
    ("The result", "", [f"caviar show {RUN}"]),
    (
        "During the run, from another terminal",
        "Any machine that can read the folder can watch the run; the command writes nothing. On a "
        "terminal, the panel is drawn again every second until the run ends or you press Ctrl-C.",
        [f"caviar watch {RUN}"],
    ),
    ("Why a trial ended", "", ["caviar why {run} {best}", "caviar why {run} {left}"]),
    (
        "Which hyperparameters matter",
        "The shares come from a functional ANOVA over random forests, which learn the result of "
        "each configuration.",
        [f"caviar show {RUN} --importance"],
    ),
    (
        "Was pruning right?",
        "The audit picks trials that pruning left behind at random, and trains them to the end in "
        "a separate run. `caviar search --audit 5%` reserves a share of the epochs of a search "
        "for the same purpose.",
        [f"caviar audit {RUN} --total-epochs 540 --quiet"],
    ),
    (
        "Is the best configuration really the best?",
        "The best configurations are trained again with fresh seeds on the same split of the "
        "data. The test rows decide nothing.",
        [f"caviar finalists {RUN} --top 5 --seeds 5 --quiet"],
    ),
    (
        "Several runs side by side",
        "Runs that differ only in their seed form a group. A paired test compares two groups with "
        "the same seeds.",
        [f"caviar compare {RUN} {RUN}-1"],
    ),
    (
        "All charts on one page",
        "The page opens offline in any browser. With several runs, it shows them side by side.",
        [f"caviar report {RUN}"],
    ),
    (
        "In other tools",
        "",
        [f"caviar export {RUN} --to {to}" for to in
         ("optuna", "mlflow", "tensorboard", "csv", "onnx")],
    ),
)  # fmt: skip


def main() -> None:
    """Run all commands, and print the page."""
    run = load_run(RUN)
    top = describe_best(run)
    assert top is not None
    waits = run.trials[run.trials["status"] == "PAUSED"]
    names = {"run": RUN, "best": top["trial"], "left": int(waits["trial"].iloc[len(waits) // 2])}
    print("# Looking at a run\n")
    print("Each command printed this for the run of `caviar search digits --time 60s`.")
    print("docs/seeing.py writes this page.\n")
    print("![The page of a run](report-light.png)\n\n![The page in dark mode](report-dark.png)")
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
