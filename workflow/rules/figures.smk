"""Figures. Requires: tables, circuits and traces.

Gives: figures/{study}/{model}/{task}/ and, of all tasks whose circuits are known, figures/{study}/roc_*; of searches by
several methods figures/{study}/faithfulness and cost_*; where there are reset networks, figures/{study}/trained_and_reset. One
file per format. For every sweep that is drawn, a page to look around in. Everything is in `snakemake --report`, with
what workflow/report says of it; tables are there as figures/{study}/tables/*.html.
"""


rule pareto:
    input:
        STUDY.pareto_tables,
    output:
        figure(f"{FIGURES}/pareto_{{ablation}}", "pareto", figure="metrics over edges", task="{task}", model="{model}"),
    log:
        "results/{study}/logs/pareto/{model}/{task}/{ablation}.log",
    shell:
        "python -m acdc pareto --tables {input:q} --out {output:q} 2> {log:q}"


rule roc:
    input:
        recovery="results/{study}/recovery.csv",
        published=f"{ASSETS}/published/roc_points.csv",
    output:
        figure("figures/{study}/roc_{level}s", "roc", figure="ROC of {level}s", task="all", model="all"),
    log:
        "results/{study}/logs/roc/{level}.log",
    shell:
        "python -m acdc roc --recovery {input.recovery:q} --published {input.published:q} --level {wildcards.level}"
        " --out {output:q} 2> {log:q}"


rule curves:
    input:
        "results/{study}/evaluation.csv",
    output:
        figure("figures/{study}/faithfulness", "faithfulness", figure="faithfulness", task="all", model="all"),
    log:
        "results/{study}/logs/curves.log",
    shell:
        "python -m acdc curves --evaluation {input:q} --out {output:q} 2> {log:q}"


rule page:
    input:
        circuits=found_circuits,
        traces=found_traces,
        nodes=f"{FOUND}/nodes.csv",
        assets=sorted(str(path) for path in Path(ASSETS, "page").iterdir()),
    output:
        report(
            f"{FIGURES}/circuit_{{metric}}_{{ablation}}_{{method}}.html",
            caption="../report/page.rst",
            category="Circuits to look around in",
            labels={"metric": "{metric}", "ablation": "{ablation}", "task": "{task}", "model": "{model}"},
        ),
    log:
        "results/{study}/logs/page/{model}/{task}/{metric}/{ablation}/{method}.log",
    params:
        start=lambda w: STUDY.search(w).drawn(METHODS[w.method])[0],
    shell:
        "python -m acdc page --circuits {input.circuits:q} --traces {input.traces:q} --nodes {input.nodes:q}"
        " --start {params.start} --out {output:q} 2> {log:q}"


rule draw:
    input:
        circuit=f"{FOUND}/{{value}}/circuit.json",
        trace=f"{FOUND}/{{value}}/trace.csv",
    output:
        figure(
            f"{FIGURES}/circuit_{{metric}}_{{ablation}}_{{method}}_{{value}}",
            "circuit",
            category="Circuits",
            metric="{metric}",
            ablation="{ablation}",
            method="{method}",
            value="{value}",
            task="{task}",
            model="{model}",
        ),
    log:
        "results/{study}/logs/draw/{model}/{task}/{metric}/{ablation}/{method}/{value}.log",
    params:
        max_edges=config["figures"]["max_edges"],
    shell:
        "python -m acdc draw --circuit {input.circuit:q} --trace {input.trace:q} --max-edges {params.max_edges}"
        " --out {output:q} 2> {log:q}"


rule cost:
    input:
        "results/{study}/methods.csv",
    output:
        figure("figures/{study}/cost_{cost}", "cost", figure="cost in {cost}", task="all", model="all"),
    log:
        "results/{study}/logs/cost/{cost}.log",
    shell:
        "python -m acdc cost --methods {input:q} --by {wildcards.cost} --out {output:q} 2> {log:q}"


rule trained_and_reset:
    input:
        "results/{study}/auc.csv",
    output:
        figure("figures/{study}/trained_and_reset", "reset", figure="trained and reset", task="all", model="all"),
    log:
        "results/{study}/logs/trained_and_reset.log",
    params:
        pairs=STUDY.reset_pairs(),
    shell:
        "python -m acdc trained-and-reset --auc {input:q} --pairs {params.pairs:q} --out {output:q} 2> {log:q}"


rule readable_tables:
    input:
        expand("results/{{study}}/{table}.csv", table=STUDY.tables()),
    output:
        [
            report(
                f"figures/{{study}}/tables/{table}.html",
                caption=f"../report/tables/{'auc_of_ablation' if table.startswith('auc_') else table}.rst",
                category="Tables",
                labels={"table": table},
            )
            for table in STUDY.tables()
        ],
    log:
        "results/{study}/logs/tables/readable.log",
    shell:
        "python -m acdc readable {input:q} --out {output:q} 2> {log:q}"
