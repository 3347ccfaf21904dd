"""Metrics of circuits. Requires: the circuits that a method found by a metric, and the held-out prompts.

Gives: evaluation.csv (every metric of the task on held-out prompts, per circuit), controls.csv (the same for
random circuits, all edges, no edges), recovery.csv where a circuit is known, and the study's joined tables; auc.csv
has the areas under the ROC curves beside the published ones, faithfulness.csv those under faithfulness over sizes.
"""


rule evaluate:
    input:
        model="data/{study}/models/{model}",
        dataset="data/{study}/datasets/{model}/{task}/test.safetensors",
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
        split_embed=split_embed,
        device=config["device"],
        precision=precision,
    shell:
        "python -m acdc evaluate --model {input.model:q} --model-name {wildcards.model:q} --task {wildcards.task:q}"
        " --dataset {input.dataset:q} --metric {wildcards.metric:q} --ablation {wildcards.ablation:q}"
        " --method {wildcards.method} {params.split_embed} --device {params.device} --precision {params.precision}"
        " --memory-gib {resources.memory_gib} --threads {threads} --circuits {input.circuits:q} --out {output:q} 2> {log:q}"


rule controls:
    input:
        model="data/{study}/models/{model}",
        dataset="data/{study}/datasets/{model}/{task}/test.safetensors",
    output:
        f"{RESULTS}/controls_{{ablation}}.csv",
    log:
        "results/{study}/logs/controls/{model}/{task}/{ablation}.log",
    benchmark:
        "results/{study}/benchmarks/controls/{model}/{task}/{ablation}.tsv"
    resources:
        gpu=gpus,
        memory_gib=config["memory_gib"],
    params:
        split_embed=split_embed,
        device=config["device"],
        precision=precision,
        seeds=config["random_circuits"]["seeds"],
        fractions=config["random_circuits"]["fractions"],
    shell:
        "python -m acdc controls --model {input.model:q} --model-name {wildcards.model:q} --task {wildcards.task:q}"
        " --dataset {input.dataset:q} --ablation {wildcards.ablation:q} {params.split_embed} --device {params.device}"
        " --precision {params.precision} --memory-gib {resources.memory_gib} --threads {threads}"
        " --seeds {params.seeds} --fractions {params.fractions:q} --out {output:q} 2> {log:q}"


rule nodes:
    input:
        model="data/{study}/models/{model}",
        dataset="data/{study}/datasets/{model}/{task}/discovery.safetensors",
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
        split_embed=split_embed,
        device=config["device"],
        precision=precision,
    shell:
        "python -m acdc nodes --model {input.model:q} --model-name {wildcards.model:q} --task {wildcards.task:q}"
        " --dataset {input.dataset:q} --metric {wildcards.metric:q} --ablation {wildcards.ablation:q}"
        " {params.split_embed} --device {params.device} --precision {params.precision}"
        " --memory-gib {resources.memory_gib} --threads {threads} --circuits {input.circuits:q} --out {output:q} 2> {log:q}"


rule recover:
    input:
        circuits=found_circuits,
        evaluation=f"{FOUND}/evaluation.csv",
        code=lambda w: task_module(w.task),
        stated=sorted(str(path) for path in Path("data/circuits").glob("*.yaml")),
    output:
        f"{FOUND}/recovery.csv",
    log:
        "results/{study}/logs/recover/{model}/{task}/{metric}/{ablation}/{method}.log",
    benchmark:
        "results/{study}/benchmarks/recover/{model}/{task}/{metric}/{ablation}/{method}.tsv"
    params:
        trained=trained_model,
    shell:
        "python -m acdc recover --task {wildcards.task:q} --model-name {params.trained:q}"
        " --circuits {input.circuits:q} --evaluation {input.evaluation:q} --out {output:q} 2> {log:q}"


rule behaviour_table:
    input:
        each_search(f"{RESULTS}/behaviour.csv"),
    output:
        "results/{study}/behaviour.csv",
    log:
        "results/{study}/logs/tables/behaviour.log",
    shell:
        "python -m acdc table {input:q} --out {output:q} 2> {log:q}"


rule evaluation_table:
    input:
        each_search(f"{RESULTS}/controls_{{ablation}}.csv"),
        each_method(f"{FOUND}/evaluation.csv"),
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
    shell:
        "python -m acdc faithfulness --evaluation {input:q} --out {output:q} 2> {log:q}"


rule recovery_table:
    input:
        each_method(f"{FOUND}/recovery.csv", known_only=True),
    output:
        "results/{study}/recovery.csv",
    log:
        "results/{study}/logs/tables/recovery.log",
    shell:
        "python -m acdc table {input:q} --out {output:q} 2> {log:q}"


rule stability_table:
    input:
        each_method(f"{FOUND}/stability.csv", resampled_only=True),
    output:
        "results/{study}/stability.csv",
    log:
        "results/{study}/logs/tables/stability.log",
    shell:
        "python -m acdc table {input:q} --out {output:q} 2> {log:q}"


rule auc_table:
    input:
        recovery="results/{study}/recovery.csv",
        published="data/published/auc.csv",
    output:
        "results/{study}/auc.csv",
    log:
        "results/{study}/logs/tables/auc.log",
    shell:
        "python -m acdc auc --recovery {input.recovery:q} --published {input.published:q} --out {output:q} 2> {log:q}"


rule auc_of_ablation:
    input:
        "results/{study}/auc.csv",
    output:
        expand("results/{{study}}/auc_{{ablation}}.{format}", format=TABLE_FORMATS),
    log:
        "results/{study}/logs/tables/auc_{ablation}.log",
    shell:
        "python -m acdc auc_tables --auc {input:q} --ablation {wildcards.ablation} --out {output:q} 2> {log:q}"


rule methods_table:
    input:
        unpack(tables_of_methods),
        circuits=circuits_of_study(),
    output:
        "results/{study}/methods.csv",
    log:
        "results/{study}/logs/tables/methods.log",
    params:
        auc=lambda w, input: ["--auc", input.auc] if "auc" in input.keys() else [],
    shell:
        "python -m acdc methods --faithfulness {input.faithfulness:q} --timing {input.timing:q}"
        " --circuits {input.circuits:q} {params.auc:q} --out {output:q} 2> {log:q}"


rule timing_table:
    input:
        benchmarks_of_searches(),
    output:
        "results/{study}/timing.csv",
    log:
        "results/{study}/logs/tables/timing.log",
    shell:
        "python -m acdc timing {input:q} --out {output:q} 2> {log:q}"
