"""Metrics of circuits. Requires: the circuits that a search found, and the held-out prompts with the model's logits.

Gives: of every search evaluation.csv (every metric of the task on held-out prompts, per circuit), recovery.csv (the
comparison with the known circuit; without a row where none is known) and, where the config asks for them, significance.csv
(hypothesis tests of every circuit), of every task controls.csv (the same metrics of
random circuits, all edges, no edges), where a task asks for them heads_{split}.csv (what every head does) and
agreement.csv (their names beside published ones), and the study's joined tables; auc.csv has the areas under the ROC curves beside
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
        evaluation=f"{RESULTS}/{SEARCH}/evaluation.csv",
        recovery=f"{RESULTS}/{SEARCH}/recovery.csv",
    log:
        f"{LOGS}/evaluate/{SEARCH}.log",
    benchmark:
        f"{BENCHMARKS}/evaluate/{SEARCH}.tsv"
    resources:
        gpu=gpus,
        memory_gib=config["memory_gib"],
        mem_mb=mem_mb(NEEDS.measuring),
        runtime=runtime(NEEDS.measuring),
    params:
        engine=STUDY.engine_flags,
        known=STUDY.recovery_flags,
        identity=model_identity,
        code=code("evaluate"),
    shell:
        f"python -m acdc evaluate {ENGINE} --ablation {{wildcards.ablation:q}} --circuits {{input.circuits:q}}"
        " {params.known:q} --recovery {output.recovery:q} --out {output.evaluation:q} 2> {log:q}"


rule controls:
    input:
        model=MODEL,
        dataset=DATASET["test"],
        logits=LOGITS["test"],
    output:
        f"{RESULTS}/{TASK}/controls.csv",
    log:
        f"{LOGS}/controls/{TASK}.log",
    benchmark:
        f"{BENCHMARKS}/controls/{TASK}.tsv"
    resources:
        gpu=gpus,
        memory_gib=config["memory_gib"],
        mem_mb=mem_mb(NEEDS.measuring),
        runtime=runtime(NEEDS.measuring),
    params:
        engine=STUDY.engine_flags,
        ablations=STUDY.ablations,
        seeds=config["random_circuits"]["seeds"],
        fractions=config["random_circuits"]["fractions"],
        identity=model_identity,
        code=code("evaluate"),
    shell:
        f"python -m acdc controls {ENGINE} --ablations {{params.ablations:q}} --seeds {{params.seeds}}"
        " --fractions {params.fractions:q} --out {output:q} 2> {log:q}"


rule significance:
    input:
        model=MODEL,
        dataset=DATASET["test"],
        logits=LOGITS["test"],
        circuits=lambda w: STUDY.tested(STUDY.search(w)),
    output:
        f"{RESULTS}/{SEARCH}/significance.csv",
    log:
        f"{LOGS}/significance/{SEARCH}.log",
    benchmark:
        f"{BENCHMARKS}/significance/{SEARCH}.tsv"
    resources:
        gpu=gpus,
        memory_gib=config["memory_gib"],
        mem_mb=mem_mb(NEEDS.measuring),
        runtime=runtime(NEEDS.testing),
    params:
        engine=STUDY.engine_flags,
        drawn=lambda w: STUDY.significance_flags(),
        identity=model_identity,
        code=code("significance"),
    shell:
        f"python -m acdc significance {ENGINE} --ablation {{wildcards.ablation:q}} --circuits {{input.circuits:q}}"
        " {params.drawn:q} --out {output:q} 2> {log:q}"


rule mib:
    input:
        model=MODEL,
        dataset=DATASET["test"],
        logits=LOGITS["test"],
        circuits=lambda w: STUDY.of_mib(STUDY.search(w)),
    output:
        f"{RESULTS}/{SEARCH}/mib.csv",
    log:
        f"{LOGS}/mib/{SEARCH}.log",
    benchmark:
        f"{BENCHMARKS}/mib/{SEARCH}.tsv"
    resources:
        gpu=gpus,
        memory_gib=config["memory_gib"],
        mem_mb=mem_mb(NEEDS.measuring),
        runtime=runtime(NEEDS.measuring),
    params:
        engine=STUDY.engine_flags,
        identity=model_identity,
        code=code("mib"),
    shell:
        f"python -m acdc mib {ENGINE} --ablation {{wildcards.ablation:q}} --circuits {{input.circuits:q}}"
        " --out {output:q} 2> {log:q}"


rule heads:
    input:
        model=MODEL,
        dataset=lambda w: DATASET[w.split],
        logits=lambda w: LOGITS[w.split],
        circuits=lambda w: STUDY.described(STUDY.search(w)),
    output:
        table=f"{RESULTS}/{SEARCH}/heads_{{split}}.csv",
        attention=f"{RESULTS}/{SEARCH}/attention_{{split}}.json",
    log:
        f"{LOGS}/heads/{SEARCH}_{{split}}.log",
    benchmark:
        f"{BENCHMARKS}/heads/{SEARCH}_{{split}}.tsv"
    wildcard_constraints:
        split="|".join(SPLITS),
    resources:
        gpu=gpus,
        memory_gib=config["memory_gib"],
        mem_mb=mem_mb(NEEDS.measuring),
        runtime=runtime(NEEDS.measuring),
    params:
        engine=STUDY.engine_flags,
        identity=model_identity,
        code=code("heads"),
    shell:
        f"python -m acdc heads {ENGINE} --ablation {{wildcards.ablation:q}} --circuits {{input.circuits:q}}"
        " --prompts {wildcards.split} --attention {output.attention:q} --out {output.table:q} 2> {log:q}"


rule agreement:
    input:
        heads=[f"{RESULTS}/{SEARCH}/heads_{split}.csv" for split in SPLITS],
        stated=sorted(str(path) for path in Path(ASSETS, "circuits").glob("*.yaml")),
    output:
        f"{RESULTS}/{SEARCH}/agreement.csv",
    log:
        f"{LOGS}/agreement/{SEARCH}.log",
    params:
        task=STUDY.task_flags,
        known=STUDY.recovery_flags,
        code=code("heads"),
    shell:
        "python -m acdc agreement --heads {input.heads:q} {params.task:q} {params.known:q} --out {output:q} 2> {log:q}"


rule behaviour_table:
    input:
        STUDY.of_searches(f"{RESULTS}/{TASK}/behaviour.csv"),
    output:
        f"{RESULTS}/behaviour.csv",
    log:
        f"{LOGS}/tables/behaviour.log",
    shell:
        "python -m acdc table {input:q} --out {output:q} 2> {log:q}"


rule evaluation_table:
    input:
        STUDY.of_searches(f"{RESULTS}/{TASK}/controls.csv"),
        STUDY.of_searches(f"{RESULTS}/{SEARCH}/evaluation.csv"),
    output:
        f"{RESULTS}/evaluation.csv",
    log:
        f"{LOGS}/tables/evaluation.log",
    shell:
        "python -m acdc table {input:q} --out {output:q} 2> {log:q}"


rule faithfulness_table:
    input:
        f"{RESULTS}/evaluation.csv",
    output:
        f"{RESULTS}/faithfulness.csv",
    log:
        f"{LOGS}/tables/faithfulness.log",
    params:
        code=code("acdc.analysis.faithfulness"),
    shell:
        "python -m acdc faithfulness --evaluation {input:q} --out {output:q} 2> {log:q}"


rule recovery_table:
    input:
        STUDY.of_known(f"{RESULTS}/{SEARCH}/recovery.csv"),
    output:
        f"{RESULTS}/recovery.csv",
    log:
        f"{LOGS}/tables/recovery.log",
    shell:
        "python -m acdc table {input:q} --out {output:q} 2> {log:q}"


rule stability_table:
    input:
        STUDY.stabilities(),
    output:
        f"{RESULTS}/stability.csv",
    log:
        f"{LOGS}/tables/stability.log",
    shell:
        "python -m acdc table {input:q} --out {output:q} 2> {log:q}"


rule significance_table:
    input:
        STUDY.significances(),
    output:
        f"{RESULTS}/significance.csv",
    log:
        f"{LOGS}/tables/significance.log",
    shell:
        "python -m acdc table {input:q} --out {output:q} 2> {log:q}"


rule mib_table:
    input:
        STUDY.mibs(),
    output:
        f"{RESULTS}/mib.csv",
    log:
        f"{LOGS}/tables/mib.log",
    shell:
        "python -m acdc table {input:q} --out {output:q} 2> {log:q}"


rule heads_table:
    input:
        STUDY.heads(),
    output:
        f"{RESULTS}/heads.csv",
    log:
        f"{LOGS}/tables/heads.log",
    shell:
        "python -m acdc table {input:q} --out {output:q} 2> {log:q}"


rule agreement_table:
    input:
        STUDY.agreements(),
    output:
        f"{RESULTS}/agreement.csv",
    log:
        f"{LOGS}/tables/agreement.log",
    shell:
        "python -m acdc table {input:q} --out {output:q} 2> {log:q}"


rule auc_table:
    input:
        recovery=f"{RESULTS}/recovery.csv",
        published=f"{ASSETS}/published/auc.csv",
    output:
        f"{RESULTS}/auc.csv",
    log:
        f"{LOGS}/tables/auc.log",
    params:
        code=code("acdc.analysis.published"),
    shell:
        "python -m acdc auc --recovery {input.recovery:q} --published {input.published:q} --out {output:q} 2> {log:q}"


rule auc_of_ablations:
    input:
        f"{RESULTS}/auc.csv",
    output:
        [f"{RESULTS}/{table}.{suffix}" for table in STUDY.areas() for suffix in TABLE_FORMATS],
    log:
        f"{LOGS}/tables/auc_of_ablations.log",
    params:
        code=code("acdc.analysis.published"),
    shell:
        "python -m acdc auc-tables --auc {input:q} --out {output:q} 2> {log:q}"


rule methods_table:
    input:
        unpack(lambda w: {"auc": f"{RESULTS}/auc.csv"} if STUDY.has_known else {}),
        faithfulness=f"{RESULTS}/faithfulness.csv",
        timing=f"{RESULTS}/timing.csv",
        circuits=STUDY.all_circuits(),
    output:
        f"{RESULTS}/methods.csv",
    log:
        f"{LOGS}/tables/methods.log",
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
        f"{RESULTS}/timing.csv",
    log:
        f"{LOGS}/tables/timing.log",
    shell:
        "python -m acdc table {input:q} --out {output:q} 2> {log:q}"
