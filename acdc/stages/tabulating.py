"""Tables of a study."""

from __future__ import annotations

import json
from pathlib import Path

from acdc.stages.files import read_tables, write_frame, write_table

LOOK = """<style>
body { font: 13px/1.4 system-ui, sans-serif; }
table { border-collapse: collapse; }
th { position: sticky; top: 0; background: #fff; }
th, td { padding: 2px 10px; text-align: left; border-bottom: 1px solid #ddd; font-variant-numeric: tabular-nums; }
</style>"""


def auc(recovery: Path, published: Path, out: Path) -> None:
    """Areas under ROC curves, beside the published ones.

    Two a curve: by the paper's rule, which takes the lowest staircase through the points that no other beats, and by
    straight lines between all points.
    """
    import pandas as pd

    from acdc.published import auc_table

    write_frame(auc_table(read_tables([recovery]), pd.read_csv(published, comment="#")), out)


def auc_tables(auc: Path, ablation: str, out: list[Path]) -> None:
    """Put the areas of one ablation into the paper's tables: CSV, Markdown, LaTeX.

    The form of Tables 2 and 3 of Conmy et al. 2023, whose numbers stand beside ours where there are some.
    """
    from acdc.published import comparison

    compared = comparison(read_tables([auc]), ablation)
    how = ablation.replace("_", ", ")
    caption = f"Areas under ROC curves, {how} ablation. (paper): as Conmy et al. 2023 print them."
    for path in out:
        if path.suffix == ".csv":
            write_frame(compared, path)
        elif path.suffix == ".md":
            empty = compared.astype(object).where(compared.notna(), None)
            path.write_text(f"{caption}\n\n{empty.to_markdown(index=False, floatfmt='.3f', missingval='')}\n")
        else:
            names = {"caption": caption, "label": f"tab:auc-{ablation.replace('_', '-')}"}
            path.write_text(compared.to_latex(index=False, escape=True, float_format="%.3f", na_rep="", **names))


def faithfulness(evaluation: Path, out: Path) -> None:
    """Areas under faithfulness over circuit sizes, by method.

    CPR and CMD of MIB (Mueller et al. 2025): the area under the share of the metric that is kept, and the area under
    its distance from 1.
    """
    from acdc.faithfulness import faithfulness_table

    write_frame(faithfulness_table(read_tables([evaluation])), out)


def methods(faithfulness: Path, timing: Path, circuits: list[Path], auc: Path | None, out: Path) -> None:
    """Put all methods into one table: what they keep, recover and cost.

    Evaluations are runs of the model: circuits measured by ACDC, steps of SP, gradients of the scores.
    """
    import pandas as pd

    from acdc.summary import KEYS, methods_table

    rows = []
    for path in circuits:
        data = json.loads(path.read_text())
        entry = data[0] if isinstance(data, list) else data  # circuits in one file are of one scoring
        labels = {key: entry["settings"][key] for key in KEYS}
        rows.append({**labels, "evaluations": entry["result"]["evaluations"]})
    areas = read_tables([auc]) if auc else None
    write_frame(methods_table(read_tables([faithfulness]), read_tables([timing]), pd.DataFrame(rows), areas), out)


def table(files: list[Path], out: Path) -> None:
    """Join tables of the same columns."""
    write_frame(read_tables(files), out)


def readable(files: list[Path], out: list[Path]) -> None:
    """Tables for a browser, as the report shows them."""
    for file, page in zip(files, out, strict=True):
        body = read_tables([file]).to_html(index=False, na_rep="", border=0, float_format="{:.4g}".format)
        page.write_text(f"<!doctype html>\n<meta charset=utf-8>\n<title>{file.stem}</title>\n{LOOK}\n{body}\n")


def timing(files: list[Path], out: Path) -> None:
    """Gather seconds and memory of the searches.

    Reads the benchmark files that Snakemake writes; what was run is told by the last six parts of their paths.
    """
    import pandas as pd

    # The last six parts of a benchmark's path say what was run.
    names = ["model", "task", "metric", "ablation", "method", "threshold"]
    rows = []
    for file in files:
        measured = pd.read_csv(file, sep="\t").iloc[0]
        labels = dict(zip(names, (*file.parts[-6:-1], file.stem), strict=True))
        rows.append({**labels, "seconds": measured["s"], "max_rss_mib": measured["max_rss"]})
    write_table(rows, out)
