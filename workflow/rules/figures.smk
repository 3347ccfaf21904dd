"""Figures. Requires: tables, circuits and traces.

Gives: figures/{study}/{model}/{task}/ and, of all tasks whose circuits are known, figures/{study}/roc_*; of searches by
several methods figures/{study}/faithfulness. One file per format.
"""

FORMATS = config["figures"]["formats"]


rule pareto:
    input:
        pareto_tables,
    output:
        expand(f"{FIGURES}/pareto_{{ablation}}.{{format}}", format=FORMATS, allow_missing=True),
    log:
        "results/{study}/logs/pareto/{model}/{task}/{ablation}.log",
    shell:
        "python -m acdc pareto --tables {input:q} --out {output:q} 2> {log:q}"


rule roc:
    input:
        recovery="results/{study}/recovery.csv",
        published="data/published/roc_points.csv",
    output:
        expand("figures/{{study}}/roc_{{level}}s.{format}", format=FORMATS),
    log:
        "results/{study}/logs/roc/{level}.log",
    shell:
        "python -m acdc roc --recovery {input.recovery:q} --published {input.published:q} --level {wildcards.level}"
        " --out {output:q} 2> {log:q}"


rule curves:
    input:
        "results/{study}/evaluation.csv",
    output:
        expand("figures/{{study}}/faithfulness.{format}", format=FORMATS),
    log:
        "results/{study}/logs/curves.log",
    shell:
        "python -m acdc curves --evaluation {input:q} --out {output:q} 2> {log:q}"


rule page:
    input:
        circuits=found_circuits,
        traces=found_traces,
        nodes=f"{FOUND}/nodes.csv",
        assets=sorted(str(path) for path in Path("acdc/figures/assets").iterdir()),
    output:
        f"{FIGURES}/circuit_{{metric}}_{{ablation}}_{{method}}.html",
    log:
        "results/{study}/logs/page/{model}/{task}/{metric}/{ablation}/{method}.log",
    wildcard_constraints:
        method="acdc",
    params:
        start=lambda w: drawn(task_of(w), search_of(w))[0],
    shell:
        "python -m acdc page --circuits {input.circuits:q} --nodes {input.nodes:q} --start {params.start}"
        " --out {output:q} 2> {log:q}"


rule draw:
    input:
        circuit=f"{RESULTS}/{{metric}}/{{ablation}}/acdc/{{threshold}}/circuit.json",
        trace=f"{RESULTS}/{{metric}}/{{ablation}}/acdc/{{threshold}}/trace.csv",
    output:
        expand(
            f"{FIGURES}/circuit_{{metric}}_{{ablation}}_{{threshold}}.{{format}}", format=FORMATS, allow_missing=True
        ),
    log:
        "results/{study}/logs/draw/{model}/{task}/{metric}/{ablation}/{threshold}.log",
    params:
        max_edges=config["figures"]["max_edges"],
    shell:
        "python -m acdc draw --circuit {input.circuit:q} --trace {input.trace:q} --max-edges {params.max_edges}"
        " --out {output:q} 2> {log:q}"
