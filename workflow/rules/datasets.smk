"""Datasets: a task's clean and corrupted ("baseline") prompts. Requires: the model's folder, for its tokenizer; the hub,
for prompts that are there. A task that has its own rule in workflow/rules/tasks/{task}.smk makes these files there.

Gives: data/{study}/datasets/{model}/{task}/{discovery,test}.safetensors; a table that tells whether the model does the
task at all; and {discovery,test}.logits.safetensors, the model's own logits, with which every engine is compared.
"""


localrules:
    prompts,  # a cluster's nodes may have no network


rule prompts:
    output:
        f"{DATA}/{{key}}/{TASK}{{suffix}}",
    log:
        f"{LOGS}/{{key}}/{TASK}{{suffix}}.log",
    wildcard_constraints:
        key="|".join(PROMPT_KEYS),
        suffix=r"\.[A-Za-z]+",
    priority: FIRST
    params:
        source=STUDY.hub_flags,
    shell:
        "python -m acdc prompts {params.source:q} --out {output:q} 2> {log:q}"


rule dataset:
    input:
        model=MODEL,
        words=sorted(str(path) for path in Path(ASSETS, "words").glob("*.txt")),
        prompts=STUDY.prompt_files,
    output:
        list(DATASET.values()),
    log:
        f"{LOGS}/dataset/{TASK}.log",
    benchmark:
        f"{BENCHMARKS}/dataset/{TASK}.tsv"
    wildcard_constraints:
        task=STUDY.tasks_by_module(),
    priority: lambda w: FIRST + STUDY.is_large(w.model)
    params:
        task=STUDY.task_flags,
        prompts=STUDY.prompt_flags,
        n_prompts=lambda w: STUDY.task(w)["n_prompts"],
        n_test_prompts=lambda w: STUDY.task(w)["n_test_prompts"],
        seed=lambda w: STUDY.task(w)["seed"],
        options=lambda w: json.dumps(STUDY.task(w)["options"]),
        metrics=lambda w: [search["metric"] for search in STUDY.task(w)["searches"]],
        ablations=STUDY.ablations,
        graph=STUDY.graph_flags,
        out=lambda w, output: os.path.dirname(output[0]),
        identity=model_identity,
        code=code("dataset"),
    shell:
        "python -m acdc dataset {params.task:q} {params.prompts:q} --model {input.model:q} --n-prompts {params.n_prompts}"
        " --n-test-prompts {params.n_test_prompts} --seed {params.seed} --options {params.options:q}"
        " --metrics {params.metrics:q} --ablations {params.ablations:q} {params.graph:q} --out {params.out:q} 2> {log:q}"


rule behaviour:
    input:
        model=MODEL,
        datasets=list(DATASET.values()),
    output:
        logits=list(LOGITS.values()),
        table=f"{RESULTS}/{TASK}/behaviour.csv",
    log:
        f"{LOGS}/behaviour/{TASK}.log",
    benchmark:
        f"{BENCHMARKS}/behaviour/{TASK}.tsv"
    priority: lambda w: FIRST + STUDY.is_large(w.model)
    resources:
        mem_mb=mem_mb(NEEDS.behaviour),
        runtime=runtime(NEEDS.behaviour),
    params:
        task=STUDY.task_flags,
        identity=model_identity,
        code=code("behaviour"),
    shell:
        "python -m acdc behaviour --model {input.model:q} --model-name {wildcards.model:q} {params.task:q}"
        " --datasets {input.datasets:q} --logits {output.logits:q} --threads {threads} --out {output.table:q} 2> {log:q}"
