"""Define the commands that make the tables of a study."""

from __future__ import annotations

from pathlib import Path

from acdc.assets import asset
from acdc.catalogue import ABLATIONS
from acdc.cli.flags import OutFile, OutFiles
from acdc.files import write_text
from acdc.found import LABELS, Found
from acdc.tables import read_table, read_tables, using, write_table


def table(*files: Path, out: OutFile) -> None:
    """Join tables into one; a column that a table lacks is empty in its rows.

    Args:
        files: .csv
        out: the table, .csv
    """
    write_table(read_tables(files), out)


def auc(*, recovery: Path, out: OutFile, published: Path | None = None) -> None:
    """Compute areas under ROC curves, beside the published ones.

    Two a curve: by the paper's rule, which takes the lowest staircase through the points that no other beats, and by
    straight lines between all points.

    Args:
        recovery: the study's table
        out: the table, .csv
        published: the paper's areas; those that ship, if left out
    """
    from acdc.analysis.published import auc_table

    points, areas = read_table(recovery), read_table(published or asset("published", "auc.csv"))
    with using(recovery, *([published] if published else [])):
        made = auc_table(points, areas)
    write_table(made, out)


def auc_tables(*, auc: Path, out: OutFiles) -> None:
    """Write the areas for ablations in the form of the paper's tables: CSV, Markdown, LaTeX.

    The form of Tables 2 and 3 of Conmy et al. 2023, whose numbers stand beside ours where there are some.

    Args:
        auc: the study's table
        out: .csv, .md or .tex, each named auc_ABLATION by whose areas it holds
    """
    from acdc.analysis.published import comparison

    areas = read_table(auc)
    for path in out:
        ablation = path.stem.removeprefix("auc_")
        with using(auc):
            compared = comparison(areas, ablation)
        how = ABLATIONS[ablation].label
        caption = f"Areas under ROC curves, {how} ablation. (paper): as Conmy et al. 2023 print them."
        if path.suffix == ".csv":
            write_table(compared, path)
        elif path.suffix == ".md":
            empty = compared.astype(object).where(compared.notna(), None)
            write_text(f"{caption}\n\n{empty.to_markdown(index=False, floatfmt='.3f', missingval='')}\n", path)
        else:
            label = f"tab:auc-{ablation.replace('_', '-')}"
            looks = compared.to_latex(
                index=False, escape=True, float_format="%.3f", na_rep="", caption=caption, label=label
            )
            write_text(looks, path)


def faithfulness(*, evaluation: Path, out: OutFile) -> None:
    """Compute areas under faithfulness over circuits' sizes, by method.

    Area is that under the share of the metric that is kept, gap that between the share and 1. MIB's CPR and CMD take
    circuits of fixed sizes in place of those that a study has.

    Args:
        evaluation: the study's table
        out: the table, .csv
    """
    from acdc.analysis.faithfulness import faithfulness_table

    with using(evaluation):
        made = faithfulness_table(read_table(evaluation))
    write_table(made, out)


def methods(*, faithfulness: Path, timing: Path, circuits: list[Path], out: OutFile, auc: Path | None = None) -> None:
    """Join the results of all methods in one table: faithfulness, recovery and cost.

    Evaluations are runs of the model: circuits measured by ACDC, steps of training, gradients of the scores.

    Args:
        faithfulness: the study's table
        timing: the study's table
        circuits: every file of circuits of the study
        out: the table, .csv
        auc: the study's table, where circuits are known
    """
    import pandas as pd

    from acdc.analysis.summary import methods_table

    rows = []
    for path in circuits:
        found = next(Found.load_all([path]))  # circuits in one file are of one scoring
        labels = {key: found.settings[key] for key in LABELS}
        rows.append({**labels, "evaluations": found.result["evaluations"]})
    areas = read_table(auc) if auc else None
    with using(faithfulness, timing, *([auc] if auc else [])):
        made = methods_table(read_table(faithfulness), read_table(timing), pd.DataFrame(rows), areas)
    write_table(made, out)


def readable(*files: Path, out: OutFiles) -> None:
    """Write tables for a browser, where they can be sorted and searched.

    Args:
        files: .csv
        out: .html, one for each
    """
    from acdc.figures import html

    for file, page in zip(files, out, strict=True):
        write_text(html.table(read_table(file), file.stem), page)
