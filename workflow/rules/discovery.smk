"""Circuits. Requires: the model's folder and the discovery prompts.

ACDC and SP are run anew for every threshold (of SP, the weight of its regularisation): circuit.json, and trace.csv with
every tried edge or step of training. A run that is killed leaves a checkpoint beside them, which Snakemake does not know
and so does not delete; the next try goes on from it.

A task with one_job in the config has one job for all thresholds of a search, for to start takes longer there
than to search. Those jobs are rules of their own: the thresholds are their outputs.

Methods that score all edges or nodes at once (scores in the config) are one job for all sizes of circuits: scores.csv,
and circuits.json with the best of them by their number.

A search with resamples in the config is done again on that many bootstrap resamples of its prompts, by every method in
one job: stability.csv.
"""

for search in circuit_rules():

    rule:
        name:
            search.name
        input:
            model="data/{study}/models/{model}",
            dataset="data/{study}/datasets/{model}/{task}/discovery.safetensors",
        output:
            circuits=expand(f"{FOUND}/{{threshold}}/circuit.json", threshold=search.thresholds, allow_missing=True),
            traces=expand(f"{FOUND}/{{threshold}}/trace.csv", threshold=search.thresholds, allow_missing=True),
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
            method=method_flags,
            split_embed=split_embed,
            device=config["device"],
            precision=precision,
            out=lambda w: FOUND.format(**dict(w.items())),
        shell:
            "python -m acdc circuit --model {input.model:q} --model-name {wildcards.model:q} --task {wildcards.task:q}"
            " --dataset {input.dataset:q} --metric {wildcards.metric:q} --ablation {wildcards.ablation:q}"
            " --method {wildcards.method} {params.method:q} {params.split_embed}"
            " --device {params.device} --precision {params.precision} --memory-gib {resources.memory_gib}"
            " --threads {threads} --out {params.out:q} 2> {log:q}"


rule score:
    input:
        model="data/{study}/models/{model}",
        dataset="data/{study}/datasets/{model}/{task}/discovery.safetensors",
    output:
        scores=f"{FOUND}/scores.csv",
        circuits=f"{FOUND}/circuits.json",
    log:
        "results/{study}/logs/score/{model}/{task}/{metric}/{ablation}/{method}.log",
    benchmark:
        "results/{study}/benchmarks/score/{model}/{task}/{metric}/{ablation}/{method}/all.tsv"
    wildcard_constraints:
        method="|".join(SCORES),
    resources:
        gpu=gpus,
        memory_gib=config["memory_gib"],
    params:
        split_embed=split_embed,
        device=config["device"],
        precision=precision,
        method=method_flags,
        out=lambda w, output: os.path.dirname(output.scores),
    shell:
        "python -m acdc score --model {input.model:q} --model-name {wildcards.model:q} --task {wildcards.task:q}"
        " --dataset {input.dataset:q} --metric {wildcards.metric:q} --ablation {wildcards.ablation:q}"
        " --method {wildcards.method} {params.method:q} {params.split_embed}"
        " --device {params.device} --precision {params.precision} --memory-gib {resources.memory_gib}"
        " --threads {threads} --out {params.out:q} 2> {log:q}"


rule stability:
    input:
        model="data/{study}/models/{model}",
        dataset="data/{study}/datasets/{model}/{task}/discovery.safetensors",
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
        method=method_flags,
        resamples=lambda w: search_of(w)["resamples"],
        split_embed=split_embed,
        device=config["device"],
        precision=precision,
        work=lambda w: f"{FOUND}/resamples".format(**dict(w.items())),
    shell:
        "python -m acdc stability --model {input.model:q} --model-name {wildcards.model:q} --task {wildcards.task:q}"
        " --dataset {input.dataset:q} --metric {wildcards.metric:q} --ablation {wildcards.ablation:q}"
        " --method {wildcards.method} {params.method:q} --resamples {params.resamples} {params.split_embed}"
        " --device {params.device} --precision {params.precision} --memory-gib {resources.memory_gib}"
        " --threads {threads} --work {params.work:q} --out {output:q} 2> {log:q}"
