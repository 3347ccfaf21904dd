"""Metrics of circuits. Requires: the circuits that a method found by a metric, and the held-out prompts.

Gives: evaluation.csv (every metric of the task on held-out prompts, per circuit), controls.csv (the same for
random circuits, all edges, no edges), recovery.csv where a circuit is known, and the study's joined tables; auc.csv
has the areas under the ROC curves beside the published ones, faithfulness.csv those under faithfulness over sizes.
"""


rule evaluate:
    input:
        model=MODEL,
        dataset=TEST,
        circuits=found_circuits,
    output:
        f"{FOUND}/evaluation.csv",
    log:
        "results/{study}/logs/evaluate/{model}/{task}/{metric}/{ablation}/{method}.log",
    benchmark:
        "results/{study}/benchmarks/evaluate/{model}/{task}/{metric}/{ablation}/{method}.tsv"
    resources:
        gpu=gpus,
        memory_gib=config["memory_gib"],
    params:
        task=STUDY.task_flags,
        split_embed=split_embed,
        device=config["device"],
        precision=precision,
        identity=model_identity,
        code=code("evaluate"),
    shell:
        f"python -m acdc evaluate {engine_flags()} --circuits {{input.circuits:q}} --out {{output:q}} 2> {{log:q}}"


rule controls:
    input:
        model=MODEL,
        dataset=TEST,
    output:
        f"results/{PLACE}/controls_{{ablation}}.csv",
    log:
        "results/{study}/logs/controls/{model}/{task}/{ablation}.log",
    benchmark:
        "results/{study}/benchmarks/controls/{model}/{task}/{ablation}.tsv"
    resources:
        gpu=gpus,
        memory_gib=config["memory_gib"],
    params:
        task=STUDY.task_flags,
        split_embed=split_embed,
        device=config["device"],
        precision=precision,
        seeds=config["random_circuits"]["seeds"],
        fractions=config["random_circuits"]["fractions"],
        identity=model_identity,
        code=code("evaluate"),
    shell:
        f"python -m acdc controls {engine_flags()} --seeds {{params.seeds}} --fractions {{params.fractions:q}}"
        " --out {output:q} 2> {log:q}"


rule nodes:
    input:
        model=MODEL,
        dataset=DISCOVERY,
        circuits=found_circuits,
    output:
        f"{FOUND}/nodes.csv",
    log:
        "results/{study}/logs/nodes/{model}/{task}/{metric}/{ablation}/{method}.log",
    benchmark:
        "results/{study}/benchmarks/nodes/{model}/{task}/{metric}/{ablation}/{method}.tsv"
    resources:
        gpu=gpus,
        memory_gib=config["memory_gib"],
    params:
        task=STUDY.task_flags,
        split_embed=split_embed,
        device=config["device"],
        precision=precision,
        identity=model_identity,
        code=code("evaluate"),
    shell:
        f"python -m acdc nodes {engine_flags()} --metric {{wildcards.metric:q}} --circuits {{input.circuits:q}}"
        " --out {output:q} 2> {log:q}"


rule recover:
    input:
        circuits=found_circuits,
        evaluation=f"{FOUND}/evaluation.csv",
        stated=sorted(str(path) for path in Path(ASSETS, "circuits").glob("*.yaml")),
    output:
        f"{FOUND}/recovery.csv",
    log:
        "results/{study}/logs/recover/{model}/{task}/{metric}/{ablation}/{method}.log",
    benchmark:
        "results/{study}/benchmarks/recover/{model}/{task}/{metric}/{ablation}/{method}.tsv"
    params:
        task=STUDY.task_flags,
        trained=lambda w: STUDY.trained(w.model),
        code=code("recover"),
    shell:
        "python -m acdc recover {params.task:q} --known-of {params.trained:q}"
        " --circuits {input.circuits:q} --evaluation {input.evaluation:q} --out {output:q} 2> {log:q}"


rule behaviour_table:
    input:
        STUDY.of_searches(f"results/{PLACE}/behaviour.csv"),
    output:
        "results/{study}/behaviour.csv",
    log:
        "results/{study}/logs/tables/behaviour.log",
    shell:
        "python -m acdc table {input:q} --out {output:q} 2> {log:q}"


rule evaluation_table:
    input:
        STUDY.of_searches(f"results/{PLACE}/controls_{{ablation}}.csv"),
        STUDY.of_methods("evaluation.csv"),
    output:
        "results/{study}/evaluation.csv",
    log:
        "results/{study}/logs/tables/evaluation.log",
    shell:
        "python -m acdc table {input:q} --out {output:q} 2> {log:q}"


rule faithfulness_table:
    input:
        "results/{study}/evaluation.csv",
    output:
        "results/{study}/faithfulness.csv",
    log:
        "results/{study}/logs/tables/faithfulness.log",
    params:
        code=code("acdc.analysis.faithfulness"),
    shell:
        "python -m acdc faithfulness --evaluation {input:q} --out {output:q} 2> {log:q}"


rule recovery_table:
    input:
        STUDY.of_methods("recovery.csv", known=True),
    output:
        "results/{study}/recovery.csv",
    log:
        "results/{study}/logs/tables/recovery.log",
    shell:
        "python -m acdc table {input:q} --out {output:q} 2> {log:q}"


rule stability_table:
    input:
        STUDY.of_methods("stability.csv", resampled=True),
    output:
        "results/{study}/stability.csv",
    log:
        "results/{study}/logs/tables/stability.log",
    shell:
        "python -m acdc table {input:q} --out {output:q} 2> {log:q}"


rule auc_table:
    input:
        recovery="results/{study}/recovery.csv",
        published=f"{ASSETS}/published/auc.csv",
    output:
        "results/{study}/auc.csv",
    log:
        "results/{study}/logs/tables/auc.log",
    params:
        code=code("acdc.analysis.published"),
    shell:
        "python -m acdc auc --recovery {input.recovery:q} --published {input.published:q} --out {output:q} 2> {log:q}"


rule auc_of_ablation:
    input:
        "results/{study}/auc.csv",
    output:
        expand("results/{{study}}/auc_{{ablation}}.{format}", format=TABLE_FORMATS),
    log:
        "results/{study}/logs/tables/auc_{ablation}.log",
    params:
        code=code("acdc.analysis.published"),
    shell:
        "python -m acdc auc-tables --auc {input:q} --ablation {wildcards.ablation} --out {output:q} 2> {log:q}"


rule methods_table:
    input:
        unpack(lambda w: {"auc": f"results/{w.study}/auc.csv"} if STUDY.has_known else {}),
        faithfulness="results/{study}/faithfulness.csv",
        timing="results/{study}/timing.csv",
        circuits=STUDY.all_circuits(),
    output:
        "results/{study}/methods.csv",
    log:
        "results/{study}/logs/tables/methods.log",
    params:
        code=code("acdc.analysis.summary"),
        auc=lambda w, input: ["--auc", input.auc] if "auc" in input.keys() else [],
    shell:
        "python -m acdc methods --faithfulness {input.faithfulness:q} --timing {input.timing:q}"
        " --circuits {input.circuits:q} {params.auc:q} --out {output:q} 2> {log:q}"


rule timing_table:
    input:
        STUDY.all_timings(),
    output:
        "results/{study}/timing.csv",
    log:
        "results/{study}/logs/tables/timing.log",
    shell:
        "python -m acdc table {input:q} --out {output:q} 2> {log:q}"
