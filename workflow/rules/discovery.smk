"""Circuits. Requires: the model's folder, the discovery prompts, and the model's logits on them.

A search is one job by default: every method, a method that is run for values (ACDC for thresholds, SP for
regularisations) for all of them. values_per_job in the config splits it. Each job is a rule of its own, for its files
are its methods' and values': {method}/{value}/circuit.json, trace.csv with every tried edge or step of training, and of
ACDC nodes.csv with the effect of each node; of a method that scores everything at once scores.csv, and circuits.json
with the best edges or nodes. Long jobs begin first. A job that is killed leaves checkpoints, which Snakemake does not
know and so does not delete; the next try goes on from them, value by value.

A search with resamples in the config is done again on that many bootstrap resamples of its prompts, by every method in
a job: stability.csv.
"""

for rank, batch in enumerate(STUDY.batches):
    LABELS[batch.rule] = {"kind": "circuits", **batch.search.labels, "method": console.methods(batch.values)}

    rule:
        name:
            batch.rule
        input:
            model=MODEL.format(**batch.search.labels),
            dataset=DATASET["discovery"].format(**batch.search.labels),
            logits=LOGITS["discovery"].format(**batch.search.labels),
        output:
            found=batch.outputs,
            timing=batch.timing,
        log:
            f"{LOGS}/circuits/{SEARCH}/{batch.label}.log".format(**batch.search.labels),
        benchmark:
            f"{BENCHMARKS}/circuits/{SEARCH}/{batch.label}.tsv".format(**batch.search.labels)
        priority: len(STUDY.batches) - rank
        resources:
            gpu=gpus,
            memory_gib=config["memory_gib"],
            mem_mb=mem_mb(NEEDS.search, batch),
            runtime=runtime(NEEDS.search, batch),
        params:
            engine=STUDY.engine_flags(batch.search.wildcards),
            metric=batch.search.entry["metric"],
            ablation=batch.search.ablation,
            methods=batch.flags,
            settings=STUDY.method_flags(batch.search, batch.values),
            out=lambda w, output: str(Path(output.timing).parent.parent),
            identity=STUDY.model_identity(batch.search.task["model"]),
            code=STUDY.code_of(batch),
        shell:
            f"python -m acdc circuits {ENGINE} --metric {{params.metric:q}} --ablation {{params.ablation:q}}"
            " --methods {params.methods:q} {params.settings:q} --timing {output.timing:q} --out {params.out:q} 2> {log:q}"


rule stability:
    input:
        model=MODEL,
        dataset=DATASET["discovery"],
        logits=LOGITS["discovery"],
    output:
        f"{RESULTS}/{SEARCH}/{{method}}/stability.csv",
    log:
        f"{LOGS}/stability/{SEARCH}/{{method}}.log",
    benchmark:
        f"{BENCHMARKS}/stability/{SEARCH}/{{method}}.tsv"
    resources:
        gpu=gpus,
        memory_gib=config["memory_gib"],
        mem_mb=mem_mb(NEEDS.resampling),
        runtime=runtime(NEEDS.resampling),
    params:
        engine=STUDY.engine_flags,
        methods=lambda w: STUDY.resampled(w).flags,
        settings=lambda w: STUDY.method_flags(STUDY.search(w), STUDY.resampled(w).values),
        resamples=lambda w: STUDY.search(w).entry["resamples"],
        work=lambda w: f"{STUDY.resampled(w).folder}/{w.method}/resamples",
        identity=model_identity,
        code=lambda w: STUDY.code_of(STUDY.resampled(w)),
    shell:
        f"python -m acdc stability {ENGINE} --metric {{wildcards.metric:q}} --ablation {{wildcards.ablation:q}}"
        " --methods {params.methods:q} {params.settings:q} --resamples {params.resamples} --work {params.work:q}"
        " --out {output:q} 2> {log:q}"
