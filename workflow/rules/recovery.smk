"""Metrics of circuits. Requires: the circuits that a search found, and the held-out prompts with the model's logits.

Gives: of every search evaluation.csv (every metric of the task on held-out prompts, per circuit) and recovery.csv (the
comparison with the known circuit; without a row where none is known), of every task controls.csv (the same metrics of
random circuits, all edges, no edges), and the study's joined tables; auc.csv has the areas under the ROC curves beside
the published ones, faithfulness.csv those under faithfulness over sizes.
"""


rule evaluate:
    input:
        model=MODEL,
        dataset=DATASET["test"],
        logits=LOGITS["test"],
        circuits=STUDY.found,
        stated=sorted(str(path) for path in Path(ASSETS, "circuits").glob("*.yaml")),
    output:
        evaluation=f"results/{SEARCH}/evaluation.csv",
        recovery=f"results/{SEARCH}/recovery.csv",
    log:
        "results/{study}/logs/evaluate/{model}/{task}/{metric}/{ablation}.log",
    benchmark:
        "results/{study}/benchmarks/evaluate/{model}/{task}/{metric}/{ablation}.tsv"
    resources:
        gpu=gpus,
        memory_gib=config["memory_gib"],
    params:
        task=STUDY.task_flags,
        known=STUDY.recovery_flags,
        split_embed=split_embed,
        device=config["device"],
        precision=precision,
        identity=model_identity,
        code=code("evaluate"),
    shell:
        f"python -m acdc evaluate {engine_flags()} --ablation {{wildcards.ablation:q}} --circuits {{input.circuits:q}}"
        " {params.known:q} --recovery {output.recovery:q} --out {output.evaluation:q} 2> {log:q}"


rule controls:
    input:
        model=MODEL,
        dataset=DATASET["test"],
        logits=LOGITS["test"],
    output:
        f"results/{PLACE}/controls.csv",
    log:
        "results/{study}/logs/controls/{model}/{task}.log",
    benchmark:
        "results/{study}/benchmarks/controls/{model}/{task}.tsv"
    resources:
        gpu=gpus,
        memory_gib=config["memory_gib"],
    params:
        task=STUDY.task_flags,
        ablations=STUDY.ablations,
        split_embed=split_embed,
        device=config["device"],
        precision=precision,
        seeds=config["random_circuits"]["seeds"],
        fractions=config["random_circuits"]["fractions"],
        identity=model_identity,
        code=code("evaluate"),
    shell:
        f"python -m acdc controls {engine_flags()} --ablations {{params.ablations:q}} --seeds {{params.seeds}}"
        " --fractions {params.fractions:q} --out {output:q} 2> {log:q}"


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
        STUDY.of_searches(f"results/{PLACE}/controls.csv"),
        STUDY.of_searches(f"results/{SEARCH}/evaluation.csv"),
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
        STUDY.of_known(f"results/{SEARCH}/recovery.csv"),
    output:
        "results/{study}/recovery.csv",
    log:
        "results/{study}/logs/tables/recovery.log",
    shell:
        "python -m acdc table {input:q} --out {output:q} 2> {log:q}"


rule stability_table:
    input:
        STUDY.stabilities(),
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


rule auc_of_ablations:
    input:
        "results/{study}/auc.csv",
    output:
        [f"results/{{study}}/{table}.{suffix}" for table in STUDY.areas() for suffix in TABLE_FORMATS],
    log:
        "results/{study}/logs/tables/auc_of_ablations.log",
    params:
        code=code("acdc.analysis.published"),
    shell:
        "python -m acdc auc-tables --auc {input:q} --out {output:q} 2> {log:q}"


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
