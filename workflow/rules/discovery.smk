"""Circuits. Requires: the model's folder and the discovery prompts.

ACDC and SP are run anew for every value (a threshold; of SP, the weight of its regularisation): circuit.json, and
trace.csv with every tried edge or step of training. A run that is killed leaves a checkpoint beside them, which Snakemake
does not know and so does not delete; the next try goes on from it.

A task with one_job_per_search in the config has one job for all values of a search, for to start takes longer there
than to search. Those jobs are rules of their own: the values are their outputs.

Methods that score all edges or nodes at once (scores in the config) are one job for all sizes of circuits: scores.csv,
and circuits.json with the best of them by their number.

A search with resamples in the config is done again on that many bootstrap resamples of its prompts, by every method in
one job: stability.csv.
"""

for search in STUDY.search_rules():

    rule:
        name:
            search.name
        input:
            model=MODEL,
            dataset=DISCOVERY,
        output:
            circuits=expand(f"{FOUND}/{{value}}/circuit.json", value=search.values, allow_missing=True),
            traces=expand(f"{FOUND}/{{value}}/trace.csv", value=search.values, allow_missing=True),
            timing=f"{FOUND}/timing/{search.label}.csv",
        log:
            f"results/{{study}}/logs/circuit/{{model}}/{{task}}/{{metric}}/{{ablation}}/{{method}}/{search.label}.log",
        benchmark:
            f"results/{{study}}/benchmarks/circuit/{{model}}/{{task}}/{{metric}}/{{ablation}}/{{method}}/{search.label}.tsv"
        wildcard_constraints:
            task=search.task,
            model=search.model,
            metric=search.metric,
            method=search.method,
        resources:
            gpu=gpus,
            memory_gib=config["memory_gib"],
        params:
            task=STUDY.task_flags,
            values=STUDY.values,
            method=STUDY.method_flags,
            split_embed=split_embed,
            device=config["device"],
            precision=precision,
            out=lambda w: FOUND.format(**dict(w.items())),
            identity=model_identity,
            code=code("find"),
        shell:
            f"python -m acdc circuit {engine_flags()} --metric {{wildcards.metric:q}} --method {{wildcards.method}}"
            " {params.method:q} --values {params.values:q} --timing {output.timing:q} --out {params.out:q} 2> {log:q}"


rule score:
    input:
        model=MODEL,
        dataset=DISCOVERY,
    output:
        scores=f"{FOUND}/scores.csv",
        circuits=f"{FOUND}/circuits.json",
        timing=f"{FOUND}/timing/all.csv",
    log:
        "results/{study}/logs/score/{model}/{task}/{metric}/{ablation}/{method}.log",
    benchmark:
        "results/{study}/benchmarks/score/{model}/{task}/{metric}/{ablation}/{method}/all.tsv"
    wildcard_constraints:
        method="|".join(method.name for method in methods("score")),
    resources:
        gpu=gpus,
        memory_gib=config["memory_gib"],
    params:
        task=STUDY.task_flags,
        fractions=config["scores"]["fractions"],
        method=STUDY.method_flags,
        split_embed=split_embed,
        device=config["device"],
        precision=precision,
        out=lambda w, output: os.path.dirname(output.scores),
        identity=model_identity,
        code=code("find"),
    shell:
        f"python -m acdc score {engine_flags()} --metric {{wildcards.metric:q}} --method {{wildcards.method}}"
        " {params.method:q} --fractions {params.fractions:q} --timing {output.timing:q} --out {params.out:q} 2> {log:q}"


rule stability:
    input:
        model=MODEL,
        dataset=DISCOVERY,
    output:
        f"{FOUND}/stability.csv",
    log:
        "results/{study}/logs/stability/{model}/{task}/{metric}/{ablation}/{method}.log",
    benchmark:
        "results/{study}/benchmarks/stability/{model}/{task}/{metric}/{ablation}/{method}.tsv"
    resources:
        gpu=gpus,
        memory_gib=config["memory_gib"],
    params:
        task=STUDY.task_flags,
        sizes=STUDY.size_flags,
        method=STUDY.method_flags,
        resamples=lambda w: STUDY.search(w).entry["resamples"],
        split_embed=split_embed,
        device=config["device"],
        precision=precision,
        work=lambda w: f"{FOUND}/resamples".format(**dict(w.items())),
        identity=model_identity,
        code=code("find"),
    shell:
        f"python -m acdc stability {engine_flags()} --metric {{wildcards.metric:q}} --method {{wildcards.method}}"
        " {params.method:q} {params.sizes:q} --resamples {params.resamples} --work {params.work:q}"
        " --out {output:q} 2> {log:q}"
