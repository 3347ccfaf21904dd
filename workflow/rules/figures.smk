"""Figures. Requires: tables, circuits and traces.

Gives: figures/{study}/{model}/{task}/ and, of all tasks whose circuits are known, figures/{study}/roc_*; of searches by
several methods figures/{study}/faithfulness and cost_*; where there are reset networks, figures/{study}/trained_and_reset. One
file per format. For every sweep that is drawn, a page to look around in, and figures/{study}/circuits.html with all of
these. Tables are in figures/{study}/tables/*.html. `snakemake --report` holds all but the drawings of single circuits,
with the captions of workflow/report.
"""

OF_PAGES = sorted(str(path) for path in Path(ASSETS, "page").iterdir())


for task in STUDY.tasks:
    pareto = re.sub(r"\W+", "_", f"pareto_{task['name']}_{task['model']}")
    LABELS[pareto] = {"kind": "pareto", "task": task["name"], "model": task["model"]}

    rule:
        name:
            pareto
        input:
            STUDY.pareto_tables(task),
        output:
            [
                file
                for ablation in STUDY.ablations_of(task)
                for file in figure(
                    f"{FIGURES}/{task['model']}/{task['name']}/pareto_{ablation}",
                    "pareto",
                    figure=f"metrics over edges, {ablation} ablation",
                    task=task["name"],
                    model=task["model"],
                )
            ],
        log:
            f"{LOGS}/pareto/{task['model']}/{task['name']}.log",
        params:
            ablations=STUDY.ablations_of(task),
            about={"task": task["name"], "model": task["model"]},
        shell:
            "python -m acdc pareto --tables {input:q} --ablations {params.ablations:q} --out {output:q} 2> {log:q}"


rule roc:
    input:
        recovery=f"{RESULTS}/recovery.csv",
        published=f"{ASSETS}/published/roc_points.csv",
    output:
        [
            file
            for level in LEVELS
            for file in figure(f"{FIGURES}/roc_{level}s", "roc", figure=f"ROC of {level}s", task="all", model="all")
        ],
    log:
        f"{LOGS}/roc.log",
    params:
        levels=list(LEVELS),
    shell:
        "python -m acdc roc --recovery {input.recovery:q} --published {input.published:q} --levels {params.levels}"
        " --out {output:q} 2> {log:q}"


rule curves:
    input:
        f"{RESULTS}/evaluation.csv",
    output:
        figure(f"{FIGURES}/faithfulness", "faithfulness", figure="faithfulness", task="all", model="all"),
    log:
        f"{LOGS}/curves.log",
    shell:
        "python -m acdc curves --evaluation {input:q} --out {output:q} 2> {log:q}"


for search, method in STUDY.drawings():
    about = {**search.labels, "method": method.name}
    drawing = STUDY.drawing(search, method)
    LABELS[search.rule("draw", method.name)] = {"kind": "draw", **about}

    rule:
        name:
            search.rule("draw", method.name)
        input:
            circuits=STUDY.circuits(search, method),
            traces=STUDY.traces(search, method, "trace.csv"),
            nodes=STUDY.traces(search, method, "nodes.csv"),
            heads=list(STUDY.shown_heads(search).values()),
            assets=OF_PAGES,
        output:
            drawings=[
                f"{drawing}_{value}.{format}"
                for value in search.drawn(method)
                for format in config["figures"]["formats"]
            ],
            page=f"{drawing}.html",
        log:
            f"{LOGS}/draw/{SEARCH}/{{method}}.log".format(**about),
        params:
            values=search.drawn(method),
            max_edges=config["figures"]["max_edges"],
            heads=[part for flag, file in STUDY.shown_heads(search).items() for part in (f"--{flag}", file)],
        shell:
            "python -m acdc draw --circuits {input.circuits:q} --traces {input.traces:q} --nodes {input.nodes:q}"
            " --values {params.values} --max-edges {params.max_edges} {params.heads:q} --page {output.page:q} --out {output.drawings:q}"
            " 2> {log:q}"


rule collection:
    input:
        pages=STUDY.pages(),
        assets=OF_PAGES,
    output:
        report(
            f"{FIGURES}/circuits.html",
            caption="../report/circuits.rst",
            category="Circuits",
            labels={"figure": "all circuits, to look around in"},
        ),
    log:
        f"{LOGS}/collection.log",
    params:
        title=f"Circuits of the study {STUDY.name}",
    shell:
        "python -m acdc collection --pages {input.pages:q} --title {params.title:q} --out {output:q} 2> {log:q}"


rule cost:
    input:
        f"{RESULTS}/methods.csv",
    output:
        [
            file
            for cost in COSTS
            for file in figure(f"{FIGURES}/cost_{cost}", "cost", figure=f"cost in {cost}", task="all", model="all")
        ],
    log:
        f"{LOGS}/cost.log",
    params:
        by=list(COSTS),
    shell:
        "python -m acdc cost --methods {input:q} --by {params.by} --out {output:q} 2> {log:q}"


rule trained_and_reset:
    input:
        f"{RESULTS}/auc.csv",
    output:
        figure(f"{FIGURES}/trained_and_reset", "reset", figure="trained and reset", task="all", model="all"),
    log:
        f"{LOGS}/trained_and_reset.log",
    params:
        pairs=STUDY.reset_pairs(),
    shell:
        "python -m acdc trained-and-reset --auc {input:q} --pairs {params.pairs:q} --out {output:q} 2> {log:q}"


rule readable_tables:
    input:
        tables=[f"{RESULTS}/{table}.csv" for table in STUDY.tables()],
        assets=OF_PAGES,
    output:
        [
            report(
                f"{FIGURES}/tables/{table}.html",
                caption=f"../report/tables/{'auc_of_ablation' if table.startswith('auc_') else table}.rst",
                category="Tables",
                labels={"table": table},
            )
            for table in STUDY.tables()
        ],
    log:
        f"{LOGS}/tables/readable.log",
    shell:
        "python -m acdc readable {input.tables:q} --out {output:q} 2> {log:q}"
