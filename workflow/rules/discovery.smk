"""ACDC, once per task, metric, ablation and threshold. Requires: the model's folder and the discovery prompts.

Gives: circuit.json, and trace.csv with every tried edge. A run that is killed leaves checkpoint.json beside
them, which Snakemake does not know and so does not delete; the next try goes on from it.

A task with one_job in the config has one job for all thresholds of a search, for to start takes longer there
than to search. Those jobs are rules of their own: the thresholds are their outputs.

Methods that score all edges or nodes at once (scores in the config) are one job for all sizes of circuits: scores.csv,
and circuits.json with the best of them by their number.
"""

COMMAND = (
    "python -m acdc circuit --model {input.model:q} --model-name {wildcards.model:q} --task {wildcards.task:q}"
    " --dataset {input.dataset:q} --metric {wildcards.metric:q} --ablation {wildcards.ablation:q}"
    " --thresholds {params.thresholds:q} --head-order {params.head_order} {params.split_embed}"
    " --device {params.device} --precision {params.precision} --memory-gib {resources.memory_gib}"
    " --threads {threads} --out {params.out:q} 2> {log:q}"
)


rule circuit:
    input:
        model="data/{study}/models/{model}",
        dataset="data/{study}/datasets/{model}/{task}/discovery.safetensors",
    output:
        circuit=f"{SEARCH}/{{threshold}}/circuit.json",
        trace=f"{SEARCH}/{{threshold}}/trace.csv",
    log:
        "results/{study}/logs/circuit/{model}/{task}/{metric}/{ablation}/{threshold}.log",
    benchmark:
        "results/{study}/benchmarks/circuit/{model}/{task}/{metric}/{ablation}/acdc/{threshold}.tsv"
    wildcard_constraints:
        task=tasks_in_many_jobs(),
    resources:
        gpu=gpus,
        memory_gib=config["memory_gib"],
    params:
        thresholds=lambda w: w.threshold,
        head_order=lambda w: task_of(w).get("head_order", "descending"),
        split_embed=split_embed,
        device=config["device"],
        precision=precision,
        out=lambda w: SEARCH.format(**dict(w.items())),
    shell:
        COMMAND


for task, metric, thresholds in searches_in_one_job():

    rule:
        name:
            f"circuits_{task}_{metric}"
        input:
            model="data/{study}/models/{model}",
            dataset="data/{study}/datasets/{model}/{task}/discovery.safetensors",
        output:
            circuits=expand(f"{SEARCH}/{{threshold}}/circuit.json", threshold=thresholds, allow_missing=True),
            traces=expand(f"{SEARCH}/{{threshold}}/trace.csv", threshold=thresholds, allow_missing=True),
        log:
            "results/{study}/logs/circuit/{model}/{task}/{metric}/{ablation}/all.log",
        benchmark:
            "results/{study}/benchmarks/circuit/{model}/{task}/{metric}/{ablation}/acdc/all.tsv"
        wildcard_constraints:
            task=re.escape(task),
            metric=re.escape(metric),
        resources:
            gpu=gpus,
            memory_gib=config["memory_gib"],
        params:
            thresholds=thresholds,
            head_order=lambda w: task_of(w).get("head_order", "descending"),
            split_embed=split_embed,
            device=config["device"],
            precision=precision,
            out=lambda w: SEARCH.format(**dict(w.items())),
        shell:
            COMMAND


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
        steps=config["scores"]["steps"],
        fractions=config["scores"]["fractions"],
        out=lambda w, output: os.path.dirname(output.scores),
    shell:
        "python -m acdc score --model {input.model:q} --model-name {wildcards.model:q} --task {wildcards.task:q}"
        " --dataset {input.dataset:q} --metric {wildcards.metric:q} --ablation {wildcards.ablation:q}"
        " --method {wildcards.method} --steps {params.steps} --fractions {params.fractions:q} {params.split_embed}"
        " --device {params.device} --precision {params.precision} --memory-gib {resources.memory_gib}"
        " --threads {threads} --out {params.out:q} 2> {log:q}"
